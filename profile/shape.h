// The shapes that a piece of a load profile can have. Each is a rate over time with its integral and the inverse of
// that, in seconds from the beginning of the piece and requests a second:
//
//   rate(t)        at t; where it jumps, the rate after the jump
//   arrivals(t)    how many requests are expected by t: the integral of the rate from 0 to t
//   time_of(n)     the first t with arrivals(t) = n; n > 0, and no more than the piece holds
//   rate_max(t)    the highest rate from 0 to t
//
// Numbers are not negative and finite, times above 0. All is computed from t or n alone, so nothing drifts.
#pragma once

#include <variant>

namespace kiln::profile {

// From one rate to another in a straight line; a constant rate goes from itself to itself.
struct Ramp {
  double from;
  double to;
  double seconds;

  [[nodiscard]] double rate(double t) const;
  [[nodiscard]] double arrivals(double t) const;
  [[nodiscard]] double time_of(double n) const;
  [[nodiscard]] double rate_max(double t) const;
};

// mean + amplitude * sin(2 pi t / period): begins at the mean and rises. The amplitude is at most the mean.
struct Sine {
  double mean;
  double amplitude;
  double period;

  [[nodiscard]] double rate(double t) const;
  [[nodiscard]] double arrivals(double t) const;
  [[nodiscard]] double time_of(double n) const;
  [[nodiscard]] double rate_max(double t) const;
};

// The peak for `width` at the beginning of each `every`, the base for the rest of it. The base is at most the peak,
// `width` at most `every`.
struct Burst {
  double base;
  double peak;
  double every;
  double width;

  [[nodiscard]] double rate(double t) const;
  [[nodiscard]] double arrivals(double t) const;
  [[nodiscard]] double time_of(double n) const;
  [[nodiscard]] double rate_max(double t) const;
};

using Shape = std::variant<Ramp, Sine, Burst>;

}  // namespace kiln::profile
