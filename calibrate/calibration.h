// What a calibration found, as plain figures, and the file they are kept in. Nothing here knows sockets or clocks.
//
// CPU is in millicores (thousandths of a core, over the time of the step), rates are requests a second, latencies count
// from when a request was due (load/report.h).
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace kiln::calibrate {

// What the server was billed for one request of a route, beside what it costs when idle.
struct RouteCost {
  std::string request;              // "GET /api/info"
  uint64_t requests = 0;            // measured
  double rate = 0;
  double billed_us = 0;             // by the judge
  std::optional<double> booked_us;  // by the server's own thread clocks; nothing where it does not tell
};

// Burns of one size.
struct BurnError {
  double asked_ms = 0;
  uint64_t burns = 0;
  double billed_ms = 0;  // each, on the average
  [[nodiscard]] double percent() const { return (billed_ms / asked_ms - 1) * 100; }
};

// One rate, held for a while.
struct Step {
  double asked_share = 0;  // of the limit, as far as the cost was known
  double seconds = 0;      // of the schedule
  uint64_t due = 0;
  uint64_t good = 0;     // answers below 400
  uint64_t refused = 0;  // answers 503
  uint64_t failed = 0;   // other statuses, and requests without an answer
  double finished = 0;   // seconds from the start to the last answer
  bool saturated = false;  // true when the server could not do in the time what was asked of it
  double billed_ms = 0;    // CPU time until then, idle included
  // Of good answers and refusals alike. `p99_smooth_us` is the same of this step pooled with its neighbours, so that it
  // never falls from one step to a higher one; 0 where all of them together had too few.
  double p50_us = 0;
  double p99_us = 0;
  double p99_smooth_us = 0;
  double client_late_share = 0;  // of the requests, sent late though a connection was free

  [[nodiscard]] double rate() const { return static_cast<double>(due) / seconds; }
  // Good answers a second, until the last of them or the end of the schedule.
  [[nodiscard]] double goodput() const { return static_cast<double>(good) / std::max(finished, seconds); }
  // Of a saturated one, that works on when the schedule has ended, until it was done.
  [[nodiscard]] double cpu_millicores() const {
    return billed_ms / (saturated ? std::max(finished, seconds) : seconds);
  }
};

// CPU = idle + cost × rate. The cost is greater than 0.
struct Line {
  double idle_millicores = 0;
  double cost_ms = 0;  // CPU time of a request; a millicore is a millisecond a second
  double residual_max_millicores = 0;

  [[nodiscard]] double cpu(double rate) const { return idle_millicores + cost_ms * rate; }
  [[nodiscard]] double rate(double millicores) const { return (millicores - idle_millicores) / cost_ms; }
};

struct Machine {
  std::string kernel;     // "Linux 6.18.44"
  std::string hardware;   // "x86_64"
  std::string processor;  // as /proc/cpuinfo names it; empty when it does not
  uint32_t cpus = 0;      // that this process may use
};

struct Calibration {
  std::string kiln;         // version and commit of who measured
  double started_at = 0;    // seconds since 1970
  double seconds = 0;       // that it took
  bool interrupted = false; // by a signal: what was not measured by then is empty
  Machine machine;          // the client's; the server's too unless it was somewhere else

  std::string server;   // its URL, or "own"
  std::string request;  // "GET /load?ms=5"
  uint64_t seed = 1;    // of the arrivals
  std::string engine;   // empty where unknown
  uint32_t workers = 0; // 0 where unknown
  std::string judge;    // whose counter the CPU is by, for people
  double limit_millicores = 0;
  std::string limit_from;      // for people
  bool limit_is_quota = true;  // false: it is what the server's workers can use, and nothing holds them back
  std::vector<std::string> notes;  // what stood in the way of a better measurement, a sentence each

  std::optional<double> idle_millicores;  // measured without a request
  std::vector<RouteCost> routes;
  std::vector<BurnError> burns;
  std::vector<Step> steps;     // below the limit, by rising rate
  std::optional<Line> line;    // through those that are not saturated
  std::vector<Step> overload;  // at the limit and beyond, by rising rate
  double plateau_millicores = 0;  // billed while overloaded; 0 when that much load did not saturate it

  // True when what is billed while overloaded is the limit, give or take some percents.
  [[nodiscard]] bool limit_cuts() const { return limit_is_quota && plateau_millicores >= 0.97 * limit_millicores; }
  // False when a step is so far off the line that what is computed of it is rough.
  [[nodiscard]] bool is_straight() const {
    return !line || line->residual_max_millicores <= 0.01 * limit_millicores;
  }
  // True when a quota was seen to end the line.
  [[nodiscard]] bool limit_was_in_force() const { return limit_is_quota && plateau_millicores > 0; }
  // Where the line reaches the plateau. 0 when there is none of them.
  [[nodiscard]] double bend_rate() const { return line && plateau_millicores > 0 ? line->rate(plateau_millicores) : 0; }
};

// docs/calibrate.md has the schema. `advice` is a JSON object, or empty.
std::string to_json(const Calibration& calibration, std::string_view advice = {});
// What is read is believed only as far as figures of a calibration go: numbers below 1e12, not negative where that has
// no meaning, not zero where they divide; so all that is computed of them is finite. Texts become printable. `advice`
// and unknown members are passed over.
[[nodiscard]] base::Result<Calibration> from_json(std::string_view json);
// All but the advice (advice.h).
std::string to_text(const Calibration& calibration);

}  // namespace kiln::calibrate
