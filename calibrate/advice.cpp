#include "calibrate/advice.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <ratio>
#include <vector>

#include "base/quantity.h"
#include "calibrate/quantities.h"
#include "load/report.h"

namespace kiln::calibrate {

namespace {

constexpr double kRequestLeast = 1;    // Kubernetes knows no smaller amount of CPU

// The 99th percentile over the load, as measured and on straight lines between.
class Curve {
 public:
  explicit Curve(const std::vector<Step>& steps) {
    for (const Step& step : steps) points_.push_back({step.cpu_millicores(), step.p99_smooth_us});
    std::ranges::sort(points_, {}, &Point::millicores);
    // The load of two neighbouring steps may have come out in the other order.
    for (size_t i = 1; i < points_.size(); ++i) points_[i].p99_us = std::max(points_[i].p99_us, points_[i - 1].p99_us);
  }

  [[nodiscard]] double p99_us(double millicores) const {
    const auto next = std::ranges::upper_bound(points_, millicores, {}, &Point::millicores);
    if (next == points_.begin()) return points_.front().p99_us;
    if (next == points_.end()) return points_.back().p99_us;
    const Point& before = *std::prev(next);
    const double part = (millicores - before.millicores) / (next->millicores - before.millicores);
    return std::lerp(before.p99_us, next->p99_us, part);
  }

  // The load from which on it is beyond the goal: 0 when it always is, nothing when it never is.
  [[nodiscard]] std::optional<double> passes(double goal_us) const {
    const auto beyond = std::ranges::upper_bound(points_, goal_us, {}, &Point::p99_us);
    if (beyond == points_.begin()) return 0;
    if (beyond == points_.end()) return std::nullopt;
    const Point& before = *std::prev(beyond);
    const double part = (goal_us - before.p99_us) / (beyond->p99_us - before.p99_us);
    return std::lerp(before.millicores, beyond->millicores, part);
  }

