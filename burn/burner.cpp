#include "burn/burner.h"

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace kiln::burn {
namespace {

using namespace std::chrono_literals;

// Between two looks at the clock. A look costs 0.1 to 0.5 us of system call, so 15 us make it a few percent of the
// burn, which is billed and counted like the rest of it.
constexpr Duration kChunk = 15us;

class RealClocks final : public Clocks {
 public:
  Duration cpu() override { return thread_cpu_time(); }
  Duration wall() override { return std::chrono::steady_clock::now().time_since_epoch(); }
  void work(uint64_t iterations) override { burn::work(iterations); }
};

Clocks& real_clocks() {
  static RealClocks clocks;
  return clocks;
}

// Notices a CPU clock that stands still although the thread works. Some clocks move in ticks of up to 10 ms; and wall
// time alone says nothing, since a thread that is throttled or stopped does not work either. So both must have gone by,
// unless the wall clock stands still too.
class Standstill {
 public:
  void end() { looks_ = 0; }

  // After each look at a clock that did not move: true when it is not going to.
  bool lasts(Clocks& clocks) {
    constexpr int kLooksMin = 4096;
    constexpr int kLooksMax = 200'000;
    constexpr Duration kWall = 100ms;
    if (looks_++ == 0) since_ = clocks.wall();
    if (looks_ >= kLooksMax) return true;
    return looks_ >= kLooksMin && looks_ % 64 == 0 && clocks.wall() - since_ >= kWall;
  }

 private:
  int looks_ = 0;
  Duration since_{};
};

// Linux keeps the nice value by thread (setpriority(2), "C library/kernel differences"), and everybody may raise it.
// Should a sandbox refuse, the burner is less polite but no less exact.
void become_background() {
  pthread_setname_np(pthread_self(), "kiln-burn");
  static_cast<void>(setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), 19));
}

}  // namespace

Burner::Burner(Options options)
    : clocks_(options.clocks != nullptr ? *options.clocks : real_clocks()),
      queue_max_(options.queue_max),
      waiting_together_(options.waiting_together) {
  // A thread starts with its creator's signal mask (pthread_sigmask(3)): with all blocked, a signal to the process
  // never lands here, not even before the thread's first line.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Burner::~Burner() { stop(); }

std::optional<Burner::Id> Burner::submit(Duration cpu, Done done) {
  CHECK(cpu >= Duration(0));
  const Duration now = clocks_.wall();
  Id id = 0;
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return std::nullopt;
    if (!admit(cpu)) {
      refused_.fetch_add(1, std::memory_order_relaxed);
      return std::nullopt;
    }
    id = next_id_++;
    Job job{id, cpu, now, std::move(done)};
    if (cpu > Duration(0)) {
      jobs_.push_back(std::move(job));
    } else {
      unburned_.push_back({std::move(job), Outcome::Done});
      attention_.store(true, std::memory_order_relaxed);
    }
  }
  wake_.notify_one();
  return id;
}

// Counts first and looks afterwards, so that two burners never admit into the same room.
bool Burner::admit(Duration cpu) {
  const std::atomic<Duration::rep>& waiting = waiting_together_ != nullptr ? *waiting_together_ : waiting_;
  account_waiting(cpu);
  const Duration before = Duration(waiting.load(std::memory_order_relaxed)) - cpu;
  if (cpu == Duration(0) || before <= Duration(0) || cpu <= queue_max_ - before) return true;
  account_waiting(-cpu);
  return false;
}

void Burner::account_waiting(Duration change) {
  waiting_.fetch_add(change.count(), std::memory_order_relaxed);
  if (waiting_together_ != nullptr) waiting_together_->fetch_add(change.count(), std::memory_order_relaxed);
}

void Burner::cancel(Id id) {
  {
    const std::lock_guard lock(mutex_);
    if (id == running_) {
      running_ends_ = true;
    } else {
      const auto job = std::ranges::lower_bound(jobs_, id, {}, &Job::id);
      if (job == jobs_.end() || job->id != id) return;
      account_waiting(-job->cpu);
      unburned_.push_back({std::move(*job), Outcome::Cancelled});
      jobs_.erase(job);
    }
    attention_.store(true, std::memory_order_relaxed);
  }
  wake_.notify_one();
}

