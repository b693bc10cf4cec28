// What is calibrated, however it is reached: a server of our own, or one at a URL.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "calibrate/calibration.h"
#include "http/url.h"

namespace kiln::calibrate {

struct Subject {
  http::Url url;         // of the request that is measured
  bool is_kiln = false;  // true when it has Kiln's routes and metrics
  bool is_own = false;   // true when it was started to be measured
  bool shares_limit = false;  // true when the limit is that of this process, too
  // CPU time billed so far. An error: the server is gone.
  std::function<base::Result<std::chrono::nanoseconds>()> bill;
  bool bill_costs = false;  // true when the server itself has to work for a reading
  // What it tells Prometheus; nothing when it does not.
  std::function<std::optional<std::string>()> metrics;
  Calibration facts;  // who, where, under which limit
};

struct OwnOptions {
  double ms = 0;                           // of /load
  std::optional<double> quota_millicores;  // nothing: what is in force, else kQuotaUsual where a group can be made
  std::string engine = "auto";             // of the server
  std::function<bool()> interrupted;       // true ends the start with EINTR
};
inline constexpr double kQuotaUsual = 500;

// Starts `kiln serve`, which lives as long as the subject, and keeps it and this thread, with those that it will start,
// on different CPUs if there are two. Forks: no other thread may exist.
[[nodiscard]] base::Result<Subject> own_subject(const OwnOptions& options);

struct RemoteOptions {
  http::Url url;
  std::optional<http::Url> metrics;        // nothing: /metrics of the same server
  std::optional<double> limit_millicores;  // nothing: what the server says
  double ms = 0;                           // of Kiln's /load, where the URL has no path
};

// CPU by kiln_cgroup_cpu_seconds_total, or by process_cpu_seconds_total, which most client libraries export.
[[nodiscard]] base::Result<Subject> remote_subject(const RemoteOptions& options);

// "/load?ms=5".
std::string load_target(double ms);

}  // namespace kiln::calibrate
