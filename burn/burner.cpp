#include "burn/burner.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/check.h"
#include "burn/background.h"

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
  void wait(std::condition_variable& wake, std::unique_lock<std::mutex>& lock, Duration until) override {
    wake.wait_until(lock, std::chrono::steady_clock::time_point(until));
  }
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

}  // namespace

Burner::Burner(Options options)
    : clocks_(options.clocks != nullptr ? *options.clocks : real_clocks()),
      queue_max_(options.queue_max),
      waiting_together_(options.waiting_together),
      own_books_(options.books == nullptr ? std::make_unique<Books>(1) : nullptr),
      books_(options.books == nullptr ? *own_books_ : *options.books),
      account_(books_.account(options.index)),
      index_(options.index),
      holds_(options.holds),
      units_a_nanosecond_(Pace().a_nanosecond()) {
  thread_ = start_background("kiln-burn", [this] { run(); });
  CHECK(thread_.joinable());
}

Burner::~Burner() { stop(); }

std::optional<Burner::Id> Burner::submit(const Amount& amount, Done done) {
  CHECK(amount.cpu >= Duration(0));
  const Duration now = clocks_.wall();
  const Duration cpu = amount.units > 0 ? time_of(amount.units) : amount.cpu;
  Id id = 0;
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return std::nullopt;
    if (!admit(cpu)) {
      refused_.fetch_add(1, std::memory_order_relaxed);
      return std::nullopt;
    }
    id = next_id_++;
    Job job{id, amount, cpu, now, std::move(done)};
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

bool Burner::refuses() {
  const std::atomic<Duration::rep>& waiting = waiting_together_ != nullptr ? *waiting_together_ : waiting_;
  const Duration now(waiting.load(std::memory_order_relaxed));
  if (now <= Duration(0) || now < queue_max_) return false;
  refused_.fetch_add(1, std::memory_order_relaxed);
  return true;
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
    holds_changed_ = true;
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
Duration Burner::asked_total() const { return account_.asked.get(); }
Duration Burner::burned_total() const { return account_.burned.get(); }
uint64_t Burner::refused_total() const { return refused_.load(std::memory_order_relaxed); }

double Burner::units_a_second() const { return units_a_nanosecond_.load(std::memory_order_relaxed) * 1e9; }

Duration Burner::time_of(uint64_t units) const {
  constexpr auto kLongest = static_cast<double>(Duration(24h).count());
  const double time = static_cast<double>(units) / units_a_nanosecond_.load(std::memory_order_relaxed);
  return std::max(Duration(1), Duration(static_cast<Duration::rep>(std::min(time, kLongest))));
}

// --- The burner's thread ---------------------------------------------------------------------------------------------

void Burner::run() {
  looked_ = clocks_.cpu();
  if (&clocks_ == &real_clocks()) calibrate();
  handed_over_ = looked_;
  std::unique_lock lock(mutex_);
  for (;;) {
    running_ = 0;
    const auto something = [this] { return stopping_ || holds_changed_ || !jobs_.empty() || !unburned_.empty(); };
    while (!something() && !tick_is_due()) {
      if (holding_) {
        clocks_.wait(wake_, lock, next_tick_);
      } else {
        wake_.wait(lock);
      }
    }
    attention_.store(false, std::memory_order_relaxed);  // all of it is seen to below
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
    if (std::exchange(holds_changed_, false)) follow_holds();
    if (tick_is_due()) {
      lock.unlock();
      hold();
      handed_over_ = looked_;
      lock.lock();
    }
    if (jobs_.empty() || stopping_) continue;

    Job job = std::move(jobs_.front());
    jobs_.pop_front();
    running_ = job.id;
    running_ends_ = false;
    lock.unlock();
    const BurnResult result = burn(job);
    handed_over_ = looked_;
    job.done(result);
    lock.lock();
  }
}

// A millisecond of work, so that the first burn knows its pace and the first units their time.
void Burner::calibrate() {
  for (const Duration end = looked_ + 1ms; looked_ < end;) {
    if (work(pace_.iterations(kChunk)) == Duration(0)) return;
  }
}

// Every reading of the CPU clock goes into the account.
Duration Burner::look() {
  const Duration now = clocks_.cpu();
  account_.burner.add(std::max(Duration(0), now - looked_));
  return looked_ = now;
}

// Works, and returns the CPU time since the last look, which is 0 where the clock does not move.
Duration Burner::work(uint64_t iterations) {
  const Duration before = looked_;
  clocks_.work(iterations);
  const Duration step = std::max(Duration(0), look() - before);
  pace_.learn(iterations, step);
  units_a_nanosecond_.store(pace_.a_nanosecond(), std::memory_order_relaxed);
  return step;
}

BurnResult Burner::burn(const Job& job) {
  const Duration wall_start = clocks_.wall();
  BurnResult result{.requested = job.cpu, .queued = wall_start - job.submitted};
  Duration left = job.cpu;  // of what this burn adds to waiting(); the budget may be more or less

  look();
  if (job.amount.units > 0) {
    burn_units(job.amount.units, result, left);
    result.requested = result.burned;
  } else {
    const bool included = job.amount.serving == Serving::Included;
    Ledger& ledger = included ? included_ : on_top_;
    Duration spent{};
    if (included) {
      result.paid = std::min(looked_ - handed_over_, job.cpu);
      account_.paid_by_burner.add(result.paid);
      const Duration by_loop = account_.paid_by_loop.get();
      spent = result.paid + by_loop - std::exchange(paid_by_loop_, by_loop);
    }
    burn_time(ledger.begin(job.cpu, spent), result, left);
    if (result.outcome == Outcome::Done) {
      result.carried = job.cpu - result.burned - result.paid;
      ledger.settle(job.cpu, result.burned);
      account_.asked.add(left);
    }
  }
  account_waiting(-left);
  result.wall = clocks_.wall() - wall_start;
  return result;
}

void Burner::burn_time(Duration budget, BurnResult& result, Duration& left) {
  Standstill standstill;
  while (result.burned < budget) {
    if (attention_.load(std::memory_order_relaxed) && attend()) {
      result.outcome = Outcome::Cancelled;
      return;
    }
    if (tick_is_due()) hold();
    const Duration step = work(pace_.iterations(std::min(kChunk, budget - result.burned)));
    result.burned += step;
    account_.asked.add(std::min(step, left));
    count_burned(step, left);
    if (step > Duration(0)) {
      standstill.end();
    } else if (standstill.lasts(clocks_)) {
      result.outcome = Outcome::ClockStuck;
      return;
    }
  }
}

void Burner::burn_units(uint64_t units, BurnResult& result, Duration& left) {
  while (units > 0) {
    if (attention_.load(std::memory_order_relaxed) && attend()) {
      result.outcome = Outcome::Cancelled;
      return;
    }
    if (tick_is_due()) hold();
    const uint64_t some = std::min(units, pace_.iterations(kChunk));
    const Duration step = work(some);
    units -= some;
    result.burned += step;
    count_burned(step, left);
    account_.asked.add(step);
  }
}

// Sees to what came up during a burn. True when the burn shall end.
bool Burner::attend() {
  std::unique_lock lock(mutex_);
  attention_.store(false, std::memory_order_relaxed);
  const bool ends = running_ends_ || stopping_;
  if (std::exchange(holds_changed_, false)) follow_holds();
  auto unburned = std::exchange(unburned_, {});
  lock.unlock();
  finish_unburned(std::move(unburned));
  return ends;
}

void Burner::count_burned(Duration step, Duration& left) {
  const Duration counted = std::min(step, left);
  left -= counted;
  account_waiting(-counted);
  account_.burned.add(step);
}

void Burner::finish_unburned(std::vector<Unburned> unburned) {
  for (auto& [job, outcome] : unburned) {
    job.done({.outcome = outcome, .requested = job.cpu, .queued = clocks_.wall() - job.submitted});
  }
}

// --- Holds -----------------------------------------------------------------------------------------------------------

// Begins or ends to tick. The first tick comes after a whole one, since nothing is owed before.
void Burner::follow_holds() {
  if (holds_ == nullptr) return;
  const Duration wall = clocks_.wall();
  const bool held = std::exchange(holding_, cores_to_hold(wall) > 0);
  const uint64_t version_before = std::exchange(holds_version_, holds_->version());
  if (!holding_ || (held && holds_version_ == version_before)) return;
  if (!held) next_tick_ = wall + HoldControl::kTick;
  control_.begin(wall, spent_inside_holds());
}

// This burner's share of all holds: as few burners as can do it, each with a tenth of its core to spare.
double Burner::cores_to_hold(Duration wall) {
  constexpr double kCoresABurner = 0.9;
  const double cores = holds_->target(Holds::TimePoint(wall)) / 1000;
  const double most = static_cast<double>(books_.workers());
  hold_burners_ = static_cast<size_t>(std::clamp(std::ceil(cores / kCoresABurner), 1.0, most));
  return index_ < hold_burners_ ? cores / static_cast<double>(hold_burners_) : 0;
}

// What this burner's share need not burn because it was spent anyway: a hold includes the cost of holding, and whatever
// else no budget pays for.
Duration Burner::spent_inside_holds() const {
  return (books_.outside() - books_.sum(&Account::held)) / static_cast<Duration::rep>(hold_burners_);
}

// A tick. Whoever wants attention gets it after a chunk; what is owed then stays owed.
void Burner::hold() {
  const Duration wall = clocks_.wall();
  const double cores = cores_to_hold(wall);
  if (cores <= 0 || holds_version_ != holds_->version()) return follow_holds();
  look();
  const Duration due = control_.due(wall, cores, spent_inside_holds());
  Duration held{};
  Standstill standstill;
  while (held < due && !attention_.load(std::memory_order_relaxed)) {
    const Duration step = work(pace_.iterations(std::min(kChunk, due - held)));
    held += step;
    account_.held.add(step);
    if (step > Duration(0)) {
      standstill.end();
    } else if (standstill.lasts(clocks_)) {
      holding_ = false;  // nobody knows what is burned; until the holds change
      return;
    }
  }
  control_.burned(held);
  // What waits gets a share even where holds alone would fill the core.
  constexpr Duration kBetweenTicks = 1ms;
  const Duration now = clocks_.wall();
  next_tick_ += HoldControl::kTick;
  if (next_tick_ <= now) next_tick_ = waiting() > Duration(0) ? now + kBetweenTicks : now;
  if (held < due) next_tick_ = now;
}

}  // namespace kiln::burn
