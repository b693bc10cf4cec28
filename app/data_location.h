// Where records are kept, from --data-uri, --data-dir and the MongoDB settings. Connection strings hold passwords: what
// is shown of one is its scheme and its hosts.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "app/settings.h"
#include "base/result.h"
#include "store/database.h"

namespace kiln::app {

struct DataLocation {
  enum class Kind : uint8_t { Sqlite, Mongodb, Memory };
  Kind kind = Kind::Sqlite;
  std::string where;  // the path, or the connection string
};

// "sqlite:PATH", "mongodb://…", "mongodb+srv://…" or "memory:". The error does not quote the text.
[[nodiscard]] base::Result<DataLocation> parse_data_uri(const std::string& text);

// For --print-config and the log.
[[nodiscard]] std::string shown_data_uri(const std::string& text);

// What the settings together mean. The error is one line for the command line.
[[nodiscard]] base::Result<DataLocation> data_location(const ServeSettings& settings);

// Connects to nothing yet. An error with the code EINVAL is a bad command line.
[[nodiscard]] base::Result<std::unique_ptr<store::Database>> open_database(const ServeSettings& settings);

}  // namespace kiln::app
