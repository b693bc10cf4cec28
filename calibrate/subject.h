// What is calibrated, however it is reached: a server of our own, or one at a URL.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "calibrate/calibration.h"
#include "calibrate/samples.h"
#include "http/url.h"

namespace kiln::calibrate {

struct Subject {
  http::Url url;         // of the request that is measured
  bool is_kiln = false;  // true when it has Kiln's routes and metrics
  // CPU time billed so far. An error: the server is gone.
  std::function<base::Result<std::chrono::nanoseconds>()> bill;
  bool bill_costs = false;  // true when the server itself has to work for a reading
  // A figure of its metrics, as sample() finds it; nothing when it does not tell.
  std::function<std::optional<double>(std::string_view name, const Labels& labels)> metric;
  Calibration facts;  // who, where, under which limit
};

struct OwnOptions {
  double ms = 5;
  std::optional<double> quota_millicores;  // nothing: what is in force, else kQuotaUsual where a group can be made
  std::string engine = "auto";  // of the server
};
inline constexpr double kQuotaUsual = 500;

// Starts `kiln serve`, which lives as long as the subject, and keeps it and this thread, with those that it will start,
// on different CPUs if there are two. Forks: no other thread may exist.
[[nodiscard]] base::Result<Subject> own_subject(const OwnOptions& options);

struct RemoteOptions {
  http::Url url;
  std::optional<http::Url> metrics;        // nothing: /metrics of the same server
  std::optional<double> limit_millicores;  // nothing: what the server says
  double ms = 5;                           // of Kiln's /load, where the URL has no path
};

// CPU by kiln_cgroup_cpu_seconds_total, or by process_cpu_seconds_total, which most client libraries export.
[[nodiscard]] base::Result<Subject> remote_subject(const RemoteOptions& options);

}  // namespace kiln::calibrate
