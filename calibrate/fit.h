// The arithmetic behind a calibration.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/hdr_histogram.h"
#include "calibrate/calibration.h"

namespace kiln::calibrate {

struct Point {
  double rate = 0;
  double millicores = 0;
};

// Least squares; the largest distance of a point from it beside. Nothing when there are not two different rates, or
// when CPU does not grow with the rate: then a request costs less than what else the server does from step to step.
[[nodiscard]] std::optional<Line> fit_line(std::span<const Point> points);

// The 99th percentile of each histogram, where those that would make it fall from one to the next are taken together
// until none does (pool adjacent violators): more load does not make a server faster, few samples do. Percentiles are
// of the pooled histograms, never averaged. Neighbours are taken together as well until they have kP99Least values, of
// which the 99th percentile is more than the largest; the last with the one before. As many figures as histograms, all
// 0 where there are not so many values.
inline constexpr uint64_t kP99Least = 100;
std::vector<double> smooth_p99(std::span<const base::HdrHistogram> by_rising_load);

}  // namespace kiln::calibrate
