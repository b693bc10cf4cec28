#include "app/bumped_metrics.h"

#include <algorithm>

namespace kiln::app {

std::optional<BumpedMetrics::Refusal> BumpedMetrics::add(std::string_view name, double delta, Duration time,
                                                         TimePoint now) {
  if (!is_metric_name(name)) return Refusal::BadName;
  const std::lock_guard lock(mutex_);
  expire(now);
  size_t bumps = 0;
  for (const Gauge& gauge : gauges_) bumps += gauge.bumps.size();
  if (bumps >= kBumpsMax) return Refusal::TooManyBumps;

  auto gauge = std::ranges::find(gauges_, name, &Gauge::name);
  if (gauge == gauges_.end()) {
    // The oldest of those that nobody bumps any more makes room.
    if (gauges_.size() >= kNamesMax) {
      const auto idle = std::ranges::find_if(gauges_, [](const Gauge& known) { return known.bumps.empty(); });
      if (idle == gauges_.end()) return Refusal::TooManyNames;
      gauges_.erase(idle);
    }
    gauge = gauges_.insert(gauges_.end(), {.name = std::string(name), .bumps = {}});
  }
  gauge->bumps.push_back({delta, now + time});
  return std::nullopt;
}

std::vector<std::pair<std::string, double>> BumpedMetrics::list(TimePoint now) {
  const std::lock_guard lock(mutex_);
  expire(now);
  std::vector<std::pair<std::string, double>> values;
  for (const Gauge& gauge : gauges_) {
    // Added up anew, so that nothing is left of what was added and taken back.
    double value = 0;
    for (const Bump& bump : gauge.bumps) value += bump.delta;
    values.emplace_back(gauge.name, value);
  }
  return values;
}

void BumpedMetrics::expire(TimePoint now) {
  for (Gauge& gauge : gauges_) std::erase_if(gauge.bumps, [now](const Bump& bump) { return bump.ends <= now; });
}

bool is_metric_name(std::string_view name) {
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  const auto is_allowed = [&](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == ':' || is_digit(c);
  };
  return !name.empty() && name.size() <= BumpedMetrics::kNameBytesMax && !is_digit(name.front()) &&
         std::ranges::all_of(name, is_allowed);
}

}  // namespace kiln::app
