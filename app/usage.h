// What this pod uses: CPU billed by its control group, throttling, limits. Sampled once a second while something
// happens and not at all while nothing does, so that an idle pod costs nothing:
//
//      Busy --each sample--> Quiet --the next sample, when nothing came and nothing runs--> Asleep
//       ^                      |                                                              |
//       +---something comes----+---something comes: whoever saw it samples from now on--------+
//
// A figure of the last second, or of the last 15, needs no sample at its beginning: the time between the two around it
// was either short or quiet, and the bill is taken to have grown evenly.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
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
};

// What is read for a sample.
struct UsageReading {
  core::TimePoint at;
  core::Duration process{};           // CPU time of this process
  std::optional<base::CpuBill> bill;  // nothing on a machine's root group
};

class Usage {
 public:
  static constexpr core::Duration kSampleEvery = std::chrono::seconds(1);

  explicit Usage(base::Cgroup cgroup);

  // Any thread, when a connection or its bytes come. True: nobody was sampling, and the caller does from now on, at
  // once.
  [[nodiscard]] bool wake();

  // The following by one thread at a time: the one that samples.

  // Reads clock, bill and, now and then, limits.
  void sample(core::TimePoint now);
  // The rest of sample(), for what has been read. Times never go back.
  void take(const UsageReading& reading);
  // After each sample, with the pod's word that nothing runs (Pod::quiet). True: the caller samples no longer.
  [[nodiscard]] bool fall_asleep(bool quiet);

  // Any thread, all of the following.

  [[nodiscard]] UsageSnapshot snapshot() const;
  // Samples taken; tells whether a snapshot read before is still the last.
  [[nodiscard]] uint64_t samples() const { return sampled_.get(); }
  [[nodiscard]] const base::Cgroup& cgroup() const { return cgroup_; }

 private:
  enum class State : uint8_t { Asleep, Quiet, Busy };

  // 15 seconds of requests that come just after the sample that found nothing, each of which is one more sample.
  static constexpr size_t kSamples = 32;

  struct Sample {
    core::TimePoint at;
    core::Duration process;
    core::Duration billed;
  };

  [[nodiscard]] const Sample& sample_before(size_t last) const { return samples_[(taken_ - 1 - last) % kSamples]; }
  [[nodiscard]] std::optional<double> millicores_over(core::Duration window) const;

  std::atomic<State> state_{State::Asleep};
  base::Cgroup cgroup_;
  core::TimePoint limits_due_{};
  std::optional<double> quota_millicores_;
  std::optional<uint64_t> memory_limit_bytes_;
  std::array<Sample, kSamples> samples_{};
  size_t taken_ = 0;
  base::Counter sampled_;
  mutable std::mutex mutex_;
  UsageSnapshot snapshot_;
};

// CPU time of this process (CLOCK_PROCESS_CPUTIME_ID) and its resident memory (/proc/self/statm, proc(5)). Any thread.
core::Duration process_cpu_time();
uint64_t resident_bytes();
// Entries of /proc/self/fd; a look at the directory, so not for every second.
uint64_t open_descriptors();

}  // namespace kiln::app
