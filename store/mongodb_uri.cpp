#include "store/mongodb_uri.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <string_view>
#include <utility>

#include "base/check.h"

namespace kiln::store {

namespace {

using namespace std::string_view_literals;

// A write's limit is below the socket's, so that the server's own word for it arrives.
constexpr std::pair<const char*, int32_t> kMilliseconds[] = {
    {MONGOC_URI_SERVERSELECTIONTIMEOUTMS, 2000},
    {MONGOC_URI_CONNECTTIMEOUTMS, 2000},
    {MONGOC_URI_SOCKETTIMEOUTMS, 5000},
    {MONGOC_URI_WAITQUEUETIMEOUTMS, 2000},
};
constexpr int64_t kWriteMilliseconds = 4000;

constexpr size_t kReasonBytesMax = 300;

// Those of libmongoc's messages about a connection string that quote nothing of it.
constexpr std::array kHarmless{
    "Invalid URI Schema, expecting 'mongodb://' or 'mongodb+srv://'"sv,
    "A '/' is required between the host list and any options."sv,
    "Unix Domain Sockets must be escaped (e.g. / = %2F)"sv,
    "Invalid host string in URI"sv,
    "Invalid database name in URI"sv,
    "Empty hostname in URI"sv,
    "Missing service name in SRV URI"sv,
    "Multiple service names are prohibited in an SRV URI"sv,
    "Port numbers are prohibited in an SRV URI"sv,
    "Invalid service name in URI"sv,
    "SRV URI not allowed with directConnection option"sv,
    "Default authentication mechanism requires username"sv,
};

std::unexpected<base::Error> wrong(std::string_view why) {
  return std::unexpected(base::Error{EINVAL, "MongoDB connection string: " + std::string(why)});
}

constexpr std::string_view kEscape =
    "user and password must be percent-encoded in it, or be given by KILN_MONGO_USER and KILN_MONGO_PASSWORD";

// With a character that is not encoded a part of the password would pass for a host, and be shown as one.
bool has_stray_at(std::string_view uri) {
  const size_t scheme = uri.find("://");
  const std::string_view rest = scheme == std::string_view::npos ? uri : uri.substr(scheme + 3);
  const size_t at = rest.find('@');
  if (at == std::string_view::npos) return false;
  const std::string_view after = rest.substr(at + 1);
  return rest.find_first_of("/?") < at || after.substr(0, after.find('?')).contains('@');
}

base::Result<MongodbUri> parse(const std::string& text) {
  if (text.contains('\0')) return wrong("it holds a NUL");
  if (has_stray_at(text)) return wrong(kEscape);
  bson_error_t error{};
  MongodbUri uri(mongoc_uri_new_with_error(text.c_str(), &error));
  if (uri) return uri;
  const std::string_view message = error.message;
  if (std::ranges::find(kHarmless, message) != kHarmless.end()) return wrong(message);
  for (const std::string_view of_credentials : {"Username", "Password", "Incorrect URI escapes", "Invalid username"}) {
    if (message.starts_with(of_credentials)) return wrong(kEscape);
  }
  // The URI is wrong in an option, which is said without what it is.
  return wrong("an option in it is wrong, or options contradict each other");
}

// Of the mechanisms that ask for a name and a password of the server's own.
bool uses_scram(const mongoc_uri_t& uri) {
  const char* const mechanism = mongoc_uri_get_auth_mechanism(&uri);
  return mechanism == nullptr || std::string_view(mechanism).starts_with("SCRAM-");
}

bool names_auth_source(const mongoc_uri_t& uri) {
  bson_iter_t at;
  return bson_iter_init_find_case(&at, mongoc_uri_get_credentials(&uri), MONGOC_URI_AUTHSOURCE);
}

base::Result<void> add_credentials(mongoc_uri_t& uri, const MongodbOptions& options) {
  const auto set = [&](auto setter, const std::string& value) {
    return value.empty() || (!value.contains('\0') && setter(&uri, value.c_str()));
  };
  bool is_set = true;
  if (mongoc_uri_get_username(&uri) == nullptr) {
    if (options.user.empty() && !options.password.empty()) return wrong("there is a password without a user");
    is_set = set(mongoc_uri_set_username, options.user) && set(mongoc_uri_set_password, options.password);
  } else if (mongoc_uri_get_password(&uri) == nullptr && uses_scram(uri)) {
    is_set = set(mongoc_uri_set_password, options.password);
  }
  if (!is_set) return wrong("the user or the password that go with it are not UTF-8");
  // libmongoc would ask the database that records go to.
  if (mongoc_uri_get_username(&uri) != nullptr && uses_scram(uri) && !names_auth_source(uri)) {
    mongoc_uri_set_auth_source(&uri, "admin");
  }
  return {};
}

struct WriteConcernDestroy {
  void operator()(mongoc_write_concern_t* concern) const { mongoc_write_concern_destroy(concern); }
};

base::Result<void> ask_for_confirmation(mongoc_uri_t& uri) {
  const std::unique_ptr<mongoc_write_concern_t, WriteConcernDestroy> concern(
      mongoc_write_concern_copy(mongoc_uri_get_write_concern(&uri)));
  const int32_t w = mongoc_write_concern_get_w(concern.get());
  if (w == MONGOC_WRITE_CONCERN_W_UNACKNOWLEDGED || w == MONGOC_WRITE_CONCERN_W_ERRORS_IGNORED) {
    return wrong("with w=0 nobody would know whether a record is stored");
  }
  if (w == MONGOC_WRITE_CONCERN_W_DEFAULT) {
    mongoc_write_concern_set_w(concern.get(), MONGOC_WRITE_CONCERN_W_MAJORITY);
  }
  mongoc_write_concern_set_journal(concern.get(), true);
  if (mongoc_write_concern_get_wtimeout_int64(concern.get()) == 0) {
    mongoc_write_concern_set_wtimeout_int64(concern.get(), kWriteMilliseconds);
  }
  mongoc_uri_set_write_concern(&uri, concern.get());
  return {};
}

// One short line of UTF-8, without what could upset a log.
std::string shortened(std::string_view message) {
  const auto is_within_character = [&](size_t at) { return (static_cast<unsigned char>(message[at]) & 0xc0) == 0x80; };
  size_t bytes = std::min(message.size(), kReasonBytesMax);
  while (bytes > 0 && bytes < message.size() && is_within_character(bytes)) --bytes;
  std::string line(message.substr(0, bytes));
  const bool is_utf8 = bson_utf8_validate(line.data(), line.size(), false);
  for (char& c : line) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) c = ' ';
    if (byte >= 0x80 && !is_utf8) c = '?';
  }
  return line;
}

