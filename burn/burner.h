// Burns of CPU time, one after another, on a thread of their own at the lowest priority (nice 19), so that whoever
// answers probes always runs first. CPU time of the thread decides when a burn ends; its error is carried into the next
// burn (burn/ledger.h). Waiting burn is bounded in CPU time, not in burns.
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
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "burn/ledger.h"
#include "burn/work.h"

namespace kiln::burn {

using Duration = std::chrono::nanoseconds;

enum class Outcome : uint8_t {
  Done,
  Cancelled,   // by cancel() or stop(), before or while it burned
  ClockStuck,  // the CPU clock stood still while work went on: nobody knows what was burned
};

struct BurnResult {
  Outcome outcome = Outcome::Done;
  Duration requested{};
  Duration burned{};   // by the thread's CPU clock
  Duration carried{};  // requested - burned of a burn that is Done: handed on to the next, or paid for the last one
  Duration queued{};   // wall time from submit to start
  Duration wall{};     // wall time from start to end
};

// What a burn asks of the world; tests script it.
class Clocks {
 public:
  virtual ~Clocks() = default;
  virtual Duration cpu() = 0;   // of the calling thread, which is always the burner's
  virtual Duration wall() = 0;  // monotonic; called by any thread
  virtual void work(uint64_t iterations) = 0;
};

class Burner {
 public:
  struct Options {
    Duration queue_max = std::chrono::seconds(2);  // CPU time that may wait, the running burn's rest included
    // What all burners that share one bound have admitted; nothing: the bound is this one's. Outlives the burners.
    std::atomic<Duration::rep>* waiting_together = nullptr;
    Clocks* clocks = nullptr;                      // nothing: the real ones. Outlives the burner.
  };

  using Done = std::move_only_function<void(const BurnResult&)>;
  using Id = uint64_t;

  explicit Burner(Options options);
  Burner(const Burner&) = delete;
  Burner& operator=(const Burner&) = delete;
  ~Burner();  // stop()

  // Any thread; `cpu` is not negative. Calls `done` on the burner's thread exactly once, without any lock of ours held:
  // it may submit and cancel. First come first served, but a burn of nothing waits for nobody. Nothing, and `done` is
  // never called, when the waiting CPU time would pass queue_max (a burn alone is always admitted) or after stop().
  std::optional<Id> submit(Duration cpu, Done done);

  // Any thread. A waiting burn ends unburned, a running one within a slice; `done` is called with Cancelled, also for a
  // waiting one within a slice. Unknown and finished ids are ignored.
  void cancel(Id id);

  // Any thread: the holds have changed.
  void wake();

  // Cancels everything and joins the thread, so that every `done` has been called. The owner's thread, never a `done`.
  void stop();

  [[nodiscard]] Duration waiting() const;        // CPU time admitted and not yet burned
  [[nodiscard]] Duration asked_total() const;    // of burns that are Done
  [[nodiscard]] Duration burned_total() const;   // by the thread's clock, of all burns, the running one up to now
  [[nodiscard]] uint64_t refused_total() const;  // by queue_max

 private:
  struct Job {
    Id id;
    Duration cpu;
    Duration submitted;
    Done done;
  };
  struct Unburned {
    Job job;
    Outcome outcome;
  };

  void run();
  BurnResult burn(const Job& job);
  bool attend();
  void count_burned(Duration step, Duration& left);
  bool admit(Duration cpu);
  void account_waiting(Duration change);
  void finish_unburned(std::vector<Unburned> unburned);

  Clocks& clocks_;
  const Duration queue_max_;
  std::atomic<Duration::rep>* const waiting_together_;

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Job> jobs_;  // by rising id
  std::vector<Unburned> unburned_;
  Id next_id_ = 1;
  Id running_ = 0;             // 0: none
  bool running_ends_ = false;  // true once the running burn is cancelled
  bool stopping_ = false;      // true from stop() on

  std::atomic<bool> attention_{false};  // true when the running burn shall look under the mutex
  std::atomic<Duration::rep> waiting_{0}, asked_{0}, burned_{0};
  std::atomic<uint64_t> refused_{0};

  Ledger ledger_;  // the burner's thread only
  Pace pace_;      // the burner's thread only
  std::thread thread_;
};

}  // namespace kiln::burn
