#include "profile/shape.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <variant>
#include <vector>

namespace kiln::profile {
namespace {

struct Row {
  const char* name;
  Shape shape;
  double seconds;              // how much of it is looked at
  std::vector<double> breaks;  // where the rate jumps within that
};

const std::vector<Row>& rows() {
  static const std::vector<Row> rows = {
      {"constant", Ramp{20, 20, 60}, 60, {}},
      {"constant, a day", Ramp{1e6, 1e6, 86400}, 86400, {}},
      {"nanosecond", Ramp{0, 1e6, 1e-9}, 1e-9, {}},
      {"up from nothing", Ramp{0, 100, 120}, 120, {}},
      {"down to nothing", Ramp{100, 0, 120}, 120, {}},
      {"up", Ramp{20, 200, 300}, 300, {}},
      {"down", Ramp{200, 20, 300}, 300, {}},
      {"hardly up", Ramp{100, 100.0000001, 3600}, 3600, {}},
      {"sine", Sine{50, 30, 120}, 600, {}},
      {"sine that touches nothing", Sine{50, 50, 120}, 600, {}},
      {"flat sine", Sine{50, 0, 120}, 600, {}},
      {"part of a sine", Sine{50, 50, 120}, 100, {}},
      {"minute of a sine of a century", Sine{20, 10, 3.2e9}, 60, {}},
      {"fast sine", Sine{1000, 999, 0.25}, 3, {}},
      {"bursts", Burst{10, 200, 60, 5}, 150, {5, 60, 65, 120, 125}},
      {"bursts over nothing", Burst{0, 200, 60, 5}, 150, {5, 60, 65, 120, 125}},
      {"bursts without a gap", Burst{10, 200, 60, 60}, 150, {60, 120}},
      {"bursts no higher than the base", Burst{10, 10, 60, 5}, 150, {5, 60, 65, 120, 125}},
  };
  return rows;
}

double rate(const Shape& shape, double t) {
  return std::visit([t](const auto& s) { return s.rate(t); }, shape);
}

double arrivals(const Shape& shape, double t) {
  return std::visit([t](const auto& s) { return s.arrivals(t); }, shape);
}

double time_of(const Shape& shape, double n) {
  return std::visit([n](const auto& s) { return s.time_of(n); }, shape);
}

double rate_max(const Shape& shape, double t) {
  return std::visit([t](const auto& s) { return s.rate_max(t); }, shape);
}

// Simpson's rule on each smooth stretch up to `end`. The rate at a jump is the one after it, so the last point of a
// stretch is taken a little before its end.
double integrate(const Row& row, double end) {
  constexpr int kSteps = 20000;
  std::vector<double> edges = {0};
  for (const double at : row.breaks) {
    if (at < end) edges.push_back(at);
  }
  edges.push_back(end);
  double sum = 0;
  for (size_t edge = 1; edge < edges.size(); ++edge) {
    const double from = edges[edge - 1];
    const double step = (edges[edge] - from) / kSteps;
    for (int i = 0; i <= kSteps; ++i) {
      const double weight = i == 0 || i == kSteps ? 1 : i % 2 == 1 ? 4 : 2;
      const double t = i < kSteps ? from + i * step : std::nextafter(from + kSteps * step, from);
      sum += weight * rate(row.shape, std::min(t, std::nextafter(edges[edge], 0))) * step / 3;
    }
  }
  return sum;
}

TEST(Shape, ArrivalsAreTheIntegralOfTheRate) {
  for (const Row& row : rows()) {
    SCOPED_TRACE(row.name);
    EXPECT_EQ(arrivals(row.shape, 0), 0);
    for (const double share : {0.001, 0.1, 0.25, 0.333, 0.5, 0.75, 0.9, 1.0}) {
      const double end = share * row.seconds;
      const double expected = integrate(row, end);
      EXPECT_NEAR(arrivals(row.shape, end), expected, 1e-9 * expected + 1e-12) << "at " << end;
    }
  }
}

TEST(Shape, TimeIsTheInverseOfArrivals) {
  constexpr int kSteps = 1000;
  for (const Row& row : rows()) {
    SCOPED_TRACE(row.name);
    const double total = arrivals(row.shape, row.seconds);
    double before = 0;
    for (int i = 1; i <= kSteps; ++i) {
      const double n = total * i / kSteps;
      const double t = time_of(row.shape, n);
      EXPECT_NEAR(arrivals(row.shape, t), n, 2e-15 * total) << i;
      EXPECT_GE(t, before) << i;
      EXPECT_LE(t, row.seconds * (1 + 1e-12)) << i;
      before = t;
    }
    EXPECT_GT(time_of(row.shape, total * 1e-9), 0);
    EXPECT_LT(time_of(row.shape, total * 1e-9), row.seconds * 1e-4);
  }
}

TEST(Shape, HighestRateIsReachedAndNeverExceeded) {
  constexpr int kSteps = 10000;
  for (const Row& row : rows()) {
    SCOPED_TRACE(row.name);
    double highest = 0;
    for (int i = 0; i <= kSteps; ++i) highest = std::max(highest, rate(row.shape, row.seconds * i / kSteps));
    EXPECT_NEAR(rate_max(row.shape, row.seconds), highest, 1e-6 * highest);
    EXPECT_GE(rate_max(row.shape, row.seconds), highest * (1 - 1e-15));
  }
  EXPECT_DOUBLE_EQ(rate_max(Sine{50, 30, 120}, 10), 65) << "a sine that ends before its crest";
}

TEST(Shape, RatesAreWhatTheFormSays) {
  const struct {
    const char* name;
    Shape shape;
    double t;
    double rate;
  } kRates[] = {
      {"ramp, begin", Ramp{20, 200, 300}, 0, 20},
      {"ramp, middle", Ramp{20, 200, 300}, 150, 110},
      {"ramp, end", Ramp{20, 200, 300}, 300, 200},
      {"sine, begin", Sine{50, 30, 120}, 0, 50},
      {"sine, crest", Sine{50, 30, 120}, 30, 80},
      {"sine, down again", Sine{50, 30, 120}, 60, 50},
      {"sine, trough", Sine{50, 30, 120}, 90, 20},
      {"sine, second crest", Sine{50, 30, 120}, 150, 80},
      {"burst, begin", Burst{10, 200, 60, 5}, 0, 200},
      {"burst, just before its end", Burst{10, 200, 60, 5}, 4.999, 200},
      {"burst, end", Burst{10, 200, 60, 5}, 5, 10},
      {"burst, just before the second", Burst{10, 200, 60, 5}, 59.999, 10},
      {"burst, second", Burst{10, 200, 60, 5}, 60, 200},
  };
  for (const auto& row : kRates) EXPECT_NEAR(rate(row.shape, row.t), row.rate, 1e-12 * row.rate) << row.name;
}

// The end of what was asked for, not the beginning of what comes next.
TEST(Shape, TimeIsTheFirstOfThoseThatAreEquallyGood) {
  const Burst bursts{0, 200, 60, 5};
  EXPECT_DOUBLE_EQ(bursts.time_of(1000), 5);
  EXPECT_DOUBLE_EQ(bursts.time_of(2000), 65);
  EXPECT_DOUBLE_EQ(bursts.time_of(2000.002), 120.00001);
  EXPECT_DOUBLE_EQ((Sine{50, 30, 120}.time_of(6000)), 120);
}

// After a million periods the phase is what it was in the first: nothing was summed up.
TEST(Shape, PeriodsDoNotDrift) {
  const Sine sine{1000, 900, 0.0625};
  const Burst bursts{100, 1000, 0.0625, 0.015625};
  const double before = 0.0625 * (1 << 20);
  for (const double t : {0.001, 0.0156, 0.03, 0.05, 0.06}) {
    EXPECT_NEAR(sine.rate(before + t), sine.rate(t), 1e-5) << t;
    EXPECT_NEAR(sine.arrivals(before + t) - 1000 * before, sine.arrivals(t), 1e-7) << t;
    EXPECT_NEAR(sine.time_of(1000 * before + sine.arrivals(t)), before + t, 1e-9) << t;
    EXPECT_EQ(bursts.rate(before + t), bursts.rate(t)) << t;
    EXPECT_NEAR(bursts.time_of(bursts.arrivals(before) + bursts.arrivals(t)), before + t, 1e-9) << t;
  }
}

}  // namespace
}  // namespace kiln::profile