void replace_all(std::string& text, std::string_view what, std::string_view by) {
  for (size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += by.size()) {
    text.replace(at, what.size(), by);
  }
}

std::string hosts_of(const mongoc_uri_t& uri) {
  if (const char* const name = mongoc_uri_get_srv_hostname(&uri)) return name;
  std::string hosts;
  for (const mongoc_host_list_t* host = mongoc_uri_get_hosts(&uri); host != nullptr; host = host->next) {
    hosts += (hosts.empty() ? "" : ", ") + std::string(host->host_and_port);
  }
  return hosts;
}

// "No suitable servers found: `serverSelectionTimeoutMS` expired: [connection refused calling hello on 'host:1']".
std::string no_server(std::string_view message, const mongoc_uri_t& uri) {
  std::string reasons(message);
  const size_t open = message.find('[');
  const size_t close = message.rfind(']');
  if (open < close && close != std::string_view::npos) reasons = message.substr(open + 1, close - open - 1);
  replace_all(reasons, " calling hello on ", " at ");
  replace_all(reasons, "] [", "; ");
  replace_all(reasons, "'", "");
  replace_all(reasons, "No suitable servers found: `serverSelectionTimeoutMS` expired", "none in time");
  const std::string hosts = hosts_of(uri);
  if (!reasons.contains(std::string_view(hosts).substr(0, hosts.find(',')))) reasons += " at " + hosts;
  return "no suitable server (" + shortened(reasons) + ")";
}

