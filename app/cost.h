// What a request of a route costs in CPU time: the same each time, or drawn from a log-normal distribution, which is
// what the service times of real services look like (never negative, many small, a few large).
#pragma once

#include <chrono>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace kiln::app {

class Cost {
 public:
  using Duration = std::chrono::nanoseconds;
  using Random = std::mt19937_64;  // whoever draws seeds his own, so that a run can be repeated

  static constexpr Duration kMeanMax = std::chrono::minutes(1);
  static constexpr double kSigmaMax = 3;
  // A wide distribution has no largest value, but a burn has one.
  static constexpr Duration kDrawMax = std::chrono::hours(1);

  // "2ms", or "lognormal(5ms,0.8)": the mean of what is drawn, and the standard deviation of its logarithm.
  [[nodiscard]] static base::Result<Cost> parse(std::string_view text);

  [[nodiscard]] Duration draw(Random& random) const;

 private:
  Cost(Duration mean, double sigma) : mean_(mean), sigma_(sigma) {}

  Duration mean_;
  double sigma_;  // 0: the mean each time
};

struct RouteCost {
  std::string route;
  Cost cost;
};

// Pairs "ROUTE=COST", separated by blanks; `routes` are the paths that are served. An error quotes the pair and says
// what is accepted.
[[nodiscard]] base::Result<std::vector<RouteCost>> parse_costs(std::string_view text,
                                                               std::span<const std::string> routes);

}  // namespace kiln::app
