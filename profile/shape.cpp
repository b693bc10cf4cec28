#include "profile/shape.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace kiln::profile {
namespace {

using std::numbers::pi;

// How many whole periods lie before x, which is in one of them: in (k * period, (k + 1) * period] for the amount of
// requests, whose first time is wanted, so that the end of a period belongs to it and not to the next.
double periods_before(double x, double period) { return std::max(0.0, std::ceil(x / period) - 1); }

struct Phase {
  double periods;  // whole ones before
  double rest;     // in [0, period)
};

Phase phase_of(double t, double period) {
  // fmod is exact; the quotient rounded down could disagree with it where t is a multiple.
  const double rest = std::fmod(t, period);
  return {std::round((t - rest) / period), rest};
}

// The u in [0, 1] with u + a / pi * sin^2(pi u) = q, for a and q in [0, 1]: Newton's method, kept inside a bracket.
// Where a is 1 the derivative vanishes at 3/4 and Newton alone would crawl or leap there; halving the bracket whenever
// a step leaves it, or does not at least halve the step before, ends in some sixty rounds at worst, in four or five as
// a rule.
double solve_sine(double a, double q) {
  constexpr int kRoundsMax = 200;
  constexpr double kStepMin = 0x1p-53;  // relative: a piece may be a tiny part of its period
  double low = 0;
  double high = 1;
  double u = q;
  double step_before = 1;
  for (int round = 0; round < kRoundsMax; ++round) {
    const double sine = std::sin(pi * u);
    const double cosine = std::cos(pi * u);
    const double miss = u + a / pi * sine * sine - q;
    if (miss == 0) break;
    (miss < 0 ? low : high) = u;
    const double slope = 1 + 2 * a * sine * cosine;
    double next = u - miss / slope;
    const bool newton = next > low && next < high && std::abs(next - u) <= step_before / 2;
    if (!newton) next = low + (high - low) / 2;
    step_before = newton ? std::abs(next - u) : high - low;
    if (std::abs(next - u) <= kStepMin * u) break;
    u = next;
  }
  return u;
}

}  // namespace

double Ramp::rate(double t) const { return from + (to - from) * (t / seconds); }

double Ramp::arrivals(double t) const { return t * (from + (to - from) * (t / seconds) / 2); }

double Ramp::time_of(double n) const {
  // The root of the quadratic in the form that subtracts nothing from a number of its own size, so that it holds for a
  // slope of 0 as well. At the end of a ramp down to 0 rounding may take the discriminant below 0.
  const double slope = (to - from) / seconds;
  return 2 * n / (from + std::sqrt(std::max(0.0, from * from + 2 * slope * n)));
}

double Ramp::rate_max(double t) const { return std::max(from, rate(t)); }

double Sine::rate(double t) const { return mean + amplitude * std::sin(2 * pi * (phase_of(t, period).rest / period)); }

double Sine::arrivals(double t) const {
  // Whole periods hold their mean; 1 - cos(2x) is written as 2 sin^2(x), which keeps its digits where x is small.
  const double sine = std::sin(pi * (phase_of(t, period).rest / period));
  return mean * t + amplitude * period / pi * sine * sine;
}

double Sine::time_of(double n) const {
  const double of_period = mean * period;
  const double periods = periods_before(n, of_period);
  const double share = std::clamp(n / of_period - periods, 0.0, 1.0);
  return period * (periods + solve_sine(amplitude / mean, share));
}

double Sine::rate_max(double t) const { return t >= period / 4 ? mean + amplitude : rate(t); }

double Burst::rate(double t) const { return phase_of(t, every).rest < width ? peak : base; }

double Burst::arrivals(double t) const {
  const auto [periods, rest] = phase_of(t, every);
  const double of_period = peak * width + base * (every - width);
  return periods * of_period + peak * std::min(rest, width) + base * std::max(0.0, rest - width);
}

double Burst::time_of(double n) const {
  const double of_peak = peak * width;
  const double of_period = of_peak + base * (every - width);
  const double periods = periods_before(n, of_period);
  const double rest = std::max(0.0, n - periods * of_period);
  const double beyond = rest - of_peak;
  if (beyond <= 0) return periods * every + rest / peak;
  // With a base of 0 only rounding leads here.
  return periods * every + (base > 0 ? std::min(every, width + beyond / base) : width);
}

double Burst::rate_max(double) const { return peak; }

}  // namespace kiln::profile
