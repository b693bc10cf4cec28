#include "burn/work.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <limits>

namespace kiln::burn {
namespace {

using namespace std::chrono_literals;
using std::chrono::nanoseconds;

nanoseconds cost_of(uint64_t iterations) {
  nanoseconds best = nanoseconds::max();
  for (int i = 0; i < 5; ++i) {
    const nanoseconds start = thread_cpu_time();
    work(iterations);
    best = std::min(best, thread_cpu_time() - start);
  }
  return best;
}

TEST(Work, CostsCpuTimeInProportionToIterations) {
  // Nothing of the chain may be left out: a step is at least a multiply's latency, some 3 cycles, and no machine has
  // cycles of a tenth of a nanosecond.
  constexpr uint64_t kIterations = 1'000'000;
  const nanoseconds once = cost_of(kIterations);
  EXPECT_GT(once.count(), kIterations * 3 / 10);
  const double ratio = static_cast<double>(cost_of(4 * kIterations).count()) / static_cast<double>(once.count());
  EXPECT_GT(ratio, 2.5);
  EXPECT_LT(ratio, 6.0);
}

TEST(Work, OfNoIterationsReturns) { work(0); }

TEST(ThreadCpuTime, NeverFalls) {
  nanoseconds last = thread_cpu_time();
  for (int i = 0; i < 1000; ++i) {
    const nanoseconds now = thread_cpu_time();
    ASSERT_GE(now, last);
    last = now;
  }
}

TEST(Pace, StartsWithShortStretches) { EXPECT_LE(Pace().iterations(15us), 1500u); }

TEST(Pace, AlwaysGivesSomethingToDo) {
  EXPECT_EQ(Pace().iterations(0ns), 1u);
  EXPECT_EQ(Pace().iterations(1ns), 1u);
}

TEST(Pace, LearnsFromHalfAMillisecondOfWork) {
  for (const uint64_t iterations_a_microsecond : {20u, 100u, 600u}) {
    SCOPED_TRACE(iterations_a_microsecond);
    Pace pace;
    for (int microsecond = 0; microsecond < 500; ++microsecond) pace.learn(iterations_a_microsecond, 1us);
    EXPECT_EQ(pace.iterations(10us), iterations_a_microsecond * 10);
  }
}

TEST(Pace, LearnsFromAClockThatMovesInTicks) {
  Pace pace;
  for (int i = 0; i < 40; ++i) pace.learn(200'000, i % 10 == 9 ? 10ms : 0ms);
  EXPECT_EQ(pace.iterations(10us), 2000u);
}

TEST(Pace, DoesNotBelieveAJump) {
  Pace pace;
  pace.learn(std::numeric_limits<uint32_t>::max(), 200us);
  EXPECT_LE(pace.iterations(15us), 8 * 1500u);
  pace.learn(1, 1h);
  EXPECT_GE(pace.iterations(15us), 1500u);
}

}  // namespace
}  // namespace kiln::burn
