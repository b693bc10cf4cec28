#include "burn/hold_control.h"

#include <algorithm>

namespace kiln::burn {

namespace {

HoldControl::Duration scaled(HoldControl::Duration time, double cores) {
  return HoldControl::Duration(static_cast<HoldControl::Duration::rep>(static_cast<double>(time.count()) * cores));
}

}  // namespace

void HoldControl::begin(Duration wall, Duration others) {
  wall_ = wall;
  others_ = others;
  owed_ = {};
}

HoldControl::Duration HoldControl::due(Duration wall, double cores, Duration others) {
  const Duration elapsed = wall - wall_;
  owed_ += scaled(elapsed, cores) - (others - others_);
  owed_ = std::clamp(owed_, -scaled(kAheadMax, cores), scaled(elapsed < kStall ? kLateMax : kTick, cores));
  wall_ = wall;
  others_ = others;
  return std::max(owed_, Duration(0));
}

}  // namespace kiln::burn