bool quotes(std::string_view message, const char* secret) {
  return secret != nullptr && *secret != '\0' && message.contains(secret);
}

// The server's own codes (src/mongo/base/error_codes.yml).
constexpr uint32_t kUnauthorized = 13;
constexpr uint32_t kAuthenticationFailed = 18;

std::string reason_of(const bson_error_t& error, const mongoc_uri_t& uri) {
  const std::string_view message = error.message;
  if (error.domain == MONGOC_ERROR_SERVER_SELECTION) return no_server(message, uri);
  // libmongoc's text names the command and the database.
  if (error.domain == MONGOC_ERROR_STREAM && error.code == MONGOC_ERROR_STREAM_SOCKET) {
    return "the connection was lost, or nothing came in time (" + hosts_of(uri) + ")";
  }
  if (error.domain == MONGOC_ERROR_STREAM) return shortened(message);
  const bool of_client = error.domain == MONGOC_ERROR_CLIENT && error.code == MONGOC_ERROR_CLIENT_AUTHENTICATE;
  const bool of_server = error.domain == MONGOC_ERROR_SERVER && error.code == kAuthenticationFailed;
  if (of_client || of_server || error.domain == MONGOC_ERROR_SCRAM || error.domain == MONGOC_ERROR_SASL) {
    return "authentication failed";
  }
  // The server's text repeats the command.
  if (error.domain == MONGOC_ERROR_SERVER && error.code == kUnauthorized) {
    return "the user may not read and write the collection records";
  }
  if (message.empty() || quotes(message, mongoc_uri_get_username(&uri)) ||
      quotes(message, mongoc_uri_get_password(&uri))) {
    return "error " + std::to_string(error.code);
  }
  return shortened(message);
}

// Its warnings quote connection strings, and standard error is not ours.
void log_nothing(mongoc_log_level_t /*level*/, const char* /*domain*/, const char* /*message*/, void* /*data*/) {}

}  // namespace

base::Result<MongodbUri> make_mongodb_uri(const MongodbOptions& options) {
  static const bool is_initialised = [] {
    mongoc_log_set_handler(log_nothing, nullptr);
    mongoc_init();
    return true;
  }();
  CHECK(is_initialised);
  auto parsed = parse(options.uri);
  if (!parsed) return parsed;
  mongoc_uri_t& uri = **parsed;
  if (auto added = add_credentials(uri, options); !added) return std::unexpected(std::move(added.error()));
  if (auto asked = ask_for_confirmation(uri); !asked) return std::unexpected(std::move(asked.error()));
  for (const auto& [option, milliseconds] : kMilliseconds) {
    if (!mongoc_uri_has_option(&uri, option)) mongoc_uri_set_option_as_int32(&uri, option, milliseconds);
  }
  if (!mongoc_uri_has_option(&uri, MONGOC_URI_RETRYWRITES)) {
    mongoc_uri_set_option_as_bool(&uri, MONGOC_URI_RETRYWRITES, true);
  }
  if (mongoc_uri_get_appname(&uri) == nullptr) mongoc_uri_set_appname(&uri, "kiln");
  if (mongoc_uri_get_database(&uri) == nullptr) mongoc_uri_set_database(&uri, kMongodbDatabase);
  mongoc_uri_set_option_as_int32(&uri, MONGOC_URI_MAXPOOLSIZE, kMongodbClientsMax);
  return parsed;
}

base::Error mongodb_error(const bson_error_t& error, const mongoc_uri_t& uri) {
  return {0, "MongoDB: " + reason_of(error, uri)};
}

}  // namespace kiln::store
