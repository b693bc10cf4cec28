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

constexpr core::Duration kLimitsEvery = std::chrono::seconds(30);
constexpr core::Duration kSecond = std::chrono::seconds(1);
constexpr core::Duration kMetricsServerWindow = std::chrono::seconds(15);

// Whatever this process does of itself below this is not worth watching; a sample a second is a tenth of it.
constexpr double kQuietMillicores = 2;

double seconds(core::Duration duration) { return std::chrono::duration<double>(duration).count(); }

}  // namespace

Usage::Usage(base::Cgroup cgroup) : cgroup_(std::move(cgroup)) {}

bool Usage::wake() {
  // On the path of every request: a look, and a write once a second.
  if (state_.load(std::memory_order_relaxed) == State::Busy) return false;
  return state_.exchange(State::Busy) == State::Asleep;
}

bool Usage::fall_asleep(bool quiet) {
  const bool came = state_.exchange(State::Quiet) == State::Busy;
  if (came || !quiet || taken_ < 2) return false;
  const Sample& last = sample_before(0);
  const Sample& before = sample_before(1);
  if (seconds(last.process - before.process) * 1000 > kQuietMillicores * seconds(last.at - before.at)) return false;
  // Only if still nothing has come: who comes later finds nobody sampling.
  State expected = State::Quiet;
  return state_.compare_exchange_strong(expected, State::Asleep);
}

void Usage::sample(core::TimePoint now) {
  if (now >= limits_due_) {
    limits_due_ = now + kLimitsEvery;
    const auto quota = cgroup_.cpu_quota();
    quota_millicores_ = quota ? std::optional(quota->cores * 1000) : std::nullopt;
    memory_limit_bytes_ = cgroup_.memory_limit();
  }
  take({.at = now, .process = process_cpu_time(), .bill = cgroup_.cpu_bill()});
}

void Usage::take(const UsageReading& reading) {
  // The root group's bill is the whole machine's; there the process speaks for itself.
  const std::optional<base::CpuBill>& bill = reading.bill;
  samples_[taken_++ % kSamples] = {reading.at, reading.process, bill ? bill->used : reading.process};

  UsageSnapshot next;
  next.used_millicores = millicores_over(kSecond);
  next.used_millicores_15s = millicores_over(kMetricsServerWindow);
  next.quota_millicores = quota_millicores_;
  next.memory_limit_bytes = memory_limit_bytes_;
  if (bill) {
    next.cgroup_cpu_seconds = seconds(bill->used);
    next.throttled_periods = bill->throttled_periods;
    if (bill->throttled) next.throttled_seconds = seconds(*bill->throttled);
  }
  const std::lock_guard lock(mutex_);
  snapshot_ = next;
  sampled_.add();
}

// Up to the last sample; over less than `window` while the samples do not reach back that far, but not over less than a
// second.
std::optional<double> Usage::millicores_over(core::Duration window) const {
  const size_t oldest = std::min(taken_, kSamples) - 1;
  const Sample& last = sample_before(0);
  const core::TimePoint from = std::max(last.at - window, sample_before(oldest).at);
  if (last.at - from < kSecond) return std::nullopt;

  size_t i = 1;  // ends at the last sample at or before `from`
  while (sample_before(i).at > from) ++i;
  const Sample& before = sample_before(i);
  const Sample& after = sample_before(i - 1);
  const double share = seconds(from - before.at) / seconds(after.at - before.at);
  const double billed_before = seconds(before.billed) + share * seconds(after.billed - before.billed);
  return (seconds(last.billed) - billed_before) / seconds(last.at - from) * 1000;
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
