#include "app/cost.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "base/quantity.h"

namespace kiln::app {

namespace {

constexpr std::string_view kBlanks = " \t\r\n";  // a variable of a manifest may have several lines
constexpr std::string_view kLogNormal = "lognormal(";
constexpr std::string_view kLoad = "/load";

std::unexpected<base::Error> not_a_cost(std::string_view text) {
  return base::error(
      fmt::format("'{}' is not a TIME such as 2ms, or lognormal(MEAN,SIGMA) such as lognormal(5ms,0.8)", text));
}

base::Result<RouteCost> parse_pair(std::string_view pair, std::span<const std::string> routes) {
  const size_t equals = pair.find('=');
  if (equals == std::string_view::npos) {
    return base::error(fmt::format("'{}' is not ROUTE=TIME or ROUTE=lognormal(MEAN,SIGMA), such as /=2ms", pair));
  }
  const auto refused = [pair](std::string_view why) { return base::error(fmt::format("'{}': {}", pair, why)); };
  const std::string_view route = pair.substr(0, equals);
  if (!route.starts_with('/')) return refused("a ROUTE begins with /");
  if (route == kLoad) return refused("each request of /load says itself what it burns");
  if (std::ranges::find(routes, route) == routes.end()) {
    return refused(fmt::format("no such route; there are {}", fmt::join(routes, ", ")));
  }
  const auto cost = Cost::parse(pair.substr(equals + 1));
  if (!cost) return refused(cost.error().what);
  return RouteCost{std::string(route), *cost};
}

}  // namespace

base::Result<Cost> Cost::parse(std::string_view text) {
  std::string_view mean_text = text;
  double sigma = 0;
  if (text.starts_with(kLogNormal) && text.ends_with(')')) {
    mean_text.remove_prefix(kLogNormal.size());
    mean_text.remove_suffix(1);
    const size_t comma = mean_text.find(',');
    if (comma == std::string_view::npos) return not_a_cost(text);
    const std::string_view sigma_text = mean_text.substr(comma + 1);
    mean_text = mean_text.substr(0, comma);
    const auto parsed = base::parse_decimal(sigma_text);
    if (!parsed || *parsed > kSigmaMax) {
      return base::error(fmt::format("'{}' is not a SIGMA between 0 and {}", sigma_text, kSigmaMax));
    }
    sigma = *parsed;
  }
  const auto mean = base::parse_duration(mean_text);
  if (!mean) return not_a_cost(text);
  if (*mean > kMeanMax) {
    return base::error(fmt::format("'{}' is too large: the most is {}", mean_text, base::format_duration(kMeanMax)));
  }
  return Cost(*mean, sigma);
}

Cost::Duration Cost::draw(Random& random) const {
  if (sigma_ == 0) return mean_;
  // The mean of exp(N(mu, sigma)) is exp(mu + sigma^2 / 2); its median exp(mu).
  const double median = static_cast<double>(mean_.count()) * std::exp(-sigma_ * sigma_ / 2);
  const double drawn = median * std::exp(sigma_ * std::normal_distribution<double>()(random));
  return Duration(static_cast<Duration::rep>(std::min(drawn, static_cast<double>(kDrawMax.count()))));
}

base::Result<std::vector<RouteCost>> parse_costs(std::string_view text, std::span<const std::string> routes) {
  std::vector<RouteCost> costs;
  for (;;) {
    text.remove_prefix(std::min(text.find_first_not_of(kBlanks), text.size()));
    if (text.empty()) return costs;
    const std::string_view pair = text.substr(0, text.find_first_of(kBlanks));
    text.remove_prefix(pair.size());
    auto parsed = parse_pair(pair, routes);
    if (!parsed) return std::unexpected(std::move(parsed.error()));
    if (std::ranges::find(costs, parsed->route, &RouteCost::route) != costs.end()) {
      return base::error(fmt::format("'{}': {} has a cost already", pair, parsed->route));
    }
    costs.push_back(std::move(*parsed));
  }
}

}  // namespace kiln::app
