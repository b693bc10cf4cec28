#include "burn/ledger.h"

#include <gtest/gtest.h>

#include <cstdlib>

namespace kiln::burn {
namespace {

using namespace std::chrono_literals;

TEST(Ledger, AddsWhatWasBurnedTooLittle) {
  Ledger ledger;
  EXPECT_EQ(ledger.begin(5ms, 0us), 5ms);
  ledger.settle(5ms, 4900us);
  EXPECT_EQ(ledger.carry(), 100us);
  EXPECT_EQ(ledger.begin(5ms, 0us), 5100us);
}

TEST(Ledger, TakesOffWhatWasBurnedTooMuch) {
  Ledger ledger;
  ledger.settle(5ms, 5100us);
  EXPECT_EQ(ledger.begin(5ms, 0us), 4900us);
  EXPECT_EQ(ledger.begin(20us, 0us), 0us) << "a budget is never negative";
  ledger.settle(20us, 0us);
  EXPECT_EQ(ledger.carry(), -80us) << "the small burn has paid its share";
}

TEST(Ledger, BoundsTheCarryByTwiceTheRecentMean) {
  const struct {
    Ledger::Duration asked;
    Ledger::Duration bound;
  } rows[] = {
      {20us, 500us}, {250us, 500us}, {251us, 502us}, {5ms, 10ms}, {9500us, 19ms}, {10ms, 19ms}, {1s, 19ms},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.asked.count());
    Ledger overdrawn;
    Ledger owing;
    for (int i = 0; i < 10; ++i) {
      overdrawn.settle(row.asked, row.asked + 1s);
      owing.settle(row.asked, row.asked - 1s);
    }
    EXPECT_EQ(overdrawn.carry(), -row.bound);
    EXPECT_EQ(owing.carry(), row.bound);
  }
}

TEST(Ledger, TightensTheBoundWhenBurnsBecomeSmall) {
  Ledger ledger;
  ledger.settle(100ms, 200ms);
  EXPECT_EQ(ledger.carry(), -19ms);
  for (int i = 0; i < 200; ++i) ledger.settle(100us, 100us);
  EXPECT_EQ(ledger.carry(), -500us);
}

TEST(Ledger, KeepsTheSumWithinOneErrorOfWhatWasAsked) {
  Ledger ledger;
  Ledger::Duration asked{};
  Ledger::Duration burned{};
  for (int i = 0; i < 1000; ++i) {
    const auto late = 1us * (i % 7);
    const auto now = ledger.begin(1ms, 0us) + late;
    ledger.settle(1ms, now);
    asked += 1ms;
    burned += now;
    ASSERT_LE(std::abs((burned - asked).count()), 7000);
  }
}

}  // namespace
}  // namespace kiln::burn
