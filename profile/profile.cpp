#include "profile/profile.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace kiln::profile {
namespace {

double to_seconds(Time t) { return static_cast<double>(t.count()) / 1e9; }

}  // namespace

double Piece::rate(Time t) const {
  return std::visit([seconds = to_seconds(t - begins)](const auto& s) { return s.rate(seconds); }, shape);
}

double Piece::arrivals(Time t) const {
  const double inside =
      std::visit([seconds = to_seconds(t - begins)](const auto& s) { return s.arrivals(seconds); }, shape);
  return std::clamp(arrivals_before + inside, arrivals_before, arrivals_by_end);
}

Time Piece::time_of(double n) const {
  const double inside = n - arrivals_before;
  if (inside <= 0) return begins;
  const double seconds = std::visit([inside](const auto& s) { return s.time_of(inside); }, shape);
  return std::min(ends, begins + Time(std::llround(seconds * 1e9)));
}

void Profile::append(const Shape& shape, Time time) {
  CHECK(time > Time(0));
  const double seconds = to_seconds(time);
  const double arrivals = std::visit([seconds](const auto& s) { return s.arrivals(seconds); }, shape);
  const double rate_max = std::visit([seconds](const auto& s) { return s.rate_max(seconds); }, shape);
  CHECK(arrivals >= 0);
  pieces_.push_back({shape, duration(), duration() + time, total(), total() + arrivals});
  rate_max_ = std::max(rate_max_, rate_max);
}

double Profile::rate(Time t) const {
  if (t < Time(0) || t >= duration()) return 0;
  return std::ranges::upper_bound(pieces_, t, {}, &Piece::ends)->rate(t);
}

double Profile::arrivals(Time t) const {
  if (t <= Time(0)) return 0;
  if (t >= duration()) return total();
  return std::ranges::upper_bound(pieces_, t, {}, &Piece::ends)->arrivals(t);
}

Time Profile::time_of(double n) const {
  if (n <= 0) return Time(0);
  if (n > total()) return duration();
  return std::ranges::lower_bound(pieces_, n, {}, &Piece::arrivals_by_end)->time_of(n);
}

}  // namespace kiln::profile
