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
  uncovered_ -= old;
  if (own < cost && request.asked > Duration(0)) {
    uncovered_ = std::min(uncovered_ + cost - own, kUncoveredMax);
    uncovered_of_ = request.asked;
  }
}

ServingMeter::Shares ServingMeter::settle(TimePoint now, Duration cpu) {
  const Duration total = cpu - last_;
  last_ = cpu;
  settled_ = now;
  account_.loop.add(total);
  account_.background.add(excluded_);
  pending_ += total - std::exchange(excluded_, Duration(0));

  told_.clear();
  Duration each{};
  if (units_ > 0) {
    each = pending_ / static_cast<Duration::rep>(units_);
    for (const Paying& request : answered_) collect(request, request.received + each);
    answered_.clear();
    told_.swap(received_);
    pending_ = {};
  } else if (for_nobody_) {
    account_.background.add(std::exchange(pending_, Duration(0)));
  }
  units_ = 0;
  has_paying_ = for_nobody_ = false;
  return {told_, each};
}

}  // namespace kiln::burn
