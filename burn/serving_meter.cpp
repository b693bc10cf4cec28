#include "burn/serving_meter.h"

#include <algorithm>
#include <utility>

namespace kiln::burn {

void ServingMeter::receive(uint64_t key) {
  ++units_;
  has_paying_ = true;
  received_.push_back(key);
}

void ServingMeter::answer(const Paying& request) {
  ++units_;
  has_paying_ = true;
  answered_.push_back(request);
}

void ServingMeter::work_for_nobody(Duration cost) {
  for_nobody_ = true;
  excluded_ += cost;
}

void ServingMeter::collect(const Paying& request, Duration cost) {
  const Duration left = std::max(Duration(0), request.asked - request.paid);
  const Duration own = std::min(left, cost);
  Duration old{};
  if (request.asked <= kAboutTheSame * uncovered_of_) old = std::min(left - own, uncovered_);
  account_.paid_by_loop.add(own + old);
  Cost& of_route = of_routes_[request.route];
  of_route.budget.add(request.paid + own + old);
  uncovered_ -= old;
  if (own == cost) return;
  Duration lost = cost - own;
  if (request.asked > Duration(0)) {
    uncovered_ += std::exchange(lost, Duration(0));
    lost = std::max(Duration(0), uncovered_ - kUncoveredMax);
    uncovered_ -= lost;
    uncovered_of_ = request.asked;
  }
  of_route.extra.add(lost);
}

ServingMeter::Shares ServingMeter::settle(TimePoint now, Duration cpu) {
  const Duration total = cpu - last_;
  last_ = cpu;
  settled_ = now;
  account_.loop.add(total);
  pending_ += total - std::exchange(excluded_, Duration(0));

  told_.clear();
  Duration each{};
  if (units_ > 0) {
    each = pending_ / static_cast<Duration::rep>(units_);
    for (const Paying& request : answered_) collect(request, request.received + each);
    answered_.clear();
    for (const size_t route : served_) {
      of_routes_[route].extra.add(each * std::exchange(units_of_routes_[route], 0));
    }
    served_.clear();
    told_.swap(received_);
    pending_ = {};
  } else if (for_nobody_) {
    pending_ = {};
  }
  units_ = 0;
  has_paying_ = for_nobody_ = false;
  return {told_, each};
}

}  // namespace kiln::burn
