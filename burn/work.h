// The kernel of every burn: a dependent chain of integer operations on registers. No memory traffic, no branch on data,
// no division, no vector unit; its speed varies with the clock frequency and an SMT sibling only. It says nothing of
// time: the thread's CPU clock decides when a burn ends, the pace only how often it is asked.
#pragma once

#include <chrono>
#include <cstdint>

namespace kiln::burn {

// What one step of the chain is, version 1: one multiply, one rotate, one xor. Another step would be another version.
inline constexpr int kUnitVersion = 1;

// Runs `iterations` steps of the chain.
void work(uint64_t iterations) noexcept;

// CPU time of the calling thread (CLOCK_THREAD_CPUTIME_ID, clock_gettime(2)): what the scheduler adds to the bill of
// the thread's control groups (kernel/sched: update_curr, cgroup_account_cputime).
std::chrono::nanoseconds thread_cpu_time() noexcept;

// How many iterations fill a stretch of CPU time, learned from the work itself. A wrong pace costs a look at the clock
// too many or a few microseconds too late, never more.
class Pace {
 public:
  // At least one iteration for any positive stretch.
  [[nodiscard]] uint64_t iterations(std::chrono::nanoseconds stretch) const;

  [[nodiscard]] double a_nanosecond() const { return iterations_a_nanosecond_; }

  // `iterations` took `cpu`, a look at the clock included; 0 where the clock did not move.
  void learn(uint64_t iterations, std::chrono::nanoseconds cpu);

 private:
  // Slower than any machine of today, so that the first looks come too early rather than too late.
  double iterations_a_nanosecond_ = 0.1;
  uint64_t sample_iterations_ = 0;
  std::chrono::nanoseconds sample_cpu_{};
};

}  // namespace kiln::burn
