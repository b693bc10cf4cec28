#include "burn/exactness.h"

namespace kiln::burn {

void Exactness::observe(TimePoint now, const Sums& sums) {
  observations_.push_back({now, sums});
  while (observations_.size() > 2 && observations_[1].at <= now - kWindow) observations_.pop_front();
}

std::optional<Exactness::Figures> Exactness::figures() const {
  if (observations_.size() < 2) return std::nullopt;
  const Sums& first = observations_.front().sums;
  const Sums& last = observations_.back().sums;
  Figures figures{.asked = last.asked - first.asked,
                  .billed = (last.billed - first.billed) - (last.outside - first.outside),
                  .error_percent = {}};
  if (figures.asked >= kAskedMin) {
    figures.error_percent = 100.0 * static_cast<double>((figures.billed - figures.asked).count()) /
                            static_cast<double>(figures.asked.count());
  }
  return figures;
}

}  // namespace kiln::burn
