// Question: how late does this machine wake a thread that does nothing but sleep until the next tick of a schedule?
// What a load generator is late by beyond that is its own. Prints the percentiles of the lateness in microseconds.
#include <sys/prctl.h>
#include <time.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <vector>

#include "base/quantity.h"

namespace {

int64_t nanoseconds(const timespec& time) { return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec; }

int64_t now() {
  timespec time{};
  ::clock_gettime(CLOCK_MONOTONIC, &time);
  return nanoseconds(time);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: sleeper TICKS_A_SECOND SECONDS\n");
    return 2;
  }
  const auto rate = kiln::base::parse_decimal(argv[1]);
  const auto seconds = kiln::base::parse_decimal(argv[2]);
  if (!rate || !seconds || *rate <= 0 || *rate * *seconds < 1) {
    std::fprintf(stderr, "sleeper: less than one tick\n");
    return 2;
  }
  const auto ticks = static_cast<size_t>(*rate * *seconds);
  ::prctl(PR_SET_TIMERSLACK, 1000UL, 0, 0, 0);  // as the generator has it
  std::vector<int64_t> late;
  late.reserve(ticks);
  const int64_t start = now() + 10'000'000;
  for (size_t i = 0; i < ticks; ++i) {
    const int64_t due = start + static_cast<int64_t>(static_cast<double>(i) * 1e9 / *rate);
    const timespec until{.tv_sec = due / 1'000'000'000, .tv_nsec = due % 1'000'000'000};
    while (::clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr) != 0) {
    }
    late.push_back(now() - due);
  }
  std::ranges::sort(late);
  const auto at = [&](double share) {
    const auto index = static_cast<size_t>(share * static_cast<double>(ticks));
    return static_cast<double>(late[std::min(index, ticks - 1)]) / 1000;
  };
  std::printf("%zu ticks p50 %.1f p99 %.1f max %.1f\n", ticks, at(0.5), at(0.99), at(1));
}
