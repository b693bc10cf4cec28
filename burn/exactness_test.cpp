#include "burn/exactness.h"

#include <gtest/gtest.h>

namespace kiln::burn {
namespace {

using namespace std::chrono_literals;

constexpr Exactness::TimePoint kStart{1h};

TEST(Exactness, IsUnknownBeforeThereIsAWindow) {
  Exactness exactness;
  EXPECT_FALSE(exactness.figures());
  exactness.observe(kStart, {.billed = 5s, .outside = 1s, .asked = 4s});
  EXPECT_FALSE(exactness.figures());
}

TEST(Exactness, ComparesWhatWasAskedWithTheBillForIt) {
  Exactness exactness;
  exactness.observe(kStart, {.billed = 5s, .outside = 1s, .asked = 4s});
  exactness.observe(kStart + 1s, {.billed = 8s, .outside = 1500ms, .asked = 6s});
  const auto figures = exactness.figures();
  ASSERT_TRUE(figures);
  EXPECT_EQ(figures->asked, 2s);
  EXPECT_EQ(figures->billed, 2500ms);
  ASSERT_TRUE(figures->error_percent);
  EXPECT_DOUBLE_EQ(*figures->error_percent, 25);
}

TEST(Exactness, SaysNothingOfTooLittle) {
  Exactness exactness;
  exactness.observe(kStart, {});
  exactness.observe(kStart + 1s, {.billed = 2s, .outside = 0s, .asked = 1s - 1ns});
  EXPECT_FALSE(exactness.figures()->error_percent);
  exactness.observe(kStart + 2s, {.billed = 2s, .outside = 0s, .asked = 1s});
  EXPECT_TRUE(exactness.figures()->error_percent);
}

TEST(Exactness, IsOfTheLastMinute) {
  Exactness exactness;
  for (int second = 0; second <= 100; ++second) {
    // The first 30 s are billed twice.
    const auto asked = second * 100ms;
    const auto billed = asked + std::min(second, 30) * 100ms;
    exactness.observe(kStart + std::chrono::seconds(second), {.billed = billed, .outside = 0s, .asked = asked});
  }
  EXPECT_EQ(exactness.figures()->asked, 6s);
  EXPECT_EQ(exactness.figures()->billed, 6s);
  // After a gap the last two observations are all there is to compare.
  exactness.observe(kStart + 1000s, {.billed = 14s, .outside = 0s, .asked = 11s});
  EXPECT_EQ(exactness.figures()->asked, 1s);
}

}  // namespace
}  // namespace kiln::burn
