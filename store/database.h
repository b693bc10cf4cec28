// What a back end is: a database that sessions are opened with, and sessions that one thread each works with. Calls
// block; only the store's own threads make them.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "store/record.h"

namespace kiln::store {

// One change. Several are one call, and one transaction where the back end has them.
struct Change {
  enum class Kind : uint8_t { Insert, Remove };
  Kind kind = Kind::Insert;
  Record record;      // of Remove: the id alone
  bool found = true;  // out, of Remove: false when there was no such record
};

struct Lookup {
  RecordId id;
  std::optional<Record> record = {};  // out; nothing when there is none
};

struct PageRequest {
  std::optional<RecordId> before;  // records older than it; nothing: from the newest
  size_t count_max = 0;
};

struct Page {
  std::vector<Record> records;  // newest first
  bool more = false;            // true when older ones follow
};

// A page ends past this many bytes of data, whatever its count: an answer is whole in memory.
inline constexpr size_t kPageBytesMax = 256 * 1024;

// After an error the session is of no further use; the error's text is for the client, without anything secret. The
// code ENOSPC says that there is no room for more.
class Session {
 public:
  virtual ~Session() = default;

  // When it returns without an error every change is durable, as far as the back end goes; with one, none may be known
  // to be. In order; inserted ids are new.
  [[nodiscard]] virtual base::Result<void> apply(std::span<Change> changes) = 0;

  [[nodiscard]] virtual base::Result<void> find(std::span<Lookup> lookups) = 0;
  [[nodiscard]] virtual base::Result<Page> page(const PageRequest& request) = 0;
};

class Database {
 public:
  virtual ~Database() = default;

  [[nodiscard]] virtual std::string_view name() const = 0;  // "sqlite", "mongodb", "memory"

  // Any thread. `ids` is moved past every id in the database, where that is cheap to know. A session does not outlive
  // its database.
  [[nodiscard]] virtual base::Result<std::unique_ptr<Session>> open_session(IdMaker& ids) = 0;
};

}  // namespace kiln::store
