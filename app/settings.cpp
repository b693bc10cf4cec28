#include "app/settings.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <limits>
#include <string_view>
#include <utility>

#include "app/command.h"
#include "app/data_location.h"
#include "app/worker.h"
#include "base/quantity.h"
#include "http/limits.h"

namespace kiln::app {

namespace {

using Apply = decltype(Setting::apply);

constexpr const char* kNoToken = "none";

// What every error line says after the name: the value, and what is accepted instead.
std::unexpected<base::Error> not_accepted(const std::string& text, std::string_view accepted) {
  return base::error(fmt::format("'{}' is not {}", text, accepted));
}

Apply duration(std::chrono::nanoseconds ServeSettings::*member, std::chrono::nanoseconds min,
               std::chrono::nanoseconds max) {
  return [=](const std::string& text, ServeSettings& settings) -> base::Result<void> {
    const auto parsed = base::parse_duration(text);
    if (!parsed) return std::unexpected(parsed.error());
    if (*parsed < min || *parsed > max) {
      return not_accepted(text,
                          fmt::format("between {} and {}", base::format_duration(min), base::format_duration(max)));
    }
    settings.*member = *parsed;
    return {};
  };
}

template <class T>
Apply integer(T ServeSettings::*member, uint64_t min, uint64_t max) {
  return [=](const std::string& text, ServeSettings& settings) -> base::Result<void> {
    const auto parsed = base::parse_integer(text);
    if (!parsed) return std::unexpected(parsed.error());
    if (*parsed < min || *parsed > max) return not_accepted(text, fmt::format("between {} and {}", min, max));
    settings.*member = static_cast<T>(*parsed);
    return {};
  };
}

template <class T>
Apply optional_integer(std::optional<T> ServeSettings::*member, std::string_view unset, uint64_t min, uint64_t max) {
  return [=](const std::string& text, ServeSettings& settings) -> base::Result<void> {
    settings.*member = std::nullopt;
    if (text == unset) return {};
    const auto parsed = base::parse_integer(text);
    if (!parsed || *parsed < min || *parsed > max) {
      return not_accepted(text, fmt::format("'{}' or between {} and {}", unset, min, max));
    }
    settings.*member = static_cast<T>(*parsed);
    return {};
  };
}

Apply size(uint64_t ServeSettings::*member, uint64_t min, uint64_t max) {
  return [=](const std::string& text, ServeSettings& settings) -> base::Result<void> {
    const auto parsed = base::parse_size(text);
    if (!parsed) return std::unexpected(parsed.error());
    if (*parsed < min || *parsed > max) {
      return not_accepted(text, fmt::format("between {} and {}", base::format_size(min), base::format_size(max)));
    }
    settings.*member = *parsed;
    return {};
  };
}

base::Result<void> apply_engine(const std::string& text, ServeSettings& settings) {
  if (text == "auto") {
    settings.engine = core::EngineRequest::Auto;
  } else if (text == "io_uring") {
    settings.engine = core::EngineRequest::IoUring;
  } else if (text == "epoll") {
    settings.engine = core::EngineRequest::Epoll;
  } else {
    return not_accepted(text, "auto, io_uring or epoll");
  }
  return {};
}

Apply on_or_off(bool ServeSettings::*member) {
  return [=](const std::string& text, ServeSettings& settings) -> base::Result<void> {
    settings.*member = text == "1" || text == "true";
    if (settings.*member || text == "0" || text == "false") return {};
    return not_accepted(text, "1 or true, 0 or false");
  };
}

base::Result<void> apply_access_log(const std::string& text, ServeSettings& settings) {
  const auto share = base::parse_decimal(text);
  if (!share || *share > 1) return not_accepted(text, "a share between 0 (none) and 1 (every request)");
  settings.access_log = *share;
  return {};
}

base::Result<void> apply_control_token(const std::string& text, ServeSettings& settings) {
  if (text == kNoToken) return {};
  if (!is_bearer_token(text)) {
    return base::error("not a token: letters, digits and -._~+/, then any number of =; no blank, no line break");
  }
  settings.control_token = text;
  return {};
}

// Those that a whole version of a program can have, and that need nothing more said.
base::Result<void> apply_faults(const std::string& text, ServeSettings& settings) {
  settings.fault_from_the_start = std::nullopt;
  const auto kind = fault_named(text);
  if (kind == FaultKind::Unready || kind == FaultKind::Unhealthy) settings.fault_from_the_start = kind;
  settings.faults = settings.fault_from_the_start || text == "1" || text == "true";
  if (settings.faults || text == "0" || text == "false") return {};
  return not_accepted(text, "1 or true, 0 or false, or what this server shall be from the start: unready, unhealthy");
}

base::Result<void> apply_data_uri(const std::string& text, ServeSettings& settings) {
  if (!text.empty()) {
    if (auto location = parse_data_uri(text); !location) return std::unexpected(std::move(location.error()));
  }
  settings.data_uri = text;
  return {};
}

base::Result<void> apply_mongo_host(const std::string& text, ServeSettings& settings) {
  if (text.find_first_of("/@? ") != std::string::npos) {
    return base::error("not a host such as mongodb-service or mongodb-service:27017; a whole URI is for --data-uri");
  }
  settings.mongo_host = text;
  return {};
}

base::Result<void> apply_data_dir(const std::string& text, ServeSettings& settings) {
  if (text.empty()) return not_accepted(text, "a directory");
  settings.data_dir = text;
  return {};
}

Apply secret(std::string ServeSettings::*member) {
  return [=](const std::string& text, ServeSettings& settings) -> base::Result<void> {
    settings.*member = text;
    return {};
  };
}

std::string hidden(const std::string& /*text*/) { return "(set)"; }

base::Result<void> apply_address(const std::string& text, ServeSettings& settings) {
  in_addr v4{};
  in6_addr v6{};
  if (!text.empty() && ::inet_pton(AF_INET, text.c_str(), &v4) != 1 && ::inet_pton(AF_INET6, text.c_str(), &v6) != 1) {
    return not_accepted(text, "a numeric IPv4 or IPv6 address");
  }
  settings.address = text;
  return {};
}

// The paths of all routes, each once.
std::vector<std::string> served_paths() {
  std::vector<std::string> paths;
  for (const std::string& route : Worker::routes()) {
    std::string path = route.substr(route.find(' ') + 1);  // behind the method
    if (std::ranges::find(paths, path) == paths.end()) paths.push_back(std::move(path));
  }
  return paths;
}

base::Result<void> apply_costs(const std::string& text, ServeSettings& settings) {
  auto costs = parse_costs(text, served_paths());
  if (!costs) return std::unexpected(std::move(costs.error()));
  settings.costs = std::move(*costs);
  return {};
}

// One line, whatever a value holds.
std::string one_line(std::string text) {
  std::ranges::replace_if(
      text, [](unsigned char c) { return c < ' ' || c == 0x7f; }, ' ');
  return text;
}

bool is_service_link(std::string_view variable, std::string_view value) {
  return value.starts_with("tcp://") || value.starts_with("udp://") || value.starts_with("sctp://") ||
         variable.starts_with("KILN_SERVICE_") || variable.starts_with("KILN_PORT_");
}

}  // namespace

std::string Setting::variable() const {
  std::string name = "KILN_" + flag.substr(2);
  std::ranges::transform(name, name.begin(),
                         [](unsigned char c) { return c == '-' ? '_' : static_cast<char>(std::toupper(c)); });
  return name;
}

std::vector<Setting> serve_settings() {
  using namespace std::chrono_literals;
  constexpr uint64_t kKiB = 1024;
  using S = ServeSettings;
  return {
      {"--port", "PORT", "8080", "port to listen on; 0: the system chooses", integer(&S::port, 0, 65535)},
      {"--admin-port", "PORT", "none", "a listener of its own, which answers when the main one is full",
       optional_integer(&S::admin_port, "none", 0, 65535)},
      {"--address", "ADDRESS", "", "numeric address to listen on (default: all, IPv4 and IPv6)", apply_address},
      {"--engine", "NAME", "auto", "auto, io_uring or epoll", apply_engine},
      {"--workers", "N", "auto", "event loops; auto: one a usable core", optional_integer(&S::workers, "auto", 1, 256)},
      {"--max-connections", "N", "16384", "open connections of all workers together",
       integer(&S::connections_max, 1, 1'000'000)},
      {"--keepalive-max-age", "TIME", "60s", "a connection's age after which its next answer is its last (+-20 %)",
       duration(&S::keepalive_max_age, 100ms, 24h)},
      {"--keepalive-max-requests", "N", "0", "answers a connection gets; 0: unlimited",
       integer(&S::keepalive_max_requests, 0, std::numeric_limits<uint32_t>::max())},
      {"--idle-timeout", "TIME", "75s", "an idle connection is closed after this",
       duration(&S::idle_timeout, 100ms, 24h)},
      {"--header-timeout", "TIME", "10s", "from a request's first byte to the end of its head",
       duration(&S::header_timeout, 100ms, 1h)},
      {"--body-timeout", "TIME", "20s", "a body must bring --min-body-rate in each such time",
       duration(&S::body_timeout, 100ms, 1h)},
      {"--min-body-rate", "SIZE", "500", "bytes a second that a body must bring on average, 0: any",
       size(&S::body_rate_min, 0, 1024 * kKiB)},
      {"--write-timeout", "TIME", "30s", "a client must take each 256 KiB of an answer within this",
       duration(&S::write_timeout, 100ms, 1h)},
      {"--linger-timeout", "TIME", "2s", "how long a refused client may be silent while what it still sends is dropped",
       duration(&S::linger_timeout, 100ms, 30s)},
      {"--drain-delay", "TIME", "5s", "after SIGTERM: keeps accepting while not ready",
       duration(&S::drain_delay, 0ms, 1h)},
      {"--drain-timeout", "TIME", "20s", "then: how long requests in flight may take",
       duration(&S::drain_timeout, 0ms, 1h)},
      {"--load-max", "TIME", "1s", "largest burn of one /load request", duration(&S::load_max, 0ms, 1h)},
      {"--burn-queue", "TIME", "2s", "CPU time that may wait to be burned, past which /load answers 503",
       duration(&S::burn_queue, 0ms, 24h)},
      {"--cost", "ROUTE=TIME", "",
       "CPU time that each request of a route costs, or lognormal(MEAN,SIGMA); may be repeated, or hold several pairs "
       "separated by blanks",
       apply_costs, Times::Many},
      {"--cost-seed", "N", "1", "where the draws of log-normal costs begin; the same seed draws the same costs",
       integer(&S::cost_seed, 0, std::numeric_limits<uint64_t>::max())},
      {"--max-body", "SIZE", "1MiB", "largest request body", size(&S::body_max, 0, 64 * kKiB * kKiB)},
      {"--max-head", "SIZE", "16KiB", "largest request head", size(&S::head_max, 512, 60 * kKiB)},
      {"--max-request-line", "SIZE", "8KiB", "longest request line", size(&S::request_line_max, 64, 60 * kKiB)},
      {"--max-fields", "N", "100", "most header fields of a request",
       integer(&S::fields_max, 1, http::kFieldsCapacity)},
      {"--max-pipelined", "N", "16", "requests of a connection answered in one go, before others have their turn",
       integer(&S::pipelined_max, 1, 1024)},
      {"--max-queued", "SIZE", "64KiB", "unsent answers of a connection past which its next request waits",
       size(&S::queued_max, 1, 16 * kKiB * kKiB)},
      {"--max-buffered", "SIZE", "48MiB",
       "bodies and unsent answers of all connections, at least 4 x --max-body a worker; past it whoever has held some "
       "for longest gives way",
       size(&S::buffered_max, kKiB * kKiB, 64 * kKiB * kKiB * kKiB)},
      {"--access-log", "SHARE", "0", "log a line a request: 1 all, 0.01 a sample, 0 none", apply_access_log},
      {"--control-token", "TOKEN", kNoToken,
       "what control routes want as Authorization: Bearer; in KILN_CONTROL_TOKEN no process list shows it",
       apply_control_token, Times::Once, hidden},
      {"--data-dir", "PATH", "./kiln-data", "where kiln.db is kept; made when it is missing", apply_data_dir},
      {"--data-uri", "URI", "",
       "where records are kept: sqlite:PATH (default: kiln.db in --data-dir), mongodb://HOST, or memory:",
       apply_data_uri, Times::Once, shown_data_uri},
      {"--mongo-host", "HOST", "", "keep records in MongoDB there, where --data-uri names nothing else",
       apply_mongo_host},
      {"--mongo-user", "NAME", "", "of MongoDB, where --data-uri names none; also MONGO_INITDB_ROOT_USERNAME",
       secret(&S::mongo_user), Times::Once, hidden, "MONGO_INITDB_ROOT_USERNAME"},
      {"--mongo-password", "PASSWORD", "",
       "its password, which no process list shows in KILN_MONGO_PASSWORD; also MONGO_INITDB_ROOT_PASSWORD",
       secret(&S::mongo_password), Times::Once, hidden, "MONGO_INITDB_ROOT_PASSWORD"},
      {"--data-max", "SIZE", "64KiB", "largest record", size(&S::data_max, 2, 8 * kKiB * kKiB)},
      {"--data-size-max", "SIZE", "1GiB", "largest SQLite file; then POST /data answers 503",
       size(&S::data_size_max, 64 * kKiB, 1024 * kKiB * kKiB * kKiB)},
      {"--data-batch", "N", "512", "most requests that share a transaction", integer(&S::data_batch, 1, 10'000)},
      {"--data-timeout", "TIME", "10s", "how long a request waits for the database",
       duration(&S::data_timeout, 10ms, 1h)},
      {"--faults", "", "false",
       "let POST /fault/... break this server, to watch Kubernetes react; --faults=unready and --faults=unhealthy: it "
       "is that from the start",
       apply_faults},
      {"--no-sandbox", "", "false",
       "keep the system calls that a server never makes: other programs, new rings, mounts", on_or_off(&S::no_sandbox)},
  };
}

base::Result<ServeSettings> resolve(std::vector<Setting>& settings, const Environment& environment) {
  ServeSettings resolved;
  for (Setting& setting : settings) {
    const auto inherit = [&](const std::string& name) {
      const char* inherited = name.empty() ? nullptr : environment(name.c_str());
      if (inherited == nullptr || *inherited == '\0' || is_service_link(name, inherited)) return false;
      setting.text = inherited;
      setting.source = name;
      return true;
    };
    if (setting.given) {
      setting.text = *setting.given;
      setting.source = "flag";
    } else if (!inherit(setting.variable()) && !inherit(setting.also)) {
      setting.text = setting.default_text;
      setting.source = "default";
    }
    if (const auto applied = setting.apply(setting.text, resolved); !applied) {
      const std::string& name = setting.is_inherited() ? setting.source : setting.flag;
      return base::error(one_line(fmt::format("{}: {}", name, applied.error().what)));
    }
  }
  return resolved;
}

std::string print_config(const std::vector<Setting>& settings) {
  std::string out;
  for (const Setting& setting : settings) {
    const bool conceals = setting.shown != nullptr && setting.text != setting.default_text;
    const std::string value = one_line(conceals ? setting.shown(setting.text) : setting.text);
    out += fmt::format("{:<26}{:<12} {}\n", setting.flag, value.empty() ? "-" : value,
                       setting.is_inherited() ? "environment " + setting.source : setting.source);
  }
  return out;
}

}  // namespace kiln::app
