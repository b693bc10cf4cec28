#include "burn/serving_meter.h"

#include <gtest/gtest.h>

namespace kiln::burn {
namespace {

using namespace std::chrono_literals;

constexpr ServingMeter::TimePoint kNow{1h};

struct ServingMeterTest : testing::Test {
  ServingMeterTest() { meter.begin(1s); }

  ServingMeter::Shares settle(ServingMeter::Duration cost) { return meter.settle(kNow, cpu += cost); }

  ServingMeter::Duration cpu = 1s;
  Account account;
  ServingMeter meter{account};
};

TEST_F(ServingMeterTest, SharesATurnOverWhatItServed) {
  meter.receive(7);
  meter.serve();
  meter.receive(9);
  const auto shares = settle(40us);
  EXPECT_EQ(shares.received, (std::vector<uint64_t>{7, 9}));
  EXPECT_EQ(shares.each, 10us);
  EXPECT_EQ(account.loop.get(), 40us);
  EXPECT_EQ(account.paid_by_loop.get(), 0us) << "nobody has been answered";

  meter.answer({.asked = 5ms, .paid = 0us, .received = 10us});
  EXPECT_TRUE(settle(15us).received.empty());
  EXPECT_EQ(account.paid_by_loop.get(), 25us);
}

TEST_F(ServingMeterTest, CollectsNoMoreThanTheBudgetOfTheRequestItself) {
  meter.answer({.asked = 20us, .paid = 15us, .received = 10us});
  settle(30us);
  EXPECT_EQ(account.paid_by_loop.get(), 5us);
  meter.answer({.asked = 20us, .paid = 25us, .received = 10us});
  settle(30us);
  EXPECT_EQ(account.paid_by_loop.get(), 5us);
  meter.answer({.asked = 0us, .paid = 0us, .received = 10us});
  settle(30us);
  EXPECT_EQ(account.paid_by_loop.get(), 5us);
}

TEST_F(ServingMeterTest, MakesUpForAnInterruptedTurnFromRequestsOfItsSize) {
  meter.answer({.asked = 100us});
  settle(250us);  // 150 too much
  for (int i = 0; i < 5; ++i) {
    meter.answer({.asked = 200us});
    settle(160us);
  }
  EXPECT_EQ(account.paid_by_loop.get(), 100us + 5 * 160us + 150us);
}

TEST_F(ServingMeterTest, TakesNothingFromALargeRequestForManySmallOnes) {
  for (int i = 0; i < 1000; ++i) {
    meter.answer({.asked = 20us});
    settle(50us);
  }
  EXPECT_EQ(account.paid_by_loop.get(), 20ms);
  meter.answer({.asked = 5ms});
  settle(50us);
  EXPECT_EQ(account.paid_by_loop.get(), 20ms + 50us);
  // And little from those that are hardly larger.
  for (int i = 0; i < 100; ++i) {
    meter.answer({.asked = 40us});
    settle(10us);
  }
  EXPECT_EQ(account.paid_by_loop.get(), 20ms + 50us + 1ms + 500us);
}

TEST_F(ServingMeterTest, LeavesTheCostOfATurnForNobodyToTheNext) {
  settle(30us);
  settle(10us);
  meter.receive(1);
  EXPECT_EQ(settle(20us).each, 60us);
  EXPECT_EQ(account.loop.get(), 60us);
  EXPECT_EQ(account.background.get(), 0us);
}

TEST_F(ServingMeterTest, KeepsThePodsOwnWorkApart) {
  meter.work_for_nobody(25us);
  meter.receive(1);
  EXPECT_EQ(settle(35us).each, 10us) << "beside a request only the work itself is apart";
  EXPECT_EQ(account.background.get(), 25us);

  meter.work_for_nobody(25us);
  settle(40us);
  EXPECT_EQ(account.background.get(), 65us) << "alone, the wake-up too";
  meter.receive(1);
  EXPECT_EQ(settle(10us).each, 10us);
}

TEST_F(ServingMeterTest, ReadsTheClockAtOnceForPayingRequestsAndNowAndThenForOthers) {
  settle(1us);
  EXPECT_FALSE(meter.due(kNow));
  meter.serve();
  EXPECT_FALSE(meter.due(kNow + 99us));
  EXPECT_TRUE(meter.due(kNow + 100us));
  meter.receive(1);
  EXPECT_TRUE(meter.due(kNow));
  settle(1us);
  EXPECT_FALSE(meter.due(kNow));
  meter.answer({.asked = 1us});
  EXPECT_TRUE(meter.due(kNow));
}

}  // namespace
}  // namespace kiln::burn
