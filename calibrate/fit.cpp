#include "calibrate/fit.h"

#include <algorithm>
#include <cmath>

namespace kiln::calibrate {

std::optional<Line> fit_line(std::span<const Point> points) {
  if (points.empty()) return std::nullopt;
  const auto count = static_cast<double>(points.size());
  Point mean;
  for (const Point& point : points) {
    mean.rate += point.rate / count;
    mean.millicores += point.millicores / count;
  }
  // About the means: sums of squares of the rates themselves would lose the digits that count.
  double squares = 0, products = 0;
  for (const Point& point : points) {
    squares += (point.rate - mean.rate) * (point.rate - mean.rate);
    products += (point.rate - mean.rate) * (point.millicores - mean.millicores);
  }
  if (!(squares > 0) || !(products > 0)) return std::nullopt;

  Line line{.cost_ms = products / squares};
  line.idle_millicores = mean.millicores - line.cost_ms * mean.rate;
  for (const Point& point : points) {
    const double residual = std::abs(point.millicores - line.cpu(point.rate));
    line.residual_max_millicores = std::max(line.residual_max_millicores, residual);
  }
  return line;
}

std::vector<double> smooth_p99(std::span<const base::HdrHistogram> by_rising_load) {
  struct Pool {
    base::HdrHistogram histogram;
    size_t steps = 1;
    [[nodiscard]] uint64_t p99() const { return histogram.value_at_percentile(99); }
    void take(const Pool& other) {
      histogram.add(other.histogram);
      steps += other.steps;
    }
  };
  std::vector<Pool> pools;
  const auto is_small = [](const Pool& pool) { return pool.histogram.count() < kP99Least; };
  for (const base::HdrHistogram& histogram : by_rising_load) {
    Pool pool{.histogram = histogram};
    while (!pools.empty() && (is_small(pools.back()) || (!is_small(pool) && pools.back().p99() > pool.p99()))) {
      pool.take(pools.back());
      pools.pop_back();
    }
    pools.push_back(std::move(pool));
  }
  // The last may be small still, and lie below the one before together with it.
  while (pools.size() > 1 && (is_small(pools.back()) || pools[pools.size() - 2].p99() > pools.back().p99())) {
    pools[pools.size() - 2].take(pools.back());
    pools.pop_back();
  }
  std::vector<double> figures;
  if (!pools.empty() && is_small(pools.front())) return std::vector<double>(by_rising_load.size());
  for (const Pool& pool : pools) figures.insert(figures.end(), pool.steps, static_cast<double>(pool.p99()));
  return figures;
}

}  // namespace kiln::calibrate
