#include "app/faults.h"

#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <thread>

namespace kiln::app {
namespace {

using namespace std::chrono_literals;
using TimePoint = Faults::TimePoint;

constexpr TimePoint kStart{1h};

FaultRequest unready(std::optional<std::chrono::nanoseconds> time) {
  return {.kind = FaultKind::Unready, .time = time};
}
FaultRequest errors(double percent, int status, std::chrono::nanoseconds time = 60s) {
  return {.kind = FaultKind::Errors, .time = time, .percent = percent, .status = status};
}
FaultRequest latency(std::chrono::nanoseconds latency, std::chrono::nanoseconds time) {
  return {.kind = FaultKind::Latency, .time = time, .latency = latency};
}

TEST(Faults, HaveNamesOfTheirOwn) {
  for (const FaultKind kind : kFaultKinds) EXPECT_EQ(fault_named(fault_name(kind)), kind);
  EXPECT_EQ(fault_named("crash"), std::nullopt);
  EXPECT_EQ(fault_named(""), std::nullopt);
}

TEST(Faults, LastForTheirTime) {
  Faults faults;
  EXPECT_FALSE(faults.is_active(FaultKind::Unready, kStart));
  ASSERT_TRUE(faults.add(unready(30s), kStart));
  EXPECT_TRUE(faults.is_active(FaultKind::Unready, kStart));
  EXPECT_TRUE(faults.is_active(FaultKind::Unready, kStart + 30s - 1ns));
  EXPECT_FALSE(faults.is_active(FaultKind::Unready, kStart + 30s));
  EXPECT_FALSE(faults.is_active(FaultKind::Unhealthy, kStart));
  EXPECT_EQ(faults.next_end(), kStart + 30s);
}

TEST(Faults, TheLongestOfAKindCounts) {
  Faults faults;
  ASSERT_TRUE(faults.add(unready(30s), kStart));
  ASSERT_TRUE(faults.add(unready(10s), kStart));
  EXPECT_EQ(faults.next_end(), kStart + 10s);
  EXPECT_TRUE(faults.is_active(FaultKind::Unready, kStart + 20s));
}

TEST(Faults, WithoutATimeLastForEver) {
  Faults faults;
  ASSERT_TRUE(faults.add(unready(std::nullopt), kStart));
  EXPECT_TRUE(faults.is_active(FaultKind::Unready, kStart + 24h * 365));
  EXPECT_EQ(faults.next_end(), TimePoint::max());
  EXPECT_TRUE(faults.take_ended(kStart + 24h * 365).empty());
  EXPECT_TRUE(faults.cancel(1, kStart));
  EXPECT_FALSE(faults.is_active(FaultKind::Unready, kStart));
}

TEST(Faults, AreListedUntilTheyEndAndToldOnceThen) {
  Faults faults;
  ASSERT_EQ(faults.add(unready(10s), kStart)->id, 1U);
  ASSERT_EQ(faults.add(latency(5ms, 20s), kStart)->id, 2U);
  ASSERT_EQ(faults.list(kStart).size(), 2U);
  EXPECT_TRUE(faults.take_ended(kStart + 10s - 1ns).empty());

  ASSERT_EQ(faults.list(kStart + 10s).size(), 1U);
  EXPECT_EQ(faults.list(kStart + 10s).front().id, 2U);
  EXPECT_FALSE(faults.cancel(1, kStart + 10s)) << "it has ended by itself";
  const auto ended = faults.take_ended(kStart + 10s);
  ASSERT_EQ(ended.size(), 1U);
  EXPECT_EQ(ended.front().id, 1U);
  EXPECT_TRUE(faults.take_ended(kStart + 10s).empty());

  ASSERT_TRUE(faults.cancel(2, kStart + 11s));
  EXPECT_FALSE(faults.cancel(2, kStart + 11s));
  EXPECT_TRUE(faults.take_ended(kStart + 1h).empty()) << "who cancels knows that it has ended";
  EXPECT_EQ(faults.next_end(), TimePoint::max());
}

TEST(Faults, AreAHundredAtMost) {
  Faults faults;
  for (size_t i = 0; i < Faults::kFaultsMax - 1; ++i) ASSERT_TRUE(faults.add(unready(60s), kStart));
  ASSERT_TRUE(faults.add(unready(1s), kStart));
  EXPECT_FALSE(faults.add(unready(60s), kStart));
  EXPECT_TRUE(faults.add(unready(60s), kStart + 1s)) << "what has ended takes no place";
}

TEST(Faults, LatenciesAddUp) {
  Faults faults;
  EXPECT_EQ(faults.latency(kStart), 0ns);
  ASSERT_TRUE(faults.add(latency(100ms, 10s), kStart));
  ASSERT_TRUE(faults.add(latency(50ms, 20s), kStart));
  ASSERT_TRUE(faults.add(errors(100, 500), kStart));
  EXPECT_EQ(faults.latency(kStart), 150ms);
  EXPECT_EQ(faults.latency(kStart + 10s), 50ms);
  EXPECT_EQ(faults.latency(kStart + 20s), 0ns);
}

TEST(Faults, ErrorsAreAShare) {
  Faults faults;
  EXPECT_EQ(faults.draw_error(kStart), std::nullopt);
  ASSERT_TRUE(faults.add(errors(20, 500), kStart));
  constexpr int kDraws = 10'000;
  int failed = 0;
  for (int i = 0; i < kDraws; ++i) {
    const auto status = faults.draw_error(kStart);
    if (!status) continue;
    EXPECT_EQ(*status, 500);
    ++failed;
  }
  EXPECT_NEAR(failed, kDraws / 5, 160);  // four standard deviations
  EXPECT_EQ(faults.draw_error(kStart + 60s), std::nullopt);
}

TEST(Faults, ErrorsAreDrawnEachForItself) {
  Faults faults;
  ASSERT_TRUE(faults.add(errors(50, 500), kStart));
  ASSERT_TRUE(faults.add(errors(100, 504), kStart));
  int first = 0;
  for (int i = 0; i < 1000; ++i) {
    const auto status = faults.draw_error(kStart);
    ASSERT_TRUE(status);
    if (*status == 500) ++first;
  }
  EXPECT_NEAR(first, 500, 64);
}

TEST(Faults, ErrorsRepeatWithTheProcess) {
  const auto draws = [] {
    Faults faults;
    EXPECT_TRUE(faults.add(errors(50, 500), kStart));
    std::string all;
    for (int i = 0; i < 64; ++i) all += faults.draw_error(kStart) ? '!' : '.';
    return all;
  };
  EXPECT_EQ(draws(), draws());
}

TEST(Faults, WithoutAHangNobodyWaits) {
  Faults faults;
  ASSERT_TRUE(faults.add(unready(1h), std::chrono::steady_clock::now()));
  faults.wait_out_hang();
}

TEST(Faults, AHangIsWaitedOut) {
  Faults faults;
  const TimePoint began = std::chrono::steady_clock::now();
  ASSERT_TRUE(faults.add({.kind = FaultKind::Hang, .time = 50ms}, began));
  faults.wait_out_hang();
  EXPECT_GE(std::chrono::steady_clock::now() - began, 50ms);
}

TEST(Faults, AHangThatIsCancelledEnds) {
  Faults faults;
  const TimePoint now = std::chrono::steady_clock::now();
  ASSERT_TRUE(faults.add({.kind = FaultKind::Hang, .time = 24h}, now));
  std::atomic<bool> cancelled{false};
  std::thread hung([&] {
    faults.wait_out_hang();
    EXPECT_TRUE(cancelled);
  });
  cancelled = true;
  EXPECT_TRUE(faults.cancel(1, now));
  hung.join();
}

}  // namespace
}  // namespace kiln::app