void Burner::wake() {
  {
    const std::lock_guard lock(mutex_);
    attention_.store(true, std::memory_order_relaxed);
  }
  wake_.notify_one();
}

void Burner::stop() {
  CHECK(std::this_thread::get_id() != thread_.get_id());
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    attention_.store(true, std::memory_order_relaxed);
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
}

Duration Burner::waiting() const { return Duration(waiting_.load(std::memory_order_relaxed)); }
Duration Burner::asked_total() const { return Duration(asked_.load(std::memory_order_relaxed)); }
Duration Burner::burned_total() const { return Duration(burned_.load(std::memory_order_relaxed)); }
uint64_t Burner::refused_total() const { return refused_.load(std::memory_order_relaxed); }

void Burner::run() {
  become_background();
  std::unique_lock lock(mutex_);
  for (;;) {
    running_ = 0;
    wake_.wait(lock, [this] { return stopping_ || !jobs_.empty() || !unburned_.empty(); });
    if (stopping_) {
      for (Job& job : jobs_) {
        account_waiting(-job.cpu);
        unburned_.push_back({std::move(job), Outcome::Cancelled});
      }
      jobs_.clear();
    }
    if (!unburned_.empty()) {
      auto unburned = std::exchange(unburned_, {});
      lock.unlock();
      finish_unburned(std::move(unburned));
      lock.lock();
      continue;
    }
    if (stopping_) return;

    Job job = std::move(jobs_.front());
    jobs_.pop_front();
    running_ = job.id;
    running_ends_ = false;
    lock.unlock();
    const BurnResult result = burn(job);
    job.done(result);
    lock.lock();
  }
}

BurnResult Burner::burn(const Job& job) {
  const Duration budget = ledger_.budget(job.cpu);
  const Duration wall_start = clocks_.wall();
  BurnResult result{.requested = job.cpu, .queued = wall_start - job.submitted};
  Duration left = job.cpu;  // of what this burn adds to waiting(); the budget may be more or less
  Standstill standstill;

  const Duration start = clocks_.cpu();
  while (result.burned < budget) {
    if (attention_.load(std::memory_order_relaxed) && attend()) {
      result.outcome = Outcome::Cancelled;
      break;
    }
    const uint64_t iterations = pace_.iterations(std::min(kChunk, budget - result.burned));
    clocks_.work(iterations);
    const Duration step = std::max(Duration(0), clocks_.cpu() - start - result.burned);
    pace_.learn(iterations, step);
    result.burned += step;
    count_burned(step, left);
    if (step > Duration(0)) {
      standstill.end();
    } else if (standstill.lasts(clocks_)) {
      result.outcome = Outcome::ClockStuck;
      break;
    }
  }

  account_waiting(-left);
  if (result.outcome == Outcome::Done) {
    result.carried = job.cpu - result.burned;
    ledger_.settle(job.cpu, result.burned);
    asked_.fetch_add(job.cpu.count(), std::memory_order_relaxed);
  }
  result.wall = clocks_.wall() - wall_start;
  return result;
}

// Sees to what came up during a burn. True when the burn shall end.
bool Burner::attend() {
  std::unique_lock lock(mutex_);
  attention_.store(false, std::memory_order_relaxed);
  const bool ends = running_ends_ || stopping_;
  auto unburned = std::exchange(unburned_, {});
  lock.unlock();
  finish_unburned(std::move(unburned));
  return ends;
}

void Burner::count_burned(Duration step, Duration& left) {
  const Duration counted = std::min(step, left);
  left -= counted;
  account_waiting(-counted);
  burned_.fetch_add(step.count(), std::memory_order_relaxed);
}

void Burner::finish_unburned(std::vector<Unburned> unburned) {
  for (auto& [job, outcome] : unburned) {
    job.done({.outcome = outcome, .requested = job.cpu, .queued = clocks_.wall() - job.submitted});
  }
}

}  // namespace kiln::burn
