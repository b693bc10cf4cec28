#include "burn/burner.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <functional>
#include <future>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace kiln::burn {
namespace {

using namespace std::chrono_literals;

// A machine where one iteration takes one nanosecond, a look at the CPU clock half a microsecond, and where a script
// may step in before each chunk. Both clocks move only when the burner's thread does something.
class ScriptedClocks : public Clocks {
 public:
  // On the burner's thread; set before the burner exists.
  std::function<void(int chunk)> before_chunk = [](int) {};
  std::atomic<bool> cpu_stands_still{false};
  std::atomic<bool> wall_stands_still{false};
  Duration tick{1};

  Duration cpu() override {
    pass(500ns);
    return Duration(cpu_.load() / tick.count() * tick.count());
  }
  Duration wall() override { return Duration(wall_.load()); }
  void work(uint64_t iterations) override {
    before_chunk(chunks_++);
    pass(Duration(iterations));
  }
  void wait(std::condition_variable& wake, std::unique_lock<std::mutex>& lock, Duration until) override {
    wake.wait_for(lock, 0s);
    if (until > wall()) starve(until - wall());
  }

  void pass(Duration time) {
    if (!cpu_stands_still) cpu_ += time.count();
    starve(time);
  }
  void starve(Duration time) {
    if (!wall_stands_still) wall_ += time.count();
  }
  void turn_back(Duration time) { cpu_ -= time.count(); }

