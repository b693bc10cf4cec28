#include "app/data_location.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "store/memory.h"
#include "store/mongodb.h"
#include "store/sqlite.h"

namespace kiln::app {

namespace {

constexpr std::string_view kFileName = "kiln.db";
constexpr std::string_view kSqlite = "sqlite:";
constexpr std::string_view kMemory = "memory:";
constexpr std::string_view kMongodb[] = {"mongodb://", "mongodb+srv://"};

std::string_view mongodb_scheme(std::string_view text) {
  for (const std::string_view scheme : kMongodb) {
    if (text.starts_with(scheme)) return scheme;
  }
  return {};
}

// "a,b:27017,[::1]:27017". Behind the colon of anything else may be a password that is in the wrong place.
bool are_hosts(std::string_view text) {
  while (!text.empty()) {
    std::string_view host = text.substr(0, text.find(','));
    text.remove_prefix(std::min(host.size() + 1, text.size()));
    if (host.starts_with('[')) host.remove_prefix(std::min(host.find(']'), host.size()));
    const size_t colon = std::min(host.find(':'), host.size());
    if (host.find_first_not_of(":0123456789", colon) != std::string_view::npos) return false;
  }
  return true;
}

std::string in_directory(const std::string& directory) {
  return directory + (directory.ends_with('/') ? "" : "/") + std::string(kFileName);
}

}  // namespace

base::Result<DataLocation> parse_data_uri(const std::string& text) {
  using Kind = DataLocation::Kind;
  if (text == kMemory) return DataLocation{Kind::Memory, {}};
  if (text.starts_with(kSqlite) && text.size() > kSqlite.size()) {
    return DataLocation{Kind::Sqlite, text.substr(kSqlite.size())};
  }
  if (const std::string_view scheme = mongodb_scheme(text); !scheme.empty() && text.size() > scheme.size()) {
    return DataLocation{Kind::Mongodb, text};
  }
  return base::error("not sqlite:PATH, mongodb://HOST, mongodb+srv://HOST or memory:");
}

std::string shown_data_uri(const std::string& text) {
  const std::string_view scheme = mongodb_scheme(text);
  if (scheme.empty()) return parse_data_uri(text) ? text : "(set)";
  // A password that should have been escaped may hold any of these: what is before the last @ is never shown, nor what
  // could be the rest of it.
  const std::string_view rest = std::string_view(text).substr(scheme.size());
  const size_t at = rest.rfind('@');
  const std::string_view before = at == std::string_view::npos ? std::string_view{} : rest.substr(0, at);
  if (before.find_first_of("/?") != std::string_view::npos) return std::string(scheme) + "(hidden)";
  const std::string_view behind = rest.substr(before.empty() ? 0 : at + 1);
  const std::string_view hosts = behind.substr(0, behind.find_first_of("/?"));
  return std::string(scheme) + (are_hosts(hosts) ? std::string(hosts) : "(hidden)");
}

base::Result<DataLocation> data_location(const ServeSettings& settings) {
  if (!settings.data_uri.empty()) return parse_data_uri(settings.data_uri);
  if (!settings.mongo_host.empty()) {
    return DataLocation{DataLocation::Kind::Mongodb, std::string(kMongodb[0]) + settings.mongo_host};
  }
  return DataLocation{DataLocation::Kind::Sqlite, in_directory(settings.data_dir)};
}

base::Result<std::unique_ptr<store::Database>> open_database(const ServeSettings& settings) {
  const auto location = data_location(settings);
  if (!location) return std::unexpected(location.error());
  switch (location->kind) {
    case DataLocation::Kind::Memory: return store::open_memory({});
    case DataLocation::Kind::Mongodb:
      return store::open_mongodb(
          {.uri = location->where, .user = settings.mongo_user, .password = settings.mongo_password});
    case DataLocation::Kind::Sqlite: break;
  }
  return store::open_sqlite({.path = location->where,
                             .make_directory = settings.data_uri.empty(),
                             .bytes_max = settings.data_size_max});
}

}  // namespace kiln::app
