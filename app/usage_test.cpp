#include "app/usage.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

namespace kiln::app {
namespace {

using namespace std::chrono_literals;

constexpr core::TimePoint kStart{1000s};

base::Cgroup no_cgroup() { return base::Cgroup::find("/nonexistent"); }

void take(Usage& usage, core::Duration at, core::Duration used) {
  usage.take({.at = kStart + at, .process = used, .bill = std::nullopt});
}

TEST(Usage, IsUnknownBeforeAWholeSecond) {
  Usage usage(no_cgroup());
  EXPECT_FALSE(usage.snapshot().used_millicores.has_value());
  take(usage, 0s, 0ms);
  EXPECT_FALSE(usage.snapshot().used_millicores.has_value());
  take(usage, 999ms, 500ms);
  EXPECT_FALSE(usage.snapshot().used_millicores.has_value());
  EXPECT_FALSE(usage.snapshot().used_millicores_15s.has_value());
  take(usage, 1s, 500ms);
  EXPECT_DOUBLE_EQ(usage.snapshot().used_millicores.value(), 500);
  EXPECT_DOUBLE_EQ(usage.snapshot().used_millicores_15s.value(), 500);
}

TEST(Usage, IsOfTheLastSecondAndOfTheLastFifteen) {
  Usage usage(no_cgroup());
  core::Duration used{};
  for (int second = 0; second <= 100; ++second) {
    take(usage, std::chrono::seconds(second), used);
    used += second % 2 == 0 ? 300ms : 100ms;
  }
  EXPECT_NEAR(usage.snapshot().used_millicores.value(), 100, 1e-6);
  EXPECT_NEAR(usage.snapshot().used_millicores_15s.value(), (8 * 100 + 7 * 300) / 15.0, 1e-6);
}

TEST(Usage, PrefersTheGroupsBill) {
  Usage usage(no_cgroup());
  usage.take({.at = kStart, .process = 0ms, .bill = base::CpuBill{10s, 3, 100ms}});
  usage.take({.at = kStart + 1s, .process = 1ms, .bill = base::CpuBill{10s + 70ms, 4, 150ms}});
  const UsageSnapshot snapshot = usage.snapshot();
  EXPECT_NEAR(snapshot.used_millicores.value(), 70, 1e-6);
  EXPECT_DOUBLE_EQ(snapshot.cgroup_cpu_seconds.value(), 10.07);
  EXPECT_EQ(snapshot.throttled_periods, 4U);
  EXPECT_DOUBLE_EQ(snapshot.throttled_seconds.value(), 0.15);
}

// Busy with 400m until 30 s, then nothing for an hour, in which 360 ms were used for all that (0.1m).
TEST(Usage, StaysTrueAcrossAQuietStretch) {
  Usage usage(no_cgroup());
  core::Duration used{};
  for (int second = 0; second <= 30; ++second) {
    take(usage, std::chrono::seconds(second), used);
    used += 400ms;
  }
  used += 360ms - 400ms;
  const core::Duration woke = 30s + 1h;
  take(usage, woke, used);
  EXPECT_NEAR(usage.snapshot().used_millicores.value(), 0.1, 1e-6);
  EXPECT_NEAR(usage.snapshot().used_millicores_15s.value(), 0.1, 1e-6);

  take(usage, woke + 1s, used += 500ms);
  EXPECT_NEAR(usage.snapshot().used_millicores.value(), 500, 1e-6);
  EXPECT_NEAR(usage.snapshot().used_millicores_15s.value(), (500 + 14 * 0.1) / 15, 1e-6);
}

TEST(Usage, RemembersWhatWasBeforeAShortSleep) {
  Usage usage(no_cgroup());
  for (int second = 0; second <= 20; ++second) take(usage, std::chrono::seconds(second), second * 400ms);
  take(usage, 21s, 20 * 400ms);  // quiet: asleep
  take(usage, 25s, 20 * 400ms);  // woken
  EXPECT_NEAR(usage.snapshot().used_millicores.value(), 0, 1e-6);
  EXPECT_NEAR(usage.snapshot().used_millicores_15s.value(), 400 * 10 / 15.0, 1e-6);
}

TEST(Usage, IsNotExaggeratedBySamplesThatFollowAtOnce) {
  Usage usage(no_cgroup());
  take(usage, 0s, 0ms);
  take(usage, 1s, 10ms);
  take(usage, 1s + 10us, 15ms);
  EXPECT_NEAR(usage.snapshot().used_millicores.value(), 15, 0.01);
}

// The most samples there can be: each second's finds nothing, and something comes right after it.
TEST(Usage, SeesFifteenSecondsThroughTwoSamplesASecond) {
  Usage usage(no_cgroup());
  for (int second = 0; second <= 60; ++second) {
    const core::Duration used = std::max(second - 50, 0) * 300ms;
    take(usage, std::chrono::seconds(second), used);
    take(usage, std::chrono::seconds(second) + 1us, used);
  }
  EXPECT_NEAR(usage.snapshot().used_millicores_15s.value(), 10 * 300 / 15.0, 0.1);
}

TEST(UsageSleep, BeginsWithTheSecondSampleInARowThatFoundNothing) {
  Usage usage(no_cgroup());
  take(usage, 0s, 0ms);
  EXPECT_TRUE(usage.wake());  // nobody has sampled yet
  EXPECT_FALSE(usage.wake());
  take(usage, 1s, 0ms);
  EXPECT_FALSE(usage.fall_asleep(true));
  EXPECT_FALSE(usage.wake());  // somebody samples still
  take(usage, 2s, 0ms);
  EXPECT_FALSE(usage.fall_asleep(true));
  take(usage, 3s, 0ms);
  EXPECT_TRUE(usage.fall_asleep(true));
  EXPECT_TRUE(usage.wake());
  EXPECT_FALSE(usage.wake());
}

TEST(UsageSleep, WaitsForWhatRunsAndForWhatUses) {
  Usage usage(no_cgroup());
  EXPECT_TRUE(usage.wake());
  take(usage, 0s, 0ms);
  EXPECT_FALSE(usage.fall_asleep(true));
  take(usage, 1s, 0ms);
  EXPECT_FALSE(usage.fall_asleep(false));
  take(usage, 2s, 5ms);
  EXPECT_FALSE(usage.fall_asleep(true));
  take(usage, 3s, 5ms + 1ms);
  EXPECT_TRUE(usage.fall_asleep(true));
}

TEST(UsageSleep, LeavesSamplingToOneThreadAtATime) {
  constexpr int kRounds = 10'000;
  Usage usage(no_cgroup());
  std::atomic<int> sampling{0};
  std::atomic<int> together{0};
  std::atomic<core::Duration::rep> clock{0};
  std::vector<std::jthread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < kRounds; ++round) {
        if (!usage.wake()) continue;
        if (++sampling > 1) ++together;
        bool asleep = false;
        while (!asleep) {
          take(usage, core::Duration(clock += 1'000'000), 0ms);
          --sampling;  // from fall_asleep() on another may be at it
          asleep = usage.fall_asleep(true);
          if (!asleep && ++sampling > 1) ++together;
        }
      }
    });
  }
  threads.clear();
  EXPECT_EQ(together, 0);
  EXPECT_TRUE(usage.wake());
}

}  // namespace
}  // namespace kiln::app
