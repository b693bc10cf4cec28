// Records in one SQLite file, durable when a change is acknowledged: write-ahead log, full synchronisation.
//
//   kiln.db    application_id "KILN", user_version 1
//              records(id BLOB UNIQUE, created_at INTEGER, data TEXT)
//
// An empty file becomes one of ours; any other that is not ours, of another version or damaged is left as it is, and
// refused. Several processes may share a file, but not over a network file system (https://sqlite.org/wal.html).
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "store/database.h"

namespace kiln::store {

struct SqliteOptions {
  std::string path;
  bool make_directory = false;  // true: at open_sqlite(), the last folder of the path when it is missing; never later
  uint64_t bytes_max = 1024 * 1024 * 1024;  // of the file; an insert past it fails as on a full disk
};

// Touches nothing but the directory; sessions open the file.
[[nodiscard]] std::unique_ptr<Database> open_sqlite(SqliteOptions options);

}  // namespace kiln::store