 private:
  struct Point {
    double millicores;
    double p99_us;
  };
  std::vector<Point> points_;  // by rising load; the percentile never falls
};

// The most CPU that a replica is ever seen to use.
double use_max(const Calibration& calibration) {
  const double plateau = calibration.plateau_millicores;
  return plateau > 0 ? std::min(plateau, calibration.limit_millicores) : calibration.limit_millicores;
}

// The same, but for the last percents, by which a plateau is measured.
double capacity(const Calibration& calibration) {
  constexpr double kMeasured = 0.97;
  const double most = use_max(calibration);
  return most < kMeasured * calibration.limit_millicores ? most : calibration.limit_millicores;
}

// The autoscaler divides whole percents: 499.8m of 500m are 99 %, which is not beyond 1.1 times 90 %.
bool can_trigger(double most_millicores, double request_millicores, unsigned target_percent) {
  const double whole_percent = std::floor(100 * most_millicores / request_millicores);
  return whole_percent > std::round((100 + 100 * kTolerance) * target_percent) / 100;
}

// Up to there the autoscaler does nothing.
double left_alone(const Threshold& at) { return (1 + kTolerance) * at.cpu_millicores; }

Threshold threshold(const Calibration& calibration, const Wishes& wishes, const Curve& curve, double edge_millicores,
                    unsigned target_percent) {
  const Line& line = *calibration.line;
  Threshold at{.target_percent = target_percent};
  at.cpu_millicores = wishes.request_millicores * target_percent / 100;
  at.rate = std::max(line.rate(at.cpu_millicores), 0.0);
  at.headroom_millicores = capacity(calibration) - at.cpu_millicores;
  at.growth = capacity(calibration) / at.cpu_millicores;
  at.ramp_seconds = std::max(edge_millicores - left_alone(at), 0.0) / wishes.slope_millicores;
  at.p99_us = curve.p99_us(at.cpu_millicores);
  // So many arrivals in a window, give or take the root of that.
  if (at.rate > 0) {
    at.spread_percent = 100 * line.cost_ms * std::sqrt(at.rate / kWindowSeconds) / at.cpu_millicores;
  }
  at.can_trigger = can_trigger(use_max(calibration), wishes.request_millicores, target_percent);
  return at;
}

std::string until_the_edge(const Advice& advice) {
  return advice.edge_is_plateau ? fmt::format("before the limit cuts (at {})", cpu_text(advice.edge_millicores))
                                : fmt::format("before its p99 passes {} (at {})", load::time_text(advice.goal_us),
                                              cpu_text(advice.edge_millicores));
}

std::string grows(const Wishes& wishes) { return cpu_text(wishes.slope_millicores) + " more each second"; }

std::string cannot_trigger(const Calibration& calibration) {
  return fmt::format("the limit holds the use at {}, within a tenth of the target, and nothing ever scales up",
                     cpu_text(use_max(calibration)));
}

bool lasts(const Threshold& at, const Advice& advice, const Wishes& wishes) {
  return left_alone(at) <= advice.edge_millicores && at.ramp_seconds >= in_seconds(wishes.reaction);
}

std::string why(const Advice& advice, const Threshold& chosen, const Calibration& calibration, const Wishes& wishes) {
  const std::string reaction = seconds_text(in_seconds(wishes.reaction));
  const auto next =
      std::ranges::find(advice.thresholds, chosen.target_percent + kTargetStep, &Threshold::target_percent);
  if (next != advice.thresholds.end() && !lasts(*next, advice, wishes)) {
    const std::string there =
        next->ramp_seconds > 0 ? "it is " + seconds_text(next->ramp_seconds) : "a replica is past that already";
    return fmt::format(
        "{} %, the highest target from which a replica stands {} for the {} until new ones serve, {}; at {} % {}",
        chosen.target_percent, grows(wishes), reaction, until_the_edge(advice), next->target_percent, there);
  }
  const bool highest = next == advice.thresholds.end();
  const std::string beyond =
      highest ? "" : fmt::format("; at {} % {}", next->target_percent, cannot_trigger(calibration));
  return fmt::format("{} %, the highest {}: from there a replica stands {} for {} {}, and new ones serve after {}{}",
                     chosen.target_percent, highest ? "looked at" : "that can scale up", grows(wishes),
                     seconds_text(chosen.ramp_seconds), until_the_edge(advice), reaction, beyond);
}

// What would make the lowest target last, one thing at a time.
std::string remedies(const Advice& advice, const Threshold& lowest, const Calibration& calibration,
                     const Wishes& wishes) {
  const double reaction = in_seconds(wishes.reaction);
  const double needed = wishes.slope_millicores * reaction;
  std::vector<std::string> ways;
  // The edge moves with the limit, as far as it is a matter of utilisation and the limit is what stands in the way.
  if (capacity(calibration) >= calibration.limit_millicores) {
    ways.push_back(fmt::format("a limit of about {:.0f}m", std::ceil(calibration.limit_millicores *
                                                                     (left_alone(lowest) + needed) /
                                                                     advice.edge_millicores)));
  }
  const double request = std::floor((advice.edge_millicores - needed) * 100 / kTargetLowest / (1 + kTolerance));
  if (request >= kRequestLeast) ways.push_back(fmt::format("a request of at most {:.0f}m", request));
  const double slope = std::floor(100 * (advice.edge_millicores - left_alone(lowest)) / reaction) / 100;
  if (slope >= kSlopeLeast) ways.push_back(fmt::format("a load that grows by {} a second", cpu_text(slope)));
  if (lowest.ramp_seconds >= 1) ways.push_back("new replicas within " + seconds_text(lowest.ramp_seconds));
  return ways.empty() ? "requests that cost less would do" : fmt::format("{} would do", fmt::join(ways, ", or "));
}

std::string why_none(const Advice& advice, const std::vector<Step>& steps, const Calibration& calibration,
                     const Wishes& wishes) {
  const Threshold& lowest = advice.thresholds.front();
  if (advice.edge_millicores <= 0) {
    return fmt::format("none: with hardly any load, at {}, p99 is {} and beyond {} already; allow a higher one, or "
                       "calibrate with requests that cost less",
                       cpu_text(steps.front().cpu_millicores()), load::time_text(steps.front().p99_smooth_us),
                       load::time_text(advice.goal_us));
  }
  if (!lowest.can_trigger) {
    return fmt::format("none: even at {} % {}; raise the limit, or lower the request", kTargetLowest,
                       cannot_trigger(calibration));
  }
  const std::string would_do = remedies(advice, lowest, calibration, wishes);
  if (lowest.ramp_seconds <= 0) {
    return fmt::format("none: at {} % already, with {}, a replica is past {}; {}", kTargetLowest,
                       cpu_text(lowest.cpu_millicores),
                       advice.edge_is_plateau ? "what the limit leaves" : "a p99 of " + load::time_text(advice.goal_us),
                       would_do);
  }
  return fmt::format("none: even at {} % a replica stands {} for only {} {}, and new ones serve after {}; {}",
                     kTargetLowest, grows(wishes), seconds_text(lowest.ramp_seconds), until_the_edge(advice),
                     seconds_text(in_seconds(wishes.reaction)), would_do);
}

// Of the lightest steps, up to half of the limit: one alone may have met a bad moment.
double p50_with_little_load(const Calibration& calibration) {
  std::vector<double> medians;
  for (const Step& step : calibration.steps) {
    if (medians.empty() || step.cpu_millicores() <= calibration.limit_millicores / 2) medians.push_back(step.p50_us);
  }
  std::ranges::sort(medians);
  return medians[(medians.size() - 1) / 2];
}

// What is not quite so sure about the chosen target.
std::string reserve(const Calibration& calibration, const Threshold& chosen) {
  constexpr double kLateShareMax = 0.05;
  std::string out;
  if (chosen.spread_percent > 100 * kTolerance) {
    out += fmt::format("; one replica alone is scaled by chance now and then: its use in {:.0f} s varies by {:.0f} %",
                       kWindowSeconds, chosen.spread_percent);
  }
  const double late = std::ranges::max(calibration.steps, {}, &Step::client_late_share).client_late_share;
  if (late > kLateShareMax) {
    out += fmt::format("; PROVISIONAL: up to {:.0f} % of a step's requests went out late on this busy machine",
                       100 * late);
  }
  return out;
}

base::Result<void> check(const Calibration& calibration, const Wishes& wishes) {
  if (!calibration.line || calibration.steps.empty()) {
    return base::error(fmt::format("no advice: CPU was not measured over the rate{}",
                                   calibration.interrupted ? ", the calibration was interrupted" : ""));
  }
  if (!(calibration.limit_millicores > 0)) return base::error("no advice: the calibration knows no limit");
  const double request = wishes.request_millicores;
  if (!(request >= kRequestLeast)) {
    return base::error(fmt::format("a request of {} is less than {:.0f}m", cpu_text(request), kRequestLeast));
  }
  if (request > calibration.limit_millicores) {
    return base::error(fmt::format("a request of {} is more than the limit of {}", cpu_text(request),
                                   cpu_text(calibration.limit_millicores)));
  }
  if (!(wishes.slope_millicores >= kSlopeLeast && wishes.slope_millicores <= kSlopeMost)) {
    return base::error(fmt::format("a load grows by {}m to {:.0f}m a second, not by {}", kSlopeLeast, kSlopeMost,
                                   cpu_text(wishes.slope_millicores)));
  }
  if (wishes.reaction.count() < 0) return base::error("new replicas serve after a time that is not negative");
  return {};
}

}  // namespace

base::Result<std::chrono::nanoseconds> parse_goal(std::string_view text) {
  constexpr std::string_view kBefore = "p99<";
  const auto refuse = [&](std::string_view why) {
    return base::error(fmt::format("'{}' is no goal: {}; for example p99<250ms", load::printable(text), why));
  };
  std::string goal(text);
  std::erase(goal, ' ');
  if (!goal.starts_with(kBefore)) return refuse("it begins with p99<");
  const auto duration = base::parse_duration(std::string_view(goal).substr(kBefore.size()));
  if (!duration) return refuse(duration.error().what);
  if (duration->count() == 0) return refuse("nothing is answered in no time");
  return *duration;
}

base::Result<Advice> advise(const Calibration& calibration, const Wishes& wishes) {
  if (const auto possible = check(calibration, wishes); !possible) return std::unexpected(possible.error());

  Advice advice;
  advice.goal_us = wishes.p99_max ? std::chrono::duration<double, std::micro>(*wishes.p99_max).count()
                                  : kTimesAlone * p50_with_little_load(calibration);
  const Curve curve(calibration.steps);
  const auto passes = curve.passes(advice.goal_us);
  const double most = use_max(calibration);
  advice.edge_is_plateau = !passes || *passes >= most;
  advice.edge_millicores = advice.edge_is_plateau ? most : *passes;
  for (unsigned target = kTargetLowest; target <= kTargetHighest; target += kTargetStep) {
    advice.thresholds.push_back(threshold(calibration, wishes, curve, advice.edge_millicores, target));
  }
  const Threshold* chosen = nullptr;
  for (const Threshold& at : advice.thresholds) {
    if (at.can_trigger && lasts(at, advice, wishes)) chosen = &at;
  }
  if (chosen != nullptr) advice.recommended = chosen->target_percent;
  advice.reason = chosen != nullptr ? why(advice, *chosen, calibration, wishes) + reserve(calibration, *chosen)
                                    : why_none(advice, calibration.steps, calibration, wishes);
  return advice;
}

}  // namespace kiln::calibrate
