// What this pod uses, sampled once a second: CPU billed by its control group, throttling, memory.
#pragma once

#include <array>
#include <cstdint>
#include <mutex>
#include <optional>

#include "base/cgroup.h"
#include "base/counter.h"
#include "core/engine.h"

namespace kiln::app {

struct UsageSnapshot {
  std::optional<double> used_millicores;      // the last whole second
  std::optional<double> used_millicores_15s;  // what a metrics-server window sees
  std::optional<double> cgroup_cpu_seconds;   // the group's bill; nothing on a machine's root group
  std::optional<uint64_t> throttled_periods;
  std::optional<double> throttled_seconds;
  std::optional<double> quota_millicores;  // may change while the pod runs (in-place resize)
  std::optional<uint64_t> memory_limit_bytes;
  double process_cpu_seconds = 0;
  uint64_t rss_bytes = 0;
};

class Usage {
 public:
  explicit Usage(base::Cgroup cgroup);

  // Once a second, by one thread.
  void sample(core::TimePoint now);

  // Any thread.
  [[nodiscard]] UsageSnapshot snapshot() const;
  // Samples taken; tells whether a snapshot read before is still the last.
  [[nodiscard]] uint64_t samples() const { return sampled_.get(); }

  [[nodiscard]] const base::Cgroup& cgroup() const { return cgroup_; }

 private:
  static constexpr size_t kWindow = 16;       // samples for 15 seconds
  static constexpr size_t kLimitsEvery = 30;  // samples between looks at the limits

  struct Sample {
    core::TimePoint at;
    core::Duration billed;
  };

  [[nodiscard]] std::optional<double> millicores_over(size_t samples) const;

  base::Cgroup cgroup_;
  std::array<Sample, kWindow> samples_{};
  size_t taken_ = 0;
  base::Counter sampled_;
  mutable std::mutex mutex_;
  UsageSnapshot snapshot_;
};

// CPU time of this process (CLOCK_PROCESS_CPUTIME_ID) and its resident memory (/proc/self/statm, proc(5)).
core::Duration process_cpu_time();
uint64_t resident_bytes();
// Entries of /proc/self/fd; a look at the directory, so not for every second.
uint64_t open_descriptors();

}  // namespace kiln::app
