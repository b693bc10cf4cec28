#include "calibrate/advice.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <ratio>
#include <vector>

#include "base/quantity.h"
#include "calibrate/quantities.h"
#include "load/report.h"

namespace kiln::calibrate {

namespace {

constexpr double kRequestLeast = 1;  // Kubernetes knows no smaller amount of CPU
constexpr unsigned kTolerancePercent = 10;
static_assert(kTolerancePercent == kTolerance * 100);

// The 99th percentile over the load, as measured and on straight lines between.
class Curve {
 public:
  explicit Curve(const std::vector<Step>& steps) {
    for (const Step& step : steps) {
      if (step.p99_smooth_us > 0) points_.push_back({step.cpu_millicores(), step.p99_smooth_us});
    }
    std::ranges::sort(points_, {}, &Point::millicores);
    // The load of two neighbouring steps may have come out in the other order.
    for (size_t i = 1; i < points_.size(); ++i) points_[i].p99_us = std::max(points_[i].p99_us, points_[i - 1].p99_us);
  }

  // False when no step had requests enough for one.
  [[nodiscard]] bool is_known() const { return !points_.empty(); }

  [[nodiscard]] double p99_us(double millicores) const {
    if (!is_known()) return 0;
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

// The same, where a plateau about the limit is the limit.
double capacity(const Calibration& calibration) {
  return calibration.limit_cuts() ? calibration.limit_millicores : use_max(calibration);
}

double idle_of(const Calibration& calibration) {
  return std::max(calibration.idle_millicores.value_or(calibration.line->idle_millicores), 0.0);
}

double acts_from(double request_millicores, unsigned target_percent) {
  const unsigned first_percent = (100 + kTolerancePercent) * target_percent / 100 + 1;
  return std::ceil(request_millicores * first_percent / 100) - 1;
}

// With nothing to do each uses `idle`, and the autoscaler wants ceil(n × idle / target) of n. Those are fewer as long
// as n × (target - idle) >= target.
unsigned replicas_at_rest(double idle_millicores, double request_millicores, unsigned target_percent) {
  const double idle_percent = std::floor(100 * std::ceil(idle_millicores) / request_millicores);
  if (idle_percent * 100 >= (100.0 - kTolerancePercent) * target_percent) return 0;
  const auto idle = static_cast<unsigned>(idle_percent);
  return std::max((target_percent - 1) / (target_percent - idle), 1U);
}

double chance_seconds(const Threshold& at, double cost_ms) {
  if (at.rate <= 0) return 0;
  // So many arrivals in a window, give or take the root of that.
  const double deviation_millicores = cost_ms * std::sqrt(at.rate / kWindowSeconds);
  const double deviations = (at.acts_from_millicores - at.cpu_millicores) / deviation_millicores;
  const double chance = std::erfc(deviations / std::numbers::sqrt2) / 2;
  return std::min(kWindowSeconds / chance, kChanceSecondsMax);
}

Threshold threshold(const Calibration& calibration, const Wishes& wishes, const Curve& curve, const Advice& advice,
                    unsigned target_percent) {
  const Line& line = *calibration.line;
  Threshold at{.target_percent = target_percent};
  at.cpu_millicores = wishes.request_millicores * target_percent / 100;
  at.rate = std::max(line.rate(at.cpu_millicores), 0.0);
  at.headroom_millicores = capacity(calibration) - at.cpu_millicores;
  at.growth = capacity(calibration) / at.cpu_millicores;
  at.acts_from_millicores = acts_from(wishes.request_millicores, target_percent);
  const double room = std::max(advice.edge_millicores - at.acts_from_millicores, 0.0);
  at.ramp_seconds = room / advice.slope_millicores;
  const double reaction = in_seconds(wishes.reaction);
  at.slope_millicores = reaction > 0 ? room / reaction : room > 0 ? kSlopeMost : 0;
  at.p99_us = curve.p99_us(at.cpu_millicores);
  at.chance_seconds = chance_seconds(at, line.cost_ms);
  at.can_trigger = use_max(calibration) > at.acts_from_millicores;
  at.replicas_at_rest = replicas_at_rest(idle_of(calibration), wishes.request_millicores, target_percent);
  return at;
}

std::string until_the_edge(const Advice& advice) {
  return advice.edge_is_plateau ? fmt::format("before the limit cuts (at {})", cpu_text(advice.edge_millicores))
                                : fmt::format("before its p99 passes {} (at {})", load::time_text(advice.goal_us),
                                              cpu_text(advice.edge_millicores));
}

std::string grows(double slope_millicores) { return cpu_text(slope_millicores) + " more each second"; }

std::string cannot_trigger(const Calibration& calibration) {
  return fmt::format("the limit holds the use at {}, within a tenth of the target, and nothing ever scales up",
                     cpu_text(use_max(calibration)));
}

bool lasts(const Threshold& at, const Advice& advice, const Wishes& wishes) {
  return at.acts_from_millicores <= advice.edge_millicores && at.ramp_seconds >= in_seconds(wishes.reaction);
}

bool is_usual(const Threshold& at) {
  return at.target_percent >= kTargetLowest && at.target_percent <= kTargetHighest &&
         at.target_percent % kTargetStep == 0;
}

std::string why(const Advice& advice, const Threshold& chosen, const Calibration& calibration, const Wishes& wishes) {
  const std::string reaction = seconds_text(in_seconds(wishes.reaction));
  const auto next =
      std::ranges::find(advice.thresholds, chosen.target_percent + kTargetStep, &Threshold::target_percent);
  if (next != advice.thresholds.end() && next->can_trigger && !lasts(*next, advice, wishes)) {
    const std::string there =
        next->ramp_seconds > 0
            ? "it is " + seconds_text(next->ramp_seconds)
            : fmt::format("it is past that before the autoscaler acts (at {})", cpu_text(next->acts_from_millicores));
    std::string reason = fmt::format(
        "{} %, the highest target from which a replica stands {} for the {} until new ones serve, {}; at {} % {}",
        chosen.target_percent, grows(advice.slope_millicores), reaction, until_the_edge(advice), next->target_percent,
        there);
    const auto highest = std::ranges::find(advice.thresholds, kTargetHighest, &Threshold::target_percent);
    const double slope = round_down(highest->slope_millicores);
    if (highest->can_trigger && slope >= kSlopeLeast) {
      reason += fmt::format("; with {} it would be {} %", grows(slope), kTargetHighest);
    }
    return reason;
  }
  const bool highest = next == advice.thresholds.end();
  const std::string beyond =
      highest ? "" : fmt::format("; at {} % {}", next->target_percent, cannot_trigger(calibration));
  return fmt::format("{} %, the highest {}: from there a replica stands {} for {} {}, and new ones serve after {}{}",
                     chosen.target_percent, highest ? "looked at" : "that can scale up", grows(advice.slope_millicores),
                     seconds_text(chosen.ramp_seconds), until_the_edge(advice), reaction, beyond);
}

// What would make that target last, one thing at a time.
std::string remedies(const Advice& advice, const Threshold& lowest, const Calibration& calibration,
                     const Wishes& wishes) {
  const double reaction = in_seconds(wishes.reaction);
  const double needed = advice.slope_millicores * reaction;
  std::vector<std::string> ways;
  // The edge moves with the limit, as far as it is a matter of utilisation and the limit is what stands in the way.
  if (calibration.limit_is_quota && calibration.limit_cuts()) {
    ways.push_back(fmt::format("a limit of about {:.0f}m", std::ceil(calibration.limit_millicores *
                                                                     (lowest.acts_from_millicores + needed) /
                                                                     advice.edge_millicores)));
  }
  // The largest whose acts_from() leaves enough: that is a millicore less than so many percent of it, or up to.
  const double first_percent = std::floor(lowest.target_percent * (1 + kTolerance)) + 1;
  const double request = std::floor(100 * std::floor(advice.edge_millicores - needed + 1) / first_percent);
  if (request >= kRequestLeast && request < wishes.request_millicores) {
    ways.push_back(fmt::format("a request of at most {:.0f}m", request));
  }
  const double slope = round_down(lowest.slope_millicores);
  if (slope >= kSlopeLeast) ways.push_back(fmt::format("a load that grows by {} a second", cpu_text(slope)));
  if (lowest.ramp_seconds >= 1) ways.push_back("new replicas within " + seconds_text(lowest.ramp_seconds));
  return ways.empty() ? "requests that cost less would do" : fmt::format("{} would do", fmt::join(ways, ", or "));
}

// Not one step tells its own p99, or the lightest that do are beyond the goal.
std::string why_no_edge(const Advice& advice, const std::vector<Step>& steps) {
  const auto first = std::ranges::find_if(steps, [](const Step& step) { return step.p99_smooth_us > 0; });
  if (first == steps.end()) {
    return "none: the steps had too few requests to tell a p99; a longer --step-time gives more";
  }
  const auto last = std::ranges::find_if(first, steps.end(), [&](const Step& step) {
    return step.p99_smooth_us > first->p99_smooth_us;
  });
  const std::string p99 = load::time_text(first->p99_smooth_us), goal = load::time_text(advice.goal_us);
  if (last - first > 1) {
    return fmt::format("none: of the requests of the steps up to {}, too few to tell the steps apart, p99 is {} and "
                       "beyond {}; a longer --step-time gives more, or allow a higher one",
                       cpu_text(std::prev(last)->cpu_millicores()), p99, goal);
  }
  return fmt::format("none: with hardly any load, at {}, p99 is {} and beyond {} already; allow a higher one, or "
                     "calibrate with requests that cost less", cpu_text(first->cpu_millicores()), p99, goal);
}

std::string why_none(const Advice& advice, const Calibration& calibration, const Wishes& wishes) {
  if (advice.edge_millicores <= 0) return why_no_edge(advice, calibration.steps);
  const auto lowest = std::ranges::find_if(
      advice.thresholds, [](const Threshold& at) { return is_usual(at) && at.replicas_at_rest > 0; });
  if (lowest == advice.thresholds.end()) {
    const double idle = idle_of(calibration);
    return fmt::format("none: idling alone takes {}, which is {:.0f} % of the request, and up to a target of {} % the "
                       "replicas would never become fewer; a request of at least {:.0f}m would do",
                       cpu_text(idle), 100 * idle / wishes.request_millicores, kTargetHighest,
                       std::floor(100 * std::ceil(idle) / ((1 - kTolerance) * kTargetHighest)) + 1);
  }
  if (!lowest->can_trigger) {
    return fmt::format("none: even at {} % {}; raise the limit, or lower the request", lowest->target_percent,
                       cannot_trigger(calibration));
  }
  const std::string would_do = remedies(advice, *lowest, calibration, wishes);
  if (lowest->ramp_seconds <= 0) {
    return fmt::format("none: at {} % already the autoscaler acts from {} on, and there a replica is past {}; {}",
                       lowest->target_percent, cpu_text(lowest->acts_from_millicores),
                       advice.edge_is_plateau ? "what the limit leaves" : "a p99 of " + load::time_text(advice.goal_us),
                       would_do);
  }
  return fmt::format("none: even at {} % a replica stands {} for only {} {}, and new ones serve after {}; {}",
                     lowest->target_percent, grows(advice.slope_millicores), seconds_text(lowest->ramp_seconds),
                     until_the_edge(advice), seconds_text(in_seconds(wishes.reaction)), would_do);
}

// Of the lightest steps, up to half of what the server can do: one alone may have met a bad moment.
double p50_with_little_load(const Calibration& calibration) {
  std::vector<double> medians;
  for (const Step& step : calibration.steps) {
    if (step.saturated) continue;
    if (medians.empty() || step.cpu_millicores() <= capacity(calibration) / 2) medians.push_back(step.p50_us);
  }
  std::ranges::sort(medians);
  return medians[(medians.size() - 1) / 2];
}

// What is not quite so sure about all of it.
std::string caveats(const Calibration& calibration) {
  constexpr double kLateShareMax = 0.05;
  constexpr double kOffShareMax = 0.01;
  std::vector<std::string> reasons;
  if (!calibration.limit_is_quota) {
    reasons.emplace_back("no limit was in force, and under one latencies are higher");
  } else if (!calibration.limit_was_in_force()) {
    reasons.push_back(fmt::format("the limit of {} was not in force", cpu_text(calibration.limit_millicores)));
  }
  const double late = std::ranges::max(calibration.steps, {}, &Step::client_late_share).client_late_share;
  if (late > kLateShareMax) {
    reasons.push_back(fmt::format("up to {:.0f} % of a step's requests went out late on this busy machine",
                                  100 * late));
  }
  const double off = calibration.line->residual_max_millicores / calibration.limit_millicores;
  if (off > kOffShareMax) {
    reasons.push_back(fmt::format("the steps are off the line by {:.1f} % of the limit", 100 * off));
  }
  return reasons.empty() ? "" : fmt::format("; PROVISIONAL: {}", fmt::join(reasons, ", and "));
}

std::string about_chosen(const Threshold& chosen) {
  constexpr double kSeldom = 300;  // seconds: for so long a scale-up is kept (the default stabilisation)
  std::string out;
  if (chosen.chance_seconds > 0 && chosen.chance_seconds < kSeldom) {
    out += fmt::format("; one replica alone at its target is scaled up by chance each {} or so",
                       seconds_text(chosen.chance_seconds));
  }
  if (chosen.replicas_at_rest > 1) {
    out += fmt::format("; without load {} replicas stay, since idling takes much of the target",
                       chosen.replicas_at_rest);
  }
  return out;
}

base::Result<void> check(const Calibration& calibration, const Wishes& wishes) {
  if (!calibration.line || std::ranges::count(calibration.steps, false, &Step::saturated) == 0) {
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
  if (const auto slope = wishes.slope_millicores; slope && !(*slope >= kSlopeLeast && *slope <= kSlopeMost)) {
    return base::error(fmt::format("a load grows by {}m to {:.0f}m a second, not by {}", kSlopeLeast, kSlopeMost,
                                   cpu_text(*slope)));
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
  advice.slope_millicores = wishes.slope_millicores.value_or(calibration.limit_millicores / kRampSeconds);
  advice.goal_us = wishes.p99_max ? std::chrono::duration<double, std::micro>(*wishes.p99_max).count()
                                  : kTimesAlone * p50_with_little_load(calibration);
  const Curve curve(calibration.steps);
  const auto passes = curve.is_known() ? curve.passes(advice.goal_us) : 0;
  const double most = use_max(calibration);
  advice.edge_is_plateau = !passes || *passes >= most;
  advice.edge_millicores = advice.edge_is_plateau ? most : *passes;
  std::vector<unsigned> targets;
  for (unsigned target = kTargetLowest; target <= kTargetHighest; target += kTargetStep) targets.push_back(target);
  if (wishes.target_percent && std::ranges::count(targets, *wishes.target_percent) == 0) {
    targets.insert(std::ranges::upper_bound(targets, *wishes.target_percent), *wishes.target_percent);
  }
  for (const unsigned target : targets) {
    advice.thresholds.push_back(threshold(calibration, wishes, curve, advice, target));
  }
  const Threshold* chosen = nullptr;
  for (const Threshold& at : advice.thresholds) {
    if (is_usual(at) && at.can_trigger && at.replicas_at_rest > 0 && lasts(at, advice, wishes)) chosen = &at;
  }
  if (chosen != nullptr) advice.recommended = chosen->target_percent;
  advice.reason = chosen != nullptr ? why(advice, *chosen, calibration, wishes) + about_chosen(*chosen)
                                    : why_none(advice, calibration, wishes);
  advice.reason += caveats(calibration);
  return advice;
}

}  // namespace kiln::calibrate
