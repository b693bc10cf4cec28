#include "burn/burner.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
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
    EXPECT_EQ(burner.asked_total(), 0ns);

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
  EXPECT_EQ(entries[0].result.queued, 0ns);
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
  EXPECT_EQ(burner.asked_total(), 0ns);
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

TEST(Burner, IsExactByTheRealClock) {
  constexpr int kBurns = 20;
  constexpr Duration kEach = 5ms;
  Duration before{};
  Duration after{};
  Results results;
  Burner burner({});
  burner.submit(0ms, [&](const BurnResult&) { before = thread_cpu_time(); });
  for (int i = 0; i + 1 < kBurns; ++i) burner.submit(kEach, results.keep());
  burner.submit(kEach, [&, done = results.keep()](const BurnResult& result) mutable {
    after = thread_cpu_time();
    done(result);
  });
  results.wait(kBurns);
  const double asked = static_cast<double>((kBurns * kEach).count());
  EXPECT_NEAR(static_cast<double>(burner.burned_total().count()), asked, 0.02 * asked);
  EXPECT_NEAR(static_cast<double>((after - before).count()), asked, 0.02 * asked) << "the whole thread's bill";
}

}  // namespace
}  // namespace kiln::burn
