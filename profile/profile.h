// A load profile: how many requests a second are asked for, over time. A row of pieces, each of one shape, one after
// the other; profile/parse.h makes it of text.
//
//   rate ^      ____
//        |  ___/    |        arrivals(t)   the area up to t
//        |_/        |__      time_of(n)    the t up to which the area is n
//        +--------------> t
//
// Nothing is summed up while time passes, so that a profile of a day ends to the nanosecond where it should. A value;
// reading it from several threads is safe.
#pragma once

#include <chrono>
#include <span>
#include <vector>

#include "profile/shape.h"

namespace kiln::profile {

using Time = std::chrono::nanoseconds;  // since the beginning of the profile

// A piece in its place.
struct Piece {
  Shape shape;
  Time begins;
  Time ends;
  double arrivals_before;  // of the pieces before
  double arrivals_by_end;  // including this one

  // As Profile's, for a time and a number of arrivals that lie in this piece.
  [[nodiscard]] double rate(Time t) const;
  [[nodiscard]] double arrivals(Time t) const;
  [[nodiscard]] Time time_of(double n) const;
};

class Profile {
 public:
  // Adds a piece of that shape at the end. `time` > 0.
  void append(const Shape& shape, Time time);

  [[nodiscard]] Time duration() const { return pieces_.empty() ? Time(0) : pieces_.back().ends; }
  // The requests expected in all.
  [[nodiscard]] double total() const { return pieces_.empty() ? 0 : pieces_.back().arrivals_by_end; }
  // The highest rate that is ever asked for, in requests a second.
  [[nodiscard]] double rate_max() const { return rate_max_; }

  // Requests a second at `t`; 0 before the beginning and from the end on. Where the rate jumps, the one after it.
  [[nodiscard]] double rate(Time t) const;
  // The requests expected by `t`: never falls, 0 before the beginning, the total from the end on.
  [[nodiscard]] double arrivals(Time t) const;
  // The first time by which `n` requests are expected, to the nearest nanosecond. Never falls as n rises by more than
  // rounding; 0 for n <= 0, the duration for more than the total.
  [[nodiscard]] Time time_of(double n) const;

  // In order, none missing. Valid until the next append().
  [[nodiscard]] std::span<const Piece> pieces() const { return pieces_; }

 private:
  std::vector<Piece> pieces_;
  double rate_max_ = 0;
};

}  // namespace kiln::profile
