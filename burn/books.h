// The process's CPU time, booked by what it was for, so that what requests paid for and everything else can be told
// apart at any moment. One account a worker; its loop's thread and its burner's thread each write their own half.
//
//   loop + burner + helpers = burned + paid   spent for the budgets of requests: the burns, and the serving they paid
//                                             for
//                           + outside         everything else: other routes, holds, turns for nobody, serving that a
//                                             budget could not pay for
//
// Helpers are threads that work for requests beside these two.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace kiln::burn {

// A sum of CPU time that one thread writes and any thread reads.
class TimeSum {
 public:
  using Duration = std::chrono::nanoseconds;
  void add(Duration step) {
    value_.store(value_.load(std::memory_order_relaxed) + step.count(), std::memory_order_relaxed);
  }
  [[nodiscard]] Duration get() const { return Duration(value_.load(std::memory_order_relaxed)); }

 private:
  std::atomic<Duration::rep> value_{0};
};

struct Account {
  // By the loop's thread.
  TimeSum loop;          // all of its CPU time, as far as it was read
  TimeSum paid_by_loop;  // of it: serving requests whose budgets cover it
  TimeSum paid_to_helpers;  // for what helpers spent on such requests; of their sum
  // By the burner's thread.
  TimeSum burner;          // all of its CPU time, as far as it was read
  TimeSum paid_by_burner;  // of it: waking up and handing over, covered by budgets
  TimeSum burned;          // of it: burns of requests, the running one up to now
  TimeSum held;            // of it: holds
  TimeSum asked;           // by the requests whose burns are done, and as much of the running one as is burned
};

// Outlives the workers. Their number is fixed.
class Books {
 public:
  using Duration = std::chrono::nanoseconds;

  explicit Books(size_t workers) : accounts_(workers) {}

  [[nodiscard]] size_t workers() const { return accounts_.size(); }
  [[nodiscard]] Account& account(size_t worker) { return accounts_[worker]; }

  [[nodiscard]] Duration sum(TimeSum Account::*entry) const {
    Duration total{};
    for (const Account& account : accounts_) total += (account.*entry).get();
    return total;
  }
  // Any thread.
  void add_helper(Duration step) { helpers_.fetch_add(step.count(), std::memory_order_relaxed); }
  // All CPU time that is in the books.
  [[nodiscard]] Duration booked() const {
    return sum(&Account::loop) + sum(&Account::burner) + Duration(helpers_.load(std::memory_order_relaxed));
  }
  // What requests asked for, whether it was burned or went to helpers.
  [[nodiscard]] Duration asked() const { return sum(&Account::asked) + sum(&Account::paid_to_helpers); }
  [[nodiscard]] Duration paid() const {
    return sum(&Account::paid_by_loop) + sum(&Account::paid_by_burner) + sum(&Account::paid_to_helpers);
  }
  // Spent for nobody's budget, holds included.
  [[nodiscard]] Duration outside() const {
    return booked() - sum(&Account::burned) - paid();
  }

 private:
  std::vector<Account> accounts_;
  std::atomic<Duration::rep> helpers_{0};
};

}  // namespace kiln::burn
