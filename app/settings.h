// What `kiln serve` can be told: by flag, by environment, or by default, in that order. One table holds them all; the
// help, --print-config and the error lines come from it.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "app/cost.h"
#include "app/faults.h"
#include "base/result.h"
#include "core/engine.h"

namespace kiln::app {

struct ServeSettings {
  uint16_t port = 8080;
  std::optional<uint16_t> admin_port;
  std::string address;
  core::EngineRequest engine = core::EngineRequest::Auto;
  std::optional<unsigned> workers;
  uint32_t connections_max = 16384;
  std::chrono::nanoseconds keepalive_max_age{};
  uint64_t keepalive_max_requests = 0;  // 0: unlimited
  std::chrono::nanoseconds idle_timeout{};
  std::chrono::nanoseconds header_timeout{};
  std::chrono::nanoseconds body_timeout{};  // in each such time a body brings body_rate_min times it, or is refused
  uint64_t body_rate_min = 0;               // bytes a second
  std::chrono::nanoseconds write_timeout{};
  std::chrono::nanoseconds linger_timeout{};
  std::chrono::nanoseconds drain_delay{};
  std::chrono::nanoseconds drain_timeout{};
  std::chrono::nanoseconds load_max{};
  std::chrono::nanoseconds burn_queue{};
  uint64_t body_max = 0;
  uint64_t head_max = 0;
  uint64_t request_line_max = 0;
  uint64_t fields_max = 0;
  uint64_t pipelined_max = 0;  // requests
  uint64_t queued_max = 0;     // bytes of answers, a connection
  uint64_t buffered_max = 0;   // bytes, all connections
  std::string data_dir;
  std::string data_uri;                   // empty: kiln.db in data_dir, or MongoDB at mongo_host
  std::string mongo_host;                 // "host", "host:port", several separated by commas
  std::string mongo_user, mongo_password;  // where data_uri names none
  uint64_t data_max = 0;                  // bytes of a record
  uint64_t data_size_max = 0;             // bytes of the SQLite file
  std::chrono::nanoseconds data_timeout{};
  size_t data_batch = 0;  // requests
  std::vector<RouteCost> costs;  // at most one a route
  uint64_t cost_seed = 0;        // each worker draws with this and its index
  double access_log = 0;         // share of requests, 0 to 1
  std::optional<std::string> control_token;
  bool faults = false;                             // true: whoever may command may break this server
  std::optional<FaultKind> fault_from_the_start;  // Unready or Unhealthy
  bool no_sandbox = false;  // true: the process denies itself no system call
};

// How often a flag may be given. Of Many the texts are joined by a blank, as they stand in the variable.
enum class Times : uint8_t { Once, Many };

// One row: its flag "--drain-delay" is KILN_DRAIN_DELAY in the environment.
struct Setting {
  std::string flag;
  std::string value_name;    // empty: a switch, which the bare flag turns on and a variable with 1 or 0
  std::string default_text;  // as a user would write it; empty: unset
  std::string help;
  std::function<base::Result<void>(const std::string& text, ServeSettings& settings)> apply;
  Times times = Times::Once;
  // What is shown of a value that is a secret, which no error quotes either; nothing: all of it.
  std::string (*shown)(const std::string& text) = nullptr;
  std::string also = {};                  // another variable, looked at where its own is not set
  std::string text = {};                  // in force, after resolve()
  std::string source = {};                // "flag", "default", or the name of the variable
  std::optional<std::string> given = {};  // on the command line

  [[nodiscard]] std::string variable() const;
  [[nodiscard]] bool is_inherited() const { return source != "flag" && source != "default"; }
};

std::vector<Setting> serve_settings();

// Fills in text and source of every row and parses them. The error is one line that names the flag or the variable, the
// value and what is accepted. Kubernetes' service links (KILN_PORT=tcp://…, KILN_PORT_*, KILN_SERVICE_*) are ignored.
using Environment = std::function<const char*(const char* name)>;
[[nodiscard]] base::Result<ServeSettings> resolve(std::vector<Setting>& settings, const Environment& environment);

// A line a setting: flag, value or (set), source.
[[nodiscard]] std::string print_config(const std::vector<Setting>& settings);

}  // namespace kiln::app
