#include "burn/hold_control.h"

#include <gtest/gtest.h>

namespace kiln::burn {
namespace {

using namespace std::chrono_literals;
using Duration = HoldControl::Duration;

TEST(HoldControl, HoldsItsShareTickByTick) {
  HoldControl control;
  control.begin(1s, 0ns);
  Duration burned{};
  for (int tick = 1; tick <= 100; ++tick) {
    const Duration due = control.due(1s + tick * 10ms, 0.25, 0ns);
    EXPECT_GT(due, 2400us);
    EXPECT_LT(due, 2600us);
    const Duration late = 3us * (tick % 20);
    control.burned(due + late);
    burned += due + late;
  }
  EXPECT_NEAR(static_cast<double>(burned.count()), 250e6, 60e3);
}

TEST(HoldControl, MakesUpForALateTickButNotForAStall) {
  for (const auto& [stall, expected] : {std::pair{24ms, 24ms * 0.5},
                                        {26ms, 25ms * 0.5},
                                        {99ms, 25ms * 0.5},
                                        {100ms, 10ms * 0.5},
                                        {6000ms, 10ms * 0.5}}) {
    HoldControl control;
    control.begin(0s, 0ns);
    EXPECT_EQ(control.due(Duration(stall), 0.5, 0ns), std::chrono::duration_cast<Duration>(expected));
  }
}

TEST(HoldControl, DoesNotWindUpWhileItIsStarved) {
  HoldControl control;
  control.begin(0s, 0ns);
  Duration now{};
  for (int tick = 0; tick < 60; ++tick) {  // gets a tenth of what it wants
    now += 100ms;
    control.burned(control.due(now, 0.25, 0ns) / 10);
  }
  Duration burned{};
  for (int tick = 0; tick < 100; ++tick) {
    now += 10ms;
    const Duration due = control.due(now, 0.25, 0ns);
    burned += due;
    control.burned(due);
  }
  EXPECT_LE(burned, 250ms * 1.02);
  EXPECT_GE(burned, 250ms);
}

TEST(HoldControl, FillsUpWhatOthersLeave) {
  HoldControl control;
  control.begin(0s, 7s);
  EXPECT_EQ(control.due(10ms, 0.4, 7s + 1ms), 3ms);
  control.burned(3ms);
  EXPECT_EQ(control.due(20ms, 0.4, 7s + 11ms), 0ms);
  EXPECT_EQ(control.due(30ms, 0.4, 7s + 11ms), 0ms);
  EXPECT_EQ(control.due(40ms, 0.4, 7s + 11ms), 2ms) << "what they spent too much comes off the next ticks";
}

TEST(HoldControl, ForgetsOthersOverspendingAfterASecondsWorth) {
  HoldControl control;
  control.begin(0s, 0s);
  EXPECT_EQ(control.due(10ms, 0.1, 60s), 0ms);
  EXPECT_EQ(control.due(1010ms, 0.1, 60s), 0ms);
  EXPECT_EQ(control.due(1020ms, 0.1, 60s), 1ms);
}

TEST(HoldControl, FollowsAChangedShareAtOnce) {
  HoldControl control;
  control.begin(0s, 0s);
  control.burned(control.due(10ms, 0.9, 0ns));
  EXPECT_EQ(control.due(20ms, 0.1, 0ns), 1ms);
}

}  // namespace
}  // namespace kiln::burn