 private:
  std::atomic<Duration::rep> cpu_{1'000'000'000};
  std::atomic<Duration::rep> wall_{5'000'000'000};
  int chunks_ = 0;
};

// Holds the burner's thread in the middle of a burn until the test opens it.
class Gate {
 public:
  void pass() {
    entered_.set_value();
    opened_.get_future().wait();
  }
  void wait_until_entered() { entered_.get_future().wait(); }
  void open() { opened_.set_value(); }

 private:
  std::promise<void> entered_;
  std::promise<void> opened_;
};

// Results in the order in which they came.
class Results {
 public:
  struct Entry {
    std::string name;
    BurnResult result;
  };

  Burner::Done keep(std::string name = "") {
    return [this, name = std::move(name)](const BurnResult& result) {
      const std::lock_guard lock(mutex_);
      entries_.push_back({name, result});
      came_.notify_all();
    };
  }
  std::vector<Entry> wait(size_t count) {
    std::unique_lock lock(mutex_);
    came_.wait(lock, [&] { return entries_.size() >= count; });
    return entries_;
  }
  std::string names(size_t count) {
    std::string names;
    for (const Entry& entry : wait(count)) names += entry.name;
    return names;
  }

 private:
  std::mutex mutex_;
  std::condition_variable came_;
  std::vector<Entry> entries_;
};

BurnResult burn_once(Burner& burner, Duration cpu) {
  Results results;
  EXPECT_TRUE(burner.submit(cpu, results.keep()));
  return results.wait(1).front().result;
}

TEST(Burner, BurnsWhatWasAsked) {
  for (const Duration asked : {1ns, 1000ns, 20'000ns, 100'000ns, 1'000'000ns, 5'000'000ns, 100'000'000ns}) {
    SCOPED_TRACE(asked.count());
    ScriptedClocks clocks;
    Burner burner({.clocks = &clocks});
    const BurnResult result = burn_once(burner, asked);
    EXPECT_EQ(result.outcome, Outcome::Done);
    EXPECT_EQ(result.requested, asked);
    EXPECT_GE(result.burned, asked);
    EXPECT_LE(result.burned, asked + 2us) << "the last chunk is cut to what is left";
    EXPECT_EQ(result.carried, asked - result.burned);
    EXPECT_GE(result.wall, result.burned);
    EXPECT_EQ(burner.asked_total(), asked);
    EXPECT_EQ(burner.burned_total(), result.burned);
    EXPECT_EQ(burner.waiting(), 0ns);
  }
}

TEST(Burner, LooksAtTheClockEveryFiveToTwentyFiveMicrosecondsOnceItKnowsThePace) {
  ScriptedClocks clocks;
  Duration last{};
  Duration shortest = Duration::max();
  Duration longest{};
  clocks.before_chunk = [&](int chunk) {
    const Duration now = clocks.wall();
    if (chunk > 200 && chunk < 1000) {
      shortest = std::min(shortest, now - last);
      longest = std::max(longest, now - last);
    }
    last = now;
  };
  Burner burner({.clocks = &clocks});
  burn_once(burner, 100ms);
  EXPECT_GE(shortest, 5us);
  EXPECT_LE(longest, 25us);
}

TEST(Burner, CarriesErrorsFromBurnToBurn) {
  ScriptedClocks clocks;
  clocks.before_chunk = [&](int chunk) {
    if (chunk % 10 == 0) clocks.pass(37us);
  };
  Burner burner({.clocks = &clocks});
  Duration asked{};
  Duration burned{};
  Duration owed{};
  for (int i = 0; i < 200; ++i) {
    const Duration now = 100us * (1 + i % 5);
    const BurnResult result = burn_once(burner, now);
    ASSERT_GE(result.burned, now + owed) << i;
    asked += now;
    burned += result.burned;
    owed += result.carried;
    ASSERT_EQ(owed, asked - burned);
    ASSERT_LE(owed, 0ns) << i;
    ASSERT_GE(owed, -60us) << "one late look, not " << i << " of them";
  }
}

TEST(Burner, BurnsNothingWhenTheCarryHasPaidAlready) {
  ScriptedClocks clocks;
  clocks.before_chunk = [&](int chunk) {
    if (chunk == 3) clocks.pass(8ms);
  };
  Burner burner({.clocks = &clocks});
  EXPECT_GE(burn_once(burner, 5ms).burned, 8ms);
  const BurnResult paid = burn_once(burner, 1ms);
  EXPECT_EQ(paid.outcome, Outcome::Done);
  EXPECT_EQ(paid.burned, 0ns);
  EXPECT_EQ(paid.carried, 1ms);
  EXPECT_LT(burn_once(burner, 5ms).burned, 4ms);
}

TEST(Burner, IsNotFooledByStarvation) {
  ScriptedClocks clocks;
  clocks.before_chunk = [&](int chunk) {
    if (chunk % 100 == 50) clocks.starve(6s);
  };
  Burner burner({.clocks = &clocks});
  const BurnResult result = burn_once(burner, 10ms);
  EXPECT_EQ(result.outcome, Outcome::Done);
  EXPECT_LE(result.burned, 10ms + 2us);
  EXPECT_GE(result.wall, 6s);
}

TEST(Burner, GivesUpWhenTheCpuClockStandsStill) {
  enum class Fault { CpuFromTheStart, CpuLater, CpuBackwards, CpuAndWall };
  const struct {
    const char* name;
    Fault fault;
  } rows[] = {{"from the start", Fault::CpuFromTheStart},
              {"in the middle", Fault::CpuLater},
              {"turned back first", Fault::CpuBackwards},
              {"and so does the wall clock", Fault::CpuAndWall}};
  for (const auto& row : rows) {
    SCOPED_TRACE(row.name);
    ScriptedClocks clocks;
    clocks.before_chunk = [&](int chunk) {
      const int from = row.fault == Fault::CpuFromTheStart || row.fault == Fault::CpuAndWall ? 0 : 20;
      if (chunk == from && row.fault == Fault::CpuBackwards) clocks.turn_back(1s);
      if (chunk == from) clocks.cpu_stands_still = true;
      if (chunk == from) clocks.wall_stands_still = row.fault == Fault::CpuAndWall;
    };
    Burner burner({.clocks = &clocks});
    const BurnResult stuck = burn_once(burner, 100ms);
    EXPECT_EQ(stuck.outcome, Outcome::ClockStuck);
    EXPECT_LT(stuck.burned, 1ms);
    EXPECT_EQ(stuck.carried, 0ns);
    EXPECT_LT(stuck.wall, 5s);
    EXPECT_EQ(burner.waiting(), 0ns);
    EXPECT_EQ(burner.asked_total(), stuck.burned);

    clocks.cpu_stands_still = false;
    clocks.wall_stands_still = false;
    const BurnResult next = burn_once(burner, 5ms);
    EXPECT_EQ(next.outcome, Outcome::Done);
    EXPECT_GE(next.burned, 5ms);
    EXPECT_LE(next.burned, 5ms + 150us) << "a stuck clock leaves no debt, and little of a wrong pace";
  }
}

TEST(Burner, ToleratesAClockThatMovesInTicks) {
  ScriptedClocks clocks;
  clocks.tick = 10ms;
  Burner burner({.clocks = &clocks});
  const BurnResult result = burn_once(burner, 25ms);
  EXPECT_EQ(result.outcome, Outcome::Done);
  EXPECT_EQ(result.burned, 30ms);
}

TEST(Burner, ServesInOrder) {
  ScriptedClocks clocks;
  Gate gate;
  clocks.before_chunk = [&](int chunk) {
    if (chunk == 0) gate.pass();
  };
  Results results;
  Burner burner({.clocks = &clocks});
  burner.submit(3ms, results.keep("a"));
  gate.wait_until_entered();
  burner.submit(2ms, results.keep("b"));
  burner.submit(1ms, results.keep("c"));
  EXPECT_EQ(burner.waiting(), 6ms);
  gate.open();
  EXPECT_EQ(results.names(3), "abc");
  const auto entries = results.wait(3);
  EXPECT_LE(entries[0].result.queued, 1us);
  EXPECT_GE(entries[1].result.queued, 3ms);
  EXPECT_GE(entries[2].result.queued, 5ms - 5us);
  EXPECT_EQ(burner.waiting(), 0ns);
}

TEST(Burner, FinishesABurnOfNothingDuringAnother) {
  ScriptedClocks clocks;
  Gate gate;
  clocks.before_chunk = [&](int chunk) {
    if (chunk == 0) gate.pass();
  };
  Results results;
  Burner burner({.clocks = &clocks});
  burner.submit(3ms, results.keep("long "));
  gate.wait_until_entered();
  burner.submit(0ms, results.keep("nothing "));
  gate.open();
  EXPECT_EQ(results.names(2), "nothing long ");
  const BurnResult nothing = results.wait(2).front().result;
  EXPECT_EQ(nothing.outcome, Outcome::Done);
  EXPECT_EQ(nothing.burned, 0ns);
  EXPECT_EQ(nothing.carried, 0ns);
}

TEST(Burner, CancelsWaitingBurnsWhileAnotherRuns) {
  ScriptedClocks clocks;
  Gate gate;
  clocks.before_chunk = [&](int chunk) {
    if (chunk == 0) gate.pass();
  };
  Results results;
  Burner burner({.clocks = &clocks});
  burner.submit(3ms, results.keep("a"));
  gate.wait_until_entered();
  burner.submit(2ms, results.keep("b"));
  const auto c = burner.submit(1ms, results.keep("c"));
  burner.submit(1ms, results.keep("d"));
  burner.cancel(c.value());
  burner.cancel(c.value());
  burner.cancel(12345);
  EXPECT_EQ(burner.waiting(), 6ms);
  gate.open();
  EXPECT_EQ(results.names(4), "cabd");
  const BurnResult cancelled = results.wait(4).front().result;
  EXPECT_EQ(cancelled.outcome, Outcome::Cancelled);
  EXPECT_EQ(cancelled.requested, 1ms);
  EXPECT_EQ(cancelled.burned, 0ns);
  EXPECT_EQ(burner.asked_total(), 6ms);
}

TEST(Burner, CancelsARunningBurnWithinASliceAndForgivesItsRest) {
  ScriptedClocks clocks;
  Gate gate;
  clocks.before_chunk = [&](int chunk) {
    if (chunk == 100) gate.pass();
  };
  Results results;
  Burner burner({.clocks = &clocks});
  const auto id = burner.submit(1s, results.keep());
  gate.wait_until_entered();
  const Duration burned_before = burner.burned_total();
  EXPECT_EQ(burner.waiting(), 1s - burned_before);
  burner.cancel(id.value());
  gate.open();
  const BurnResult cancelled = results.wait(1).front().result;
  EXPECT_EQ(cancelled.outcome, Outcome::Cancelled);
  EXPECT_LE(cancelled.burned, burned_before + 1ms);
  EXPECT_EQ(cancelled.carried, 0ns);
  EXPECT_EQ(burner.waiting(), 0ns);
  EXPECT_EQ(burner.asked_total(), cancelled.burned);
  EXPECT_EQ(burner.burned_total(), cancelled.burned);

  burner.cancel(id.value());
  EXPECT_LE(burn_once(burner, 5ms).burned, 5ms + 2us);
}

TEST(Burner, BoundsWhatWaitsInCpuTime) {
  const struct {
    const char* name;
    Duration second;
    bool admitted;
  } rows[] = {{"one less than the most", 4ms - 1ns, true},
              {"the most", 4ms, true},
              {"one more than the most", 4ms + 1ns, false}};
  for (const auto& row : rows) {
    SCOPED_TRACE(row.name);
    ScriptedClocks clocks;
    Gate gate;
    clocks.before_chunk = [&](int chunk) {
      if (chunk == 0) gate.pass();
    };
    Results results;
    Burner burner({.queue_max = 10ms, .clocks = &clocks});
    burner.submit(6ms, results.keep("a"));
    gate.wait_until_entered();
    EXPECT_EQ(burner.submit(row.second, results.keep("b")).has_value(), row.admitted);
    EXPECT_EQ(burner.refused_total(), row.admitted ? 0u : 1u);
    EXPECT_TRUE(burner.submit(0ms, results.keep("0"))) << "nothing always fits";
    gate.open();
    EXPECT_EQ(results.names(row.admitted ? 3 : 2), row.admitted ? "0ab" : "0a");
  }
}

TEST(Burner, SaysBeforehandThatItsQueueIsFull) {
  for (const auto& [waiting, is_full] : {std::pair(10ms - 1ns, false), {10ms, true}, {10ms + 1ns, true}}) {
    SCOPED_TRACE(waiting.count());
    ScriptedClocks clocks;
    Gate gate;
    clocks.before_chunk = [&](int chunk) {
      if (chunk == 0) gate.pass();
    };
    Results results;
    Burner burner({.queue_max = 10ms, .clocks = &clocks});
    EXPECT_FALSE(burner.refuses());
    burner.submit(waiting, results.keep("a"));
    gate.wait_until_entered();
    EXPECT_EQ(burner.refuses(), is_full);
    EXPECT_EQ(burner.refused_total(), is_full ? 1U : 0U);
    gate.open();
    burner.stop();
  }
  Burner none({.queue_max = {}});
  EXPECT_FALSE(none.refuses()) << "nothing waits: a burn alone is always admitted";
}

TEST(Burner, AdmitsALargeBurnAlone) {
  ScriptedClocks clocks;
  Gate gate;
  clocks.before_chunk = [&](int chunk) {
    if (chunk == 0) gate.pass();
  };
  Results results;
  Burner burner({.queue_max = 10ms, .clocks = &clocks});
  EXPECT_TRUE(burner.submit(50ms, results.keep("a")));
  gate.wait_until_entered();
  EXPECT_FALSE(burner.submit(1ns, results.keep("b")));
  gate.open();
  EXPECT_EQ(results.names(1), "a");
  EXPECT_TRUE(burner.submit(50ms, results.keep("c")));
  EXPECT_EQ(results.names(2), "ac");
}

TEST(Burner, LetsACallbackSubmitAndCancel) {
  ScriptedClocks clocks;
  Results results;
  Burner burner({.clocks = &clocks});
  burner.submit(1ms, [&](const BurnResult&) {
    const auto unwanted = burner.submit(1h, results.keep("unwanted "));
    burner.cancel(unwanted.value());
    burner.submit(1ms, results.keep("wanted "));
  });
  EXPECT_EQ(results.names(2), "unwanted wanted ");
}

TEST(Burner, StopCancelsEverythingAndCallsEachBackOnce) {
  ScriptedClocks clocks;
  Gate gate;
  clocks.before_chunk = [&](int chunk) {
    if (chunk == 0) gate.pass();
  };
  Results results;
  Burner burner({.clocks = &clocks});
  burner.submit(500ms, results.keep("a"));
  gate.wait_until_entered();
  burner.submit(1ms, results.keep("b"));
  burner.submit(1ms, results.keep("c"));
  std::thread opener([&] {
    // stop() has begun once a submit is turned away.
    while (burner.submit(0ms, [](const BurnResult&) {})) std::this_thread::yield();
    gate.open();
  });
  burner.stop();
  opener.join();
  EXPECT_EQ(results.names(3), "abc");
  for (const auto& entry : results.wait(3)) EXPECT_EQ(entry.result.outcome, Outcome::Cancelled) << entry.name;
  EXPECT_EQ(results.wait(3).size(), 3u);
  EXPECT_EQ(burner.waiting(), 0ns);
  EXPECT_FALSE(burner.submit(1ms, results.keep("late")));
  burner.stop();
}

// --- Budgets that include serving
// ---------------------------------------------------------------------------------------

TEST(Burner, TakesServingOffTheBudgetsThatIncludeIt) {
  ScriptedClocks clocks;
  Books books(1);
  Account& account = books.account(0);
  Results results;
  Burner burner({.books = &books, .clocks = &clocks});
  const auto ask = [&](Duration cpu, Serving serving) {
    std::promise<BurnResult> result;
    burner.submit({.cpu = cpu, .serving = serving}, [&](const BurnResult& r) {
      clocks.pass(20us);  // handing over costs the thread something
      result.set_value(r);
    });
    return result.get_future().get();
  };
  Duration asked{};
  for (int i = 0; i < 500; ++i) {
    const Duration cpu = 200us * (1 + i % 7);
    const BurnResult result = ask(cpu, Serving::Included);
    asked += cpu;
    ASSERT_EQ(result.requested, cpu);
    ASSERT_EQ(result.requested, result.burned + result.paid + result.carried);
    if (i > 0) {
      ASSERT_GE(result.paid, 20us);
    }
    account.paid_by_loop.add(15us);  // as the loop does for each answer
    ask(1ms, Serving::OnTop);        // neither pays nor is paid for
  }
  const Duration included = account.burned.get() - 500ms;
  EXPECT_NEAR(static_cast<double>((included + books.paid()).count()), static_cast<double>(asked.count()), 600e3);
  EXPECT_EQ(account.asked.get(), asked + 500ms);
}

TEST(Burner, BurnsNothingWhereServingTakesAllOfTheBudget) {
  ScriptedClocks clocks;
  Books books(1);
  Burner burner({.books = &books, .clocks = &clocks});
  Results results;
  for (int i = 0; i < 100; ++i) {
    burner.submit({.cpu = 10us, .serving = Serving::Included}, [&](const BurnResult& result) {
      clocks.pass(40us);
      results.keep()(result);
    });
  }
  const auto small = results.wait(100);
  EXPECT_EQ(small.back().result.burned, 0ns);
  EXPECT_EQ(small.back().result.paid, 10us);
  // The debt of the small ones is not collected from a large one.
  burner.submit({.cpu = 5ms, .serving = Serving::Included}, results.keep());
  const BurnResult large = results.wait(101).back().result;
  EXPECT_NEAR(static_cast<double>((large.burned + large.paid).count()), 5e6, 60e3);
}

// --- Units
// ------------------------------------------------------------------------------------------------------------

TEST(Burner, DoesAFixedAmountOfWorkWhateverTimeItTakes) {
  ScriptedClocks clocks;
  Books books(1);
  Burner burner({.books = &books, .clocks = &clocks});
  Results results;
  burn_once(burner, 5ms);  // to know the pace: an iteration takes 1 ns, and a look at the clock 3 % more
  EXPECT_NEAR(burner.units_a_second(), 0.97e9, 0.05e9);
  EXPECT_NEAR(static_cast<double>(burner.time_of(1'000'000).count()), 1e6, 60e3);
  burner.submit({.units = 1'000'000}, results.keep());
  const BurnResult result = results.wait(1).front().result;
  EXPECT_EQ(result.outcome, Outcome::Done);
  EXPECT_GE(result.burned, 1ms);
  EXPECT_LE(result.burned, 1100us);
  EXPECT_EQ(result.requested, result.burned);
  EXPECT_EQ(result.carried, 0ns);
  EXPECT_EQ(burner.waiting(), 0ns);
  EXPECT_LE(burn_once(burner, 5ms).burned, 5ms + 2us) << "units leave no debt";
}

// --- Holds
// ------------------------------------------------------------------------------------------------------------

// Virtual time runs by itself while the burner ticks, and stands still when the hold is over.
void await_end(Burner& burner, Holds& holds, ScriptedClocks& clocks) {
  burner.wake();
  while (holds.target(Holds::TimePoint(clocks.wall())) > 0) std::this_thread::yield();
}

TEST(Burner, HoldsItsShareWithEverythingThatNoBudgetPaysForInside) {
  ScriptedClocks clocks;
  Books books(1);
  Holds holds;
  Burner burner({.books = &books, .holds = &holds, .clocks = &clocks});
  ASSERT_TRUE(holds.add(250, 4s, Holds::TimePoint(clocks.wall())));
  books.account(0).loop.add(100ms);  // what the loop did before does not count; what it does now would
  await_end(burner, holds, clocks);
  const Duration outside = books.outside() - 100ms;
  EXPECT_NEAR(static_cast<double>(outside.count()), 1e9, 5e6);
  EXPECT_LT(books.sum(&Account::held), outside);
}

TEST(Burner, PutsBurnsOfRequestsOnTopOfAHold) {
  ScriptedClocks clocks;
  Books books(1);
  Holds holds;
  Results results;
  Burner burner({.books = &books, .holds = &holds, .clocks = &clocks});
  ASSERT_TRUE(holds.add(400, 2s, Holds::TimePoint(clocks.wall())));
  // Some in a row, and some that find the burner holding.
  for (int i = 0; i < 8; ++i) burner.submit({.cpu = 50ms, .serving = Serving::Included}, results.keep());
  burner.wake();
  results.wait(8);
  for (int i = 0; i < 2; ++i) {
    burner.submit({.cpu = 50ms, .serving = Serving::Included}, results.keep());
    results.wait(9 + static_cast<size_t>(i));
  }
  await_end(burner, holds, clocks);
  for (const auto& entry : results.wait(10)) EXPECT_EQ(entry.result.outcome, Outcome::Done);
  EXPECT_NEAR(static_cast<double>((books.sum(&Account::burned) + books.paid()).count()), 500e6, 1e6);
  EXPECT_LT(books.paid(), 1ms) << "what a hold burns is no handing over";
  EXPECT_NEAR(static_cast<double>(books.outside().count()), 800e6, 5e6);
}

TEST(Burner, LetsBurnsThroughWhereAHoldAloneFillsTheCore) {
  ScriptedClocks clocks;
  Books books(1);
  Holds holds;
  Results results;
  Burner burner({.books = &books, .holds = &holds, .clocks = &clocks});
  ASSERT_TRUE(holds.add(3000, 5s, Holds::TimePoint(clocks.wall())));
  burner.wake();
  for (int i = 0; i < 10; ++i) burner.submit(5ms, results.keep());
  EXPECT_EQ(results.wait(10).size(), 10u);
}

TEST(Burner, HoldDoesNotMakeUpForAStall) {
  ScriptedClocks clocks;
  bool stalled = false;
  Duration end{};
  Books books(1);
  Duration held_before_end{};
  clocks.before_chunk = [&](int chunk) {
    if (chunk == 3000 && !std::exchange(stalled, true)) {
      clocks.starve(6s);
      end = clocks.wall() + 1s;
    }
    if (stalled && held_before_end == 0ns) held_before_end = books.sum(&Account::held);
  };
  Holds holds;
  Burner burner({.books = &books, .holds = &holds, .clocks = &clocks});
  const Duration start = clocks.wall();
  ASSERT_TRUE(holds.add(300, 8s, Holds::TimePoint(start)));
  await_end(burner, holds, clocks);
  const Duration after = books.sum(&Account::held) - held_before_end;
  const Duration rest = start + 8s - (end - 1s);
  EXPECT_LT(after, rest * 0.3 + 10ms);
  EXPECT_GT(after, rest * 0.3 - 10ms);
}

TEST(Burner, StopsAndCancelsPromptlyDuringAHold) {
  Holds holds;
  Books books(1);
  Results results;
  Burner burner({.books = &books, .holds = &holds});
  ASSERT_TRUE(holds.add(500, 1h, std::chrono::steady_clock::now()));
  burner.wake();
  const auto id = burner.submit(1h, results.keep());
  burner.cancel(id.value());
  EXPECT_EQ(results.wait(1).front().result.outcome, Outcome::Cancelled);
  burner.stop();
}

TEST(Burner, SurvivesManyThreadsAtOnce) {
  ScriptedClocks clocks;
  std::atomic<int> admitted{0};
  std::atomic<int> called{0};
  {
    Burner burner({.queue_max = 1s, .clocks = &clocks});
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        for (int i = 0; i < 500; ++i) {
          const auto id = burner.submit(10us * (i % 5), [&](const BurnResult&) { ++called; });
          if (!id) continue;
          ++admitted;
          if (i % 3 == t % 3) burner.cancel(*id);
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
  EXPECT_GT(admitted, 0);
  EXPECT_EQ(called, admitted);
}

TEST(Burner, RunsOnANamedThreadOfLowestPriorityThatTakesNoSignals) {
  const int nice_before = getpriority(PRIO_PROCESS, 0);
  struct Seen {
    std::string name;
    int nice = 0;
    int signals_open = 0;
  };
  std::promise<Seen> seen;
  Burner burner({});
  burner.submit(0ms, [&](const BurnResult&) {
    Seen now;
    char name[16] = "";
    pthread_getname_np(pthread_self(), name, sizeof name);
    now.name = name;
    now.nice = getpriority(PRIO_PROCESS, static_cast<id_t>(gettid()));
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, nullptr, &mask);
    for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGCHLD, SIGALRM}) {
      now.signals_open += sigismember(&mask, signal) == 0;
    }
    seen.set_value(now);
  });
  const Seen now = seen.get_future().get();
  EXPECT_EQ(now.name, "kiln-burn");
  EXPECT_EQ(now.nice, 19);
  EXPECT_EQ(now.signals_open, 0);
  EXPECT_EQ(getpriority(PRIO_PROCESS, 0), nice_before) << "only the burner's thread is nice";
}

struct Bill {
  Duration burned{};  // by the burner's own account
  Duration billed{};  // of its whole thread
};

Bill burn_by_the_real_clock(int burns, Duration each) {
  Bill bill;
  Duration before{};
  Results results;
  Burner burner({});
  burner.submit(0ms, [&](const BurnResult&) { before = thread_cpu_time(); });
  for (int i = 0; i + 1 < burns; ++i) burner.submit(each, results.keep());
  burner.submit(each, [&, done = results.keep()](const BurnResult& result) mutable {
    bill.billed = thread_cpu_time() - before;
    done(result);
  });
  results.wait(static_cast<size_t>(burns));
  bill.burned = burner.burned_total();
  return bill;
}

// A busy machine may spoil an attempt: what its interrupts and cold caches cost is billed, too.
TEST(Burner, IsExactByTheRealClock) {
  constexpr int kBurns = 20, kAttempts = 5;
  constexpr Duration kEach = 5ms;
  const double asked = static_cast<double>((kBurns * kEach).count());
  const auto off = [&](Duration time) { return std::abs(static_cast<double>(time.count()) / asked - 1); };
  Bill bill = burn_by_the_real_clock(kBurns, kEach);
  for (int i = 1; i < kAttempts && std::max(off(bill.burned), off(bill.billed)) > 0.02; ++i) {
    bill = burn_by_the_real_clock(kBurns, kEach);
  }
  EXPECT_LE(off(bill.burned), 0.02);
  EXPECT_LE(off(bill.billed), 0.02) << "the whole thread's bill";
}

}  // namespace
}  // namespace kiln::burn
