#include "burn/holds.h"

#include <gtest/gtest.h>

namespace kiln::burn {
namespace {

using namespace std::chrono_literals;

constexpr Holds::TimePoint kStart{1h};

TEST(Holds, AddUpUntilTheyEndOrAreCancelled) {
  Holds holds;
  EXPECT_EQ(holds.target(kStart), 0);
  const auto first = holds.add(100, 60s, kStart);
  const auto second = holds.add(50.5, 10s, kStart);
  ASSERT_TRUE(first && second);
  EXPECT_NE(first->id, second->id);
  EXPECT_EQ(holds.target(kStart), 150.5);
  EXPECT_EQ(holds.target(kStart + 10s - 1ns), 150.5);
  EXPECT_EQ(holds.target(kStart + 10s), 100);
  EXPECT_FALSE(holds.cancel(second->id, kStart + 10s));
  EXPECT_TRUE(holds.cancel(first->id, kStart + 11s));
  EXPECT_FALSE(holds.cancel(first->id, kStart + 11s));
  EXPECT_EQ(holds.target(kStart + 11s), 0);
  EXPECT_TRUE(holds.list(kStart + 11s).empty());
}

TEST(Holds, AreAtMostAHundred) {
  Holds holds;
  for (size_t i = 0; i < Holds::kHoldsMax; ++i) ASSERT_TRUE(holds.add(1, i == 0 ? 1s : 60s, kStart));
  EXPECT_FALSE(holds.add(1, 1s, kStart));
  EXPECT_EQ(holds.target(kStart), 100);
  EXPECT_TRUE(holds.add(1, 1s, kStart + 1s));
}

TEST(Holds, VersionChangesWithTheTarget) {
  Holds holds;
  const uint64_t before = holds.version();
  const auto hold = holds.add(5, 1s, kStart);
  const uint64_t added = holds.version();
  EXPECT_NE(added, before);
  EXPECT_FALSE(holds.cancel(hold->id + 1, kStart));
  EXPECT_EQ(holds.version(), added);
  EXPECT_EQ(holds.target(kStart + 1s), 0);
  EXPECT_NE(holds.version(), added);
}

TEST(Holds, AchievedIsSharedByWhatWasAskedAndUnknownAtFirst) {
  Holds holds;
  ASSERT_TRUE(holds.add(300, 60s, kStart));
  ASSERT_TRUE(holds.add(100, 60s, kStart));
  holds.observe(5s, kStart);
  EXPECT_FALSE(holds.achieved());
  EXPECT_FALSE(holds.list(kStart)[0].achieved);
  holds.observe(5s + 200ms, kStart + 1s);
  EXPECT_NEAR(*holds.achieved(), 200, 1e-6);
  EXPECT_NEAR(*holds.list(kStart + 1s)[0].achieved, 150, 1e-6);
  EXPECT_NEAR(*holds.list(kStart + 1s)[1].achieved, 50, 1e-6);
}

TEST(Holds, AchievedIsOfTheLastFifteenSecondsOrSinceTheLastChange) {
  Holds holds;
  ASSERT_TRUE(holds.add(400, 300s, kStart));
  for (int second = 0; second <= 40; ++second) {
    // 100m for 20 s, then 400m.
    const auto spent = second <= 20 ? second * 100ms : 2000ms + (second - 20) * 400ms;
    holds.observe(spent, kStart + std::chrono::seconds(second));
    if (second == 20) {
      EXPECT_NEAR(*holds.achieved(), 100, 1e-6);
    }
    if (second == 30) {
      EXPECT_NEAR(*holds.achieved(), 300, 1e-6);
    }
  }
  EXPECT_NEAR(*holds.achieved(), 400, 1e-6);
  ASSERT_TRUE(holds.add(400, 300s, kStart + 40s));
  EXPECT_FALSE(holds.achieved());
}

}  // namespace
}  // namespace kiln::burn
