#include "core/timer_wheel.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <vector>

namespace kiln::core {
namespace {

using namespace std::chrono_literals;

constexpr TimePoint kStart{1000h};

// Expires and returns the slots visited; none is armed again.
std::vector<uint32_t> expire(TimerWheel& wheel, TimePoint now) {
  std::vector<uint32_t> visited;
  wheel.expire(now, [&](uint32_t slot) {
    visited.push_back(slot);
    return TimerWheel::kNever;
  });
  return visited;
}

TEST(TimerWheel, HasNothingToSayWhenNothingIsArmed) {
  TimerWheel wheel(kStart);
  EXPECT_FALSE(wheel.next().has_value());
  wheel.arm(3, TimerWheel::kNever);
  EXPECT_FALSE(wheel.next().has_value());
  EXPECT_TRUE(expire(wheel, kStart + 1h).empty());
}

TEST(TimerWheel, VisitsASlotOnceItsTickHasPassed) {
  TimerWheel wheel(kStart);
  wheel.arm(7, kStart + 250ms);
  EXPECT_EQ(wheel.next(), kStart + 300ms);
  EXPECT_TRUE(expire(wheel, kStart + 299ms).empty());
  EXPECT_EQ(expire(wheel, kStart + 300ms), std::vector<uint32_t>{7});
  EXPECT_FALSE(wheel.next().has_value());
}

TEST(TimerWheel, MovesEarlierAtOnceAndLaterLazily) {
  TimerWheel wheel(kStart);
  wheel.arm(1, kStart + 10s);
  wheel.arm(1, kStart + 1s);
  EXPECT_EQ(wheel.next(), kStart + 1100ms);
  wheel.arm(1, kStart + 20s);
  EXPECT_EQ(wheel.next(), kStart + 1100ms) << "a later deadline touches nothing";
  int visits = 0;
  wheel.expire(kStart + 2s, [&](uint32_t) {
    ++visits;
    return kStart + 20s;
  });
  EXPECT_EQ(visits, 1);
  EXPECT_EQ(wheel.next(), kStart + 20s + 100ms);
}

TEST(TimerWheel, ForgetsADisarmedSlot) {
  TimerWheel wheel(kStart);
  for (uint32_t slot = 0; slot < 3; ++slot) wheel.arm(slot, kStart + 1s);
  wheel.disarm(1);
  wheel.disarm(1);
  wheel.disarm(99);
  EXPECT_EQ(expire(wheel, kStart + 2s), (std::vector<uint32_t>{2, 0}));
}

TEST(TimerWheel, ReachesBeyondItsHorizon) {
  TimerWheel wheel(kStart);
  const TimePoint deadline = kStart + 1h;
  wheel.arm(0, deadline);
  TimePoint now = kStart;
  int visits = 0;
  bool expired = false;
  while (!expired) {
    ASSERT_TRUE(wheel.next().has_value());
    ASSERT_GT(*wheel.next(), now);
    now = *wheel.next();
    wheel.expire(now, [&](uint32_t) {
      ++visits;
      expired = now >= deadline;
      return expired ? TimerWheel::kNever : deadline;
    });
  }
  EXPECT_LE(now, deadline + 100ms);
  EXPECT_LT(visits, 50) << "a visit each turn of the wheel, not each tick";
}

TEST(TimerWheel, AgreesWithAMapOfDeadlines) {
  constexpr uint32_t kSlots = 40;
  std::mt19937 random(20240611);
  TimerWheel wheel(kStart);
  std::map<uint32_t, TimePoint> deadlines;
  TimePoint now = kStart;
  for (int step = 0; step < 100'000; ++step) {
    const auto slot = static_cast<uint32_t>(random() % kSlots);
    switch (random() % 4) {
      case 0:
      case 1: {
        const TimePoint deadline = now + std::chrono::milliseconds(random() % 200'000);
        deadlines[slot] = deadline;
        wheel.arm(slot, deadline);
        break;
      }
      case 2:
        deadlines.erase(slot);
        if (random() % 2 == 0) wheel.disarm(slot);  // or leave it to the visit
        break;
      case 3:
        now += std::chrono::milliseconds(random() % (random() % 100 == 0 ? 300'000 : 500));
        wheel.expire(now, [&](uint32_t visited) {
          const auto at = deadlines.find(visited);
          if (at == deadlines.end()) return TimerWheel::kNever;
          if (at->second > now) return at->second;
          deadlines.erase(at);
          return TimerWheel::kNever;
        });
        for (const auto& [left, deadline] : deadlines) {
          ASSERT_GT(deadline + TimerWheel::kTick, now) << "slot " << left << " was missed at step " << step;
        }
        break;
    }
    if (!deadlines.empty()) {
      ASSERT_TRUE(wheel.next().has_value());
      for (const auto& [left, deadline] : deadlines) {
        ASSERT_LE(*wheel.next(), std::max(deadline, now) + TimerWheel::kTick) << left;
      }
    }
  }
}

}  // namespace
}  // namespace kiln::core
