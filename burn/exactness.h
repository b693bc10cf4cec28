// How exact the burns of the last minute have been: what was asked for, against what the control group was billed for
// it. Pure arithmetic, fed about once a second by one thread at a time.
#pragma once

#include <chrono>
#include <cstddef>
#include <deque>
#include <optional>

namespace kiln::burn {

class Exactness {
 public:
  using Duration = std::chrono::nanoseconds;
  using TimePoint = std::chrono::steady_clock::time_point;

  static constexpr Duration kWindow = std::chrono::seconds(60);
  // Below so much asked for, what is under way at both ends of the window says more than the burns do.
  static constexpr Duration kAskedMin = std::chrono::seconds(1);

  struct Sums {
    Duration billed{};   // the group's counter
    Duration outside{};  // of it: for nobody's budget (burn/books.h)
    Duration asked{};
  };

  struct Figures {
    Duration asked{};
    Duration billed{};
    std::optional<double> error_percent;  // nothing below kAskedMin
  };

  void observe(TimePoint now, const Sums& sums);

  // Over the observations of the last minute; nothing before there are two.
  [[nodiscard]] std::optional<Figures> figures() const;

 private:
  struct Observation {
    TimePoint at;
    Sums sums;
  };
  std::deque<Observation> observations_;
};

}  // namespace kiln::burn
