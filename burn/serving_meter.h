// What serving costs, kernel work included: the CPU clock of a loop's thread, shared over what the loop served.
//
// The clock is read between turns, so a reading covers the work of a turn, the sends that it queued, the sleep and the
// next wake-up. A request whose burn pays for its serving counts one unit in the turn that receives it and one in the
// turn that answers it; any other request counts both at once. A turn that served nobody leaves its cost to the next
// one that does, unless it ran for the pod's own sake.
//
// Owned by the loop's thread, which passes the clocks in.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <vector>

#include "burn/books.h"

namespace kiln::burn {

class ServingMeter {
 public:
  using Duration = std::chrono::nanoseconds;
  using TimePoint = std::chrono::steady_clock::time_point;

  // A turn without paying requests need not be told from its neighbours: the clock costs half a microsecond.
  static constexpr Duration kReadingsEvery = std::chrono::microseconds(100);

  // What a budget could not cover is collected from later requests of about the same size: a turn that was interrupted
  // is made up for, and many requests below the cost of serving take nothing from a large one.
  static constexpr Duration kUncoveredMax = std::chrono::microseconds(500);
  static constexpr int kAboutTheSame = 2;  // times its size

  // A request that is answered now, and what became known of its costs before.
  struct Paying {
    size_t route = 0;
    Duration asked{};     // its budget
    Duration paid{};      // of it, by the burner for handing over
    Duration received{};  // its share of the turn that received it
  };

  // `routes` are counted apart; whoever calls names them by number.
  ServingMeter(Account& account, size_t routes) : account_(account), of_routes_(routes), units_of_routes_(routes) {}

  // The thread's CPU clock stands at `cpu`: nothing before that is anybody's.
  void begin(Duration cpu) { last_ = cpu; }

  void serve(size_t route) {
    units_ += 2;
    if (units_of_routes_[route] == 0) served_.push_back(route);
    units_of_routes_[route] += 2;
  }
  // `key` names the request: settle() returns it with the others whose share is known then.
  void receive(uint64_t key);
  void answer(const Paying& request);
  // `cost` of this turn was for the pod itself, and so is the rest of it, if it serves nobody.
  void work_for_nobody(Duration cost);

  // True when the clock shall be read before this turn: the last one had paying requests, or it is time.
  [[nodiscard]] bool due(TimePoint now) const { return has_paying_ || now - settled_ >= kReadingsEvery; }

  // Shares the cost since the last reading. The keys received since then, and the share of each; valid until the next
  // receive().
  struct Shares {
    const std::vector<uint64_t>& received;
    Duration each{};
  };
  Shares settle(TimePoint now, Duration cpu);

  // What serving a route cost, any thread: out of the budgets of its requests, and on top of them.
  struct Cost {
    TimeSum budget;
    TimeSum extra;
  };
  [[nodiscard]] const Cost& cost_of(size_t route) const { return of_routes_[route]; }

 private:
  void collect(const Paying& request, Duration cost);

  Account& account_;
  TimePoint settled_{};
  Duration last_{};
  Duration pending_{};   // of turns that served nobody
  Duration excluded_{};  // for the pod itself
  Duration uncovered_{};
  Duration uncovered_of_{};  // the budget of the request that it is left from
  std::vector<Cost> of_routes_;
  std::vector<Duration::rep> units_of_routes_;  // other than paying requests, since the last reading
  std::vector<size_t> served_;                  // routes with any
  uint64_t units_ = 0;
  bool has_paying_ = false;
  bool for_nobody_ = false;  // true when this turn worked for the pod itself
  std::vector<uint64_t> received_, told_;
  std::vector<Paying> answered_;
};

}  // namespace kiln::burn
