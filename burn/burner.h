// Burns of CPU time, one after another, on a thread of their own at the lowest priority (nice 19), so that whoever
// answers probes always runs first. CPU time of the thread decides when a burn ends; its error is carried into the next
// burn (burn/ledger.h), and so is what serving the requests cost, where their budgets include it. Waiting burn is
// bounded in CPU time, not in burns. Between and inside burns the thread holds its share of the holds, tick by tick.
//
// A job is in one place at a time, all of them under the mutex: waiting in `jobs_`, running in the hands of the thread,
// or in `unburned_`, on its way to a callback without a burn. The thread takes the mutex between burns, and inside one
// only when `attention_` says that there is something to see.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "burn/books.h"
#include "burn/hold_control.h"
#include "burn/holds.h"
#include "burn/ledger.h"
#include "burn/work.h"

namespace kiln::burn {

using Duration = std::chrono::nanoseconds;

enum class Outcome : uint8_t {
  Done,
  Cancelled,   // by cancel() or stop(), before or while it burned
  ClockStuck,  // the CPU clock stood still while work went on: nobody knows what was burned
};

// Whether a budget covers what serving the request costs, or is for the burn alone.
enum class Serving : uint8_t { OnTop, Included };

// What to burn: CPU time, or a fixed number of steps of the chain (burn/work.h), whatever time they take.
struct Amount {
  Duration cpu{};
  Serving serving = Serving::OnTop;
  uint64_t units = 0;  // not 0: instead of `cpu`
};

struct BurnResult {
  Outcome outcome = Outcome::Done;
  Duration requested{};  // of units: what they took
  Duration burned{};     // by the thread's CPU clock
  Duration paid{};       // for waking up and handing over, out of a budget that includes serving
  Duration carried{};    // requested - burned - paid of a burn that is Done: handed on to the next, or paid for others
  Duration queued{};     // wall time from submit to start
  Duration wall{};       // wall time from start to end
};

// What a burn asks of the world; tests script it.
class Clocks {
 public:
  virtual ~Clocks() = default;
  virtual Duration cpu() = 0;   // of the calling thread, which is always the burner's
  virtual Duration wall() = 0;  // monotonic; called by any thread
  virtual void work(uint64_t iterations) = 0;
  // Waits for `wake`, at most until the wall clock says `until`.
  virtual void wait(std::condition_variable& wake, std::unique_lock<std::mutex>& lock, Duration until) = 0;
};

class Burner {
 public:
  struct Options {
    Duration queue_max = std::chrono::seconds(2);  // CPU time that may wait, the running burn's rest included
    // What all burners that share one bound have admitted; nothing: the bound is this one's.
    std::atomic<Duration::rep>* waiting_together = nullptr;
    Books* books = nullptr;    // where its account is; nothing: in books of its own
    size_t index = 0;          // of this burner among those of the books
    Holds* holds = nullptr;    // to follow; nothing: none
    Clocks* clocks = nullptr;  // nothing: the real ones
    // Whatever is pointed at outlives the burner.
  };

  using Done = std::move_only_function<void(const BurnResult&)>;
  using Id = uint64_t;

  explicit Burner(Options options);
  Burner(const Burner&) = delete;
  Burner& operator=(const Burner&) = delete;
  ~Burner();  // stop()

  // Any thread; the time is not negative. Calls `done` on the burner's thread exactly once, without any lock of ours
  // held: it may submit and cancel. First come first served, but a burn of nothing waits for nobody. Nothing, and
  // `done` is never called, when the waiting CPU time would pass queue_max (a burn alone is always admitted) or after
  // stop().
  std::optional<Id> submit(const Amount& amount, Done done);
  std::optional<Id> submit(Duration cpu, Done done) { return submit(Amount{.cpu = cpu}, std::move(done)); }

  // Any thread. True when the queue is full now, which counts as a refusal: to be asked before work that a refusal
  // could not undo.
  bool refuses();

  // Any thread. A waiting burn ends unburned, a running one within a slice; `done` is called with Cancelled, also for a
  // waiting one within a slice. Unknown and finished ids are ignored.
  void cancel(Id id);

  // Any thread: the holds have changed.
  void wake();

  // Cancels everything and joins the thread, so that every `done` has been called. The owner's thread, never a `done`.
  void stop();

  // Any thread.
  [[nodiscard]] Duration waiting() const;        // CPU time admitted and not yet burned
  [[nodiscard]] Duration asked_total() const;    // of burns that are Done, and of others as far as they were burned
  [[nodiscard]] Duration burned_total() const;   // by the thread's clock, of all burns, the running one up to now
  [[nodiscard]] uint64_t refused_total() const;  // by queue_max
  [[nodiscard]] double units_a_second() const;   // as measured last; a guess before the first measurement
  [[nodiscard]] Duration time_of(uint64_t units) const;

 private:
  struct Job {
    Id id;
    Amount amount;
    Duration cpu;  // of it, or what its units are likely to take
    Duration submitted;
    Done done;
  };
  struct Unburned {
    Job job;
    Outcome outcome;
  };

  void run();
  void calibrate();
  BurnResult burn(const Job& job);
  void burn_time(Duration budget, BurnResult& result, Duration& left);
  void burn_units(uint64_t units, BurnResult& result, Duration& left);
  bool attend();
  Duration look();
  Duration work(uint64_t iterations);
  void count_burned(Duration step, Duration& left);
  bool admit(Duration cpu);
  void account_waiting(Duration change);
  void finish_unburned(std::vector<Unburned> unburned);

  void follow_holds();
  [[nodiscard]] double cores_to_hold(Duration wall);
  [[nodiscard]] Duration spent_inside_holds() const;
  [[nodiscard]] bool tick_is_due() { return holding_ && clocks_.wall() >= next_tick_; }
  void hold();

  Clocks& clocks_;
  const Duration queue_max_;
  std::atomic<Duration::rep>* const waiting_together_;
  const std::unique_ptr<Books> own_books_;
  Books& books_;
  Account& account_;
  const size_t index_;
  Holds* const holds_;

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Job> jobs_;  // by rising id
  std::vector<Unburned> unburned_;
  Id next_id_ = 1;
  Id running_ = 0;              // 0: none
  bool running_ends_ = false;   // true once the running burn is cancelled
  bool holds_changed_ = false;  // true from wake() until the thread has looked
  bool stopping_ = false;       // true from stop() on

  std::atomic<bool> attention_{false};  // true when the running burn shall look under the mutex
  std::atomic<Duration::rep> waiting_{0};
  std::atomic<uint64_t> refused_{0};
  std::atomic<double> units_a_nanosecond_;

  // The burner's thread only, all of the following.
  Ledger included_;          // of burns whose budgets include serving
  Ledger on_top_;            // of the others
  Duration looked_{};        // the CPU clock, when it was read last
  Duration handed_over_{};   // the same, when the last burn ended: what came since is handing over
  Duration paid_by_loop_{};  // of the account, as far as it is in the ledger
  Pace pace_;
  HoldControl control_;
  bool holding_ = false;
  Duration next_tick_{};  // by the wall clock
  uint64_t holds_version_ = 0;
  size_t hold_burners_ = 1;  // that share the holds
  std::thread thread_;
};

}  // namespace kiln::burn
