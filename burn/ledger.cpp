#include "burn/ledger.h"

#include <algorithm>

namespace kiln::burn {

Ledger::Duration Ledger::begin(Duration asked, Duration spent) {
  carry_ -= spent;
  return std::max(Duration(0), asked + carry_);
}

void Ledger::settle(Duration asked, Duration burned) {
  constexpr int kRecent = 16;
  mean_ = mean_ == Duration(0) ? asked : mean_ + (asked - mean_) / kRecent;
  const Duration bound = std::clamp(2 * mean_, kBoundMin, kBoundMax);
  carry_ = std::clamp(carry_ + asked - burned, -bound, bound);
}

}  // namespace kiln::burn
