#include "burn/work.h"

#include <time.h>

#include <algorithm>
#include <bit>

namespace kiln::burn {

using namespace std::chrono_literals;

void work(uint64_t iterations) noexcept {
  uint64_t state = 0x9e3779b97f4a7c15;
  // Hides the start from the compiler: it may not compute the chain ahead of time.
  asm volatile("" : "+r"(state));
  for (uint64_t i = 0; i < iterations; ++i) {
    state *= 0xd6e8feb86659fd93;
    // Keeps the step what it says it is: clang for arm64 turns multiply and rotate into two multiplies.
    asm("" : "+r"(state));
    state = std::rotl(state, 29);
    state ^= 0xa0761d6478bd642f;
  }
  // Keeps the result, and with it the chain, alive.
  asm volatile("" : : "r"(state));
}

std::chrono::nanoseconds thread_cpu_time() noexcept {
  timespec now{};
  // Cannot fail for the calling thread; if it did, the clock would stand still, which every burn survives.
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
}

uint64_t Pace::iterations(std::chrono::nanoseconds stretch) const {
  return std::max<uint64_t>(1, static_cast<uint64_t>(iterations_a_nanosecond_ * static_cast<double>(stretch.count())));
}

void Pace::learn(uint64_t iterations, std::chrono::nanoseconds cpu) {
  // Long enough to make little of one interrupt, short enough to be right within the first millisecond.
  constexpr auto kSample = 200us;
  // A clock that jumps must not teach a chunk that lasts for seconds.
  constexpr double kChangeMax = 8;
  constexpr double kSlowest = 1e-3;
  constexpr double kFastest = 100;

  sample_iterations_ += iterations;
  sample_cpu_ += cpu;
  if (sample_cpu_ < kSample) return;
  const double seen = static_cast<double>(sample_iterations_) / static_cast<double>(sample_cpu_.count());
  const double bounded = std::clamp(seen, iterations_a_nanosecond_ / kChangeMax, iterations_a_nanosecond_ * kChangeMax);
  iterations_a_nanosecond_ = std::clamp(bounded, kSlowest, kFastest);
  sample_iterations_ = 0;
  sample_cpu_ = {};
}

}  // namespace kiln::burn
