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
  ServingMeter meter{account, 3};
};

TEST_F(ServingMeterTest, SharesATurnOverWhatItServed) {
  meter.receive(7);
  meter.serve(1);
  meter.receive(9);
  const auto shares = settle(40us);
  EXPECT_EQ(shares.received, (std::vector<uint64_t>{7, 9}));
  EXPECT_EQ(shares.each, 10us);
  EXPECT_EQ(account.loop.get(), 40us);
  EXPECT_EQ(account.paid_by_loop.get(), 0us) << "nobody has been answered";

  meter.answer({.route = 2, .asked = 5ms, .paid = 3us, .received = 10us});
  EXPECT_TRUE(settle(15us).received.empty());
  EXPECT_EQ(account.paid_by_loop.get(), 25us);
  EXPECT_EQ(meter.cost_of(1).extra.get(), 20us);
  EXPECT_EQ(meter.cost_of(2).budget.get(), 28us) << "what the burner took of it included";
  EXPECT_EQ(meter.cost_of(2).extra.get(), 0us);
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
  EXPECT_EQ(meter.cost_of(0).extra.get(), 30ms - 500us);
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
}

TEST_F(ServingMeterTest, KeepsThePodsOwnWorkApart) {
  meter.work_for_nobody(25us);
  meter.receive(1);
  EXPECT_EQ(settle(35us).each, 10us) << "beside a request only the work itself is apart";

  meter.work_for_nobody(25us);
  settle(40us);
  meter.receive(1);
  EXPECT_EQ(settle(10us).each, 10us) << "alone, the wake-up too";
  EXPECT_EQ(account.loop.get(), 85us);
}

TEST_F(ServingMeterTest, ReadsTheClockAtOnceForPayingRequestsAndNowAndThenForOthers) {
  settle(1us);
  EXPECT_FALSE(meter.due(kNow));
  meter.serve(1);
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
