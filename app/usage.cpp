#include "app/usage.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <system_error>
#include <utility>

#include "base/fd.h"

namespace kiln::app {

namespace {

double seconds(core::Duration duration) { return std::chrono::duration<double>(duration).count(); }

}  // namespace

Usage::Usage(base::Cgroup cgroup) : cgroup_(std::move(cgroup)) {}

void Usage::sample(core::TimePoint now) {
  UsageSnapshot next = snapshot();
  if (taken_ % kLimitsEvery == 0) {
    const auto quota = cgroup_.cpu_quota();
    next.quota_millicores = quota ? std::optional(quota->cores * 1000) : std::nullopt;
    next.memory_limit_bytes = cgroup_.memory_limit();
  }
  const core::Duration process = process_cpu_time();
  const std::optional<base::CpuBill> bill = cgroup_.cpu_bill();
  // The root group's bill is the whole machine's; there the process speaks for itself.
  samples_[taken_++ % kWindow] = {now, bill ? bill->used : process};

  next.used_millicores = millicores_over(1);
  next.used_millicores_15s = millicores_over(kWindow - 1);
  next.process_cpu_seconds = seconds(process);
  next.rss_bytes = resident_bytes();
  if (bill) {
    next.cgroup_cpu_seconds = seconds(bill->used);
    next.throttled_periods = bill->throttled_periods;
    if (bill->throttled) next.throttled_seconds = seconds(*bill->throttled);
  }
  const std::lock_guard lock(mutex_);
  snapshot_ = next;
  sampled_.add();
}

// Over that many steps of the ring, or as many as there are.
std::optional<double> Usage::millicores_over(size_t steps) const {
  if (taken_ < 2) return std::nullopt;
  steps = std::min(steps, taken_ - 1);
  const Sample& last = samples_[(taken_ - 1) % kWindow];
  const Sample& first = samples_[(taken_ - 1 - steps) % kWindow];
  const double elapsed = seconds(last.at - first.at);
  if (elapsed <= 0) return std::nullopt;
  return seconds(last.billed - first.billed) / elapsed * 1000;
}

UsageSnapshot Usage::snapshot() const {
  const std::lock_guard lock(mutex_);
  return snapshot_;
}

core::Duration process_cpu_time() {
  timespec time{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

uint64_t resident_bytes() {
  static const base::Fd statm(::open("/proc/self/statm", O_RDONLY | O_CLOEXEC));
  char text[128] = {};
  if (!statm.valid() || ::pread(statm.get(), text, sizeof text - 1, 0) <= 0) return 0;
  char* rest = nullptr;
  std::strtoull(text, &rest, 10);  // total size; the second number is the resident set, in pages
  static const auto page = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  return std::strtoull(rest, nullptr, 10) * page;
}

uint64_t open_descriptors() {
  std::error_code error;
  uint64_t count = 0;
  for (std::filesystem::directory_iterator at("/proc/self/fd", error), end; !error && at != end; at.increment(error)) {
    ++count;
  }
  return count > 0 ? count - 1 : 0;  // without the one that reads the directory
}

}  // namespace kiln::app
