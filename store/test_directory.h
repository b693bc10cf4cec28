// Companions of the tests of the back ends: a directory that vanishes with its test, and short forms of what sessions
// do.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "store/database.h"

namespace kiln::store {

class TestDirectory {
 public:
  TestDirectory() {
    std::string name = (std::filesystem::temp_directory_path() / "kiln-store-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) ADD_FAILURE() << "cannot make " << name;
    path_ = name;
  }
  TestDirectory(const TestDirectory&) = delete;
  TestDirectory& operator=(const TestDirectory&) = delete;
  ~TestDirectory() { std::filesystem::remove_all(path_); }

  [[nodiscard]] std::string path() const { return path_.string(); }
  [[nodiscard]] std::string file(const std::string& name) const { return (path_ / name).string(); }
  [[nodiscard]] std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(path_)) names.push_back(entry.path().filename());
    std::ranges::sort(names);
    return names;
  }

 private:
  std::filesystem::path path_;
};

inline std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

inline void write_file(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

inline Change inserting(IdMaker& ids, std::string data, int64_t now = 1'750'000'000'000) {
  return {.kind = Change::Kind::Insert, .record = {.id = ids.next(now), .created_at = now, .data = std::move(data)}};
}

inline Change removing(const RecordId& id) {
  return {.kind = Change::Kind::Remove, .record = {.id = id, .created_at = 0, .data = {}}};
}

// "" when it worked.
[[nodiscard]] inline std::string apply(Session& session, std::vector<Change> changes) {
  const auto applied = session.apply(changes);
  return applied ? "" : applied.error().what;
}

[[nodiscard]] inline std::string put(Session& session, IdMaker& ids, std::string data, RecordId* id = nullptr) {
  std::vector<Change> changes;
  changes.push_back(inserting(ids, std::move(data)));
  if (id != nullptr) *id = changes[0].record.id;
  return apply(session, std::move(changes));
}

// Every record by pages of `count_max`, newest first.
inline base::Result<std::vector<Record>> all_records(Session& session, size_t count_max = 100) {
  std::vector<Record> records;
  PageRequest request{.before = std::nullopt, .count_max = count_max};
  for (bool more = true; more;) {
    auto page = session.page(request);
    if (!page) return std::unexpected(page.error());
    std::ranges::move(page->records, std::back_inserter(records));
    more = page->more;
    if (!records.empty()) request.before = records.back().id;
  }
  return records;
}

}  // namespace kiln::store
