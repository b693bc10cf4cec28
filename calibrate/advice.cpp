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

// The 99th percentile over the load, as measured and on straight lines between.
class Curve {
 public:
  explicit Curve(const Calibration& calibration) {
    double in_time = 0;  // the most that was done without falling behind
    for (const Step& step : calibration.steps) {
      if (!step.saturated && step.p99_smooth_us > 0) in_time = std::max(in_time, step.cpu_millicores());
    }
    if (in_time == 0) return;
    for (const Step& step : calibration.steps) {
      const double millicores = step.cpu_millicores();
      // One that was saturated by less than what others were not has met something else.
      const bool counts = step.p99_smooth_us > 0 && (!step.saturated || millicores >= in_time);
      if (counts) points_.push_back({millicores, step.p99_smooth_us});
    }
    std::ranges::sort(points_, {}, &Point::millicores);
    // The load of two neighbouring steps may have come out in the other order.
    for (size_t i = 1; i < points_.size(); ++i) points_[i].p99_us = std::max(points_[i].p99_us, points_[i - 1].p99_us);
  }

  // False when the steps had too few requests for one.
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

  // The load from which on it is beyond the goal: 0 when it always is, or is unknown, nothing when it never is.
  [[nodiscard]] std::optional<double> passes(double goal_us) const {
    const auto beyond = std::ranges::upper_bound(points_, goal_us, {}, &Point::p99_us);
    if (beyond == points_.begin()) return 0;
    if (beyond == points_.end()) return std::nullopt;
    const Point& before = *std::prev(beyond);
    const double part = (goal_us - before.p99_us) / (beyond->p99_us - before.p99_us);
    return std::lerp(before.millicores, beyond->millicores, part);
  }

  // Up to where its first figure holds: steps of few requests have one together.
  [[nodiscard]] double first_millicores() const {
    const auto next = std::ranges::upper_bound(points_, points_.front().p99_us, {}, &Point::p99_us);
    return std::prev(next)->millicores;
  }

 private:
  struct Point {
    double millicores;
    double p99_us;
  };
  std::vector<Point> points_;  // by rising load; the percentile never falls
};

// The most CPU that a replica is ever seen to use. A plateau that is about the limit is the limit.
double capacity(const Calibration& calibration) {
  const double plateau = calibration.plateau_millicores, limit = calibration.limit_millicores;
  return plateau > 0 && !calibration.limit_cuts() ? std::min(plateau, limit) : limit;
}

double idle_of(const Calibration& calibration) {
  return std::max(calibration.idle_millicores.value_or(calibration.line->idle_millicores), 0.0);
}

// In percent of the request, as the autoscaler comes to know it.
double percent_seen(double millicores, double request_millicores) {
  return std::floor(100 * std::ceil(millicores) / request_millicores);
}

unsigned first_percent_beyond(unsigned target_percent) {
  return (100 + kTolerancePercent) * target_percent / 100 + 1;
}

// With nothing to do each uses `idle`, and the autoscaler wants ceil(n × idle / target) of n. Those are fewer as long
// as n × (target - idle) >= target.
unsigned replicas_at_rest(double idle_percent, unsigned target_percent) {
  if (idle_percent * 100 >= (100.0 - kTolerancePercent) * target_percent) return 0;
  return std::max((target_percent - 1) / (target_percent - static_cast<unsigned>(idle_percent)), 1U);
}

double chance_seconds(const Threshold& at, double cost_ms) {
  if (at.rate <= 0 || !at.can_trigger) return 0;
  // So many arrivals in a window, give or take the root of that.
  const double deviation_millicores = cost_ms * std::sqrt(at.rate / kWindowSeconds);
  const double deviations = (at.acts_from_millicores - at.cpu_millicores) / deviation_millicores;
  const double chance = std::erfc(deviations / std::numbers::sqrt2) / 2;
  return std::min(kWindowSeconds / chance, kChanceSecondsMax);
}

// All that a target is judged by; each wish can be another one than asked for.
struct Case {
  const Calibration& calibration;
  const Curve& curve;
  double edge_millicores;
  double request_millicores;
  double slope_millicores;
  double reaction_seconds;

  [[nodiscard]] Threshold at(unsigned target_percent) const {
    const Line& line = *calibration.line;
    Threshold at{.target_percent = target_percent};
    at.cpu_millicores = request_millicores * target_percent / 100;
    at.rate = std::max(line.rate(at.cpu_millicores), 0.0);
    at.headroom_millicores = capacity(calibration) - at.cpu_millicores;
    at.growth = capacity(calibration) / at.cpu_millicores;
    at.acts_from_millicores = std::ceil(request_millicores * first_percent_beyond(target_percent) / 100) - 1;
    const double room = std::max(edge_millicores - at.acts_from_millicores, 0.0);
    at.ramp_seconds = room / slope_millicores;
    at.slope_millicores = reaction_seconds > 0 ? room / reaction_seconds : room > 0 ? kSlopeMost : 0;
    at.p99_us = curve.p99_us(at.cpu_millicores);
    at.can_trigger = capacity(calibration) > at.acts_from_millicores;
    at.chance_seconds = chance_seconds(at, line.cost_ms);
    at.replicas_at_rest = replicas_at_rest(percent_seen(idle_of(calibration), request_millicores), target_percent);
    return at;
  }

  [[nodiscard]] std::vector<Threshold> usual() const {
    std::vector<Threshold> out;
    for (unsigned target = kTargetLowest; target <= kTargetHighest; target += kTargetStep) out.push_back(at(target));
    return out;
  }

  [[nodiscard]] bool lasts(const Threshold& at) const {
    return at.acts_from_millicores <= edge_millicores && at.ramp_seconds >= reaction_seconds;
  }

  // The highest target that will do.
  [[nodiscard]] std::optional<Threshold> best() const {
    std::optional<Threshold> best;
    for (const Threshold& at : usual()) {
      if (at.can_trigger && at.replicas_at_rest > 0 && lasts(at)) best = at;
    }
    return best;
  }

  [[nodiscard]] bool would_do_with(double request) const {
    Case other = *this;
    other.request_millicores = request;
    return request >= kRequestLeast && request <= calibration.limit_millicores && other.best().has_value();
  }
};

std::string until_the_edge(const Advice& advice, const Calibration& calibration) {
  if (!advice.edge_is_plateau) {
    return fmt::format("before its p99 passes {} (at {})", load::time_text(advice.goal_us),
                       cpu_text(advice.edge_millicores));
  }
  const bool is_limit = advice.edge_millicores == calibration.limit_millicores;
  return fmt::format("before {} (at {})", is_limit ? "the limit cuts" : "it can use no more",
                     cpu_text(advice.edge_millicores));
}

std::string grows(std::string_view slope) { return fmt::format("{} more each second", slope); }

std::string cannot_trigger(const Calibration& calibration) {
  return fmt::format("its use never passes {}, within a tenth of the target, and nothing ever scales up",
                     cpu_text(capacity(calibration)));
}

std::string why(const Advice& advice, const Threshold& chosen, const Case& asked) {
  const std::string reaction = exact_seconds_text(asked.reaction_seconds);
  const std::string slope = grows(cpu_text(asked.slope_millicores));
  const std::string until = until_the_edge(advice, asked.calibration);
  if (chosen.target_percent == kTargetHighest) {
    return fmt::format("{} %, the highest looked at: from there a replica stands {} for {} {}, and new ones serve "
                       "after {}", chosen.target_percent, slope, seconds_text(chosen.ramp_seconds), until, reaction);
  }
  const Threshold next = asked.at(chosen.target_percent + kTargetStep);
  if (!next.can_trigger) {
    return fmt::format("{} %, the highest that can scale up: from there a replica stands {} for {} {}, and new ones "
                       "serve after {}; at {} % {}", chosen.target_percent, slope, seconds_text(chosen.ramp_seconds),
                       until, reaction, next.target_percent, cannot_trigger(asked.calibration));
  }
  const std::string there =
      next.ramp_seconds > 0
          ? "it is " + seconds_text(next.ramp_seconds)
          : fmt::format("it is past that before the autoscaler acts (at {})", cpu_text(next.acts_from_millicores));
  std::string reason = fmt::format(
      "{} %, the highest target from which a replica stands {} for the {} until new ones serve, {}; at {} % {}",
      chosen.target_percent, slope, reaction, until, next.target_percent, there);
  const Threshold highest = asked.at(kTargetHighest);
  const std::string gentler = slope_text(highest.slope_millicores);
  if (highest.can_trigger && !gentler.empty()) {
    reason += fmt::format("; with {} it would be {} %", grows(gentler), kTargetHighest);
  }
  return reason;
}

// What would make that target last, one thing at a time.
std::string remedies(const Threshold& lowest, const Case& asked) {
  const double needed = asked.slope_millicores * asked.reaction_seconds;
  std::vector<std::string> ways;
  // The edge moves with the limit, as far as it is a matter of utilisation and the limit is what stands in the way.
  if (asked.calibration.limit_cuts()) {
    const double times = (lowest.acts_from_millicores + needed) / asked.edge_millicores;
    ways.push_back(fmt::format("a limit of about {:.0f}m", std::ceil(asked.calibration.limit_millicores * times)));
  }
  // Whose share, a millicore less, leaves enough.
  const double request = std::floor(100 * std::floor(asked.edge_millicores - needed + 1) /
                                    first_percent_beyond(lowest.target_percent));
  if (asked.would_do_with(request)) ways.push_back(fmt::format("a request of {:.0f}m", request));
  const std::string slope = slope_text(lowest.slope_millicores);
  if (!slope.empty()) ways.push_back(fmt::format("a load that grows by {} a second", slope));
  if (lowest.ramp_seconds >= 1) ways.push_back("new replicas within " + seconds_text(lowest.ramp_seconds));
  return ways.empty() ? "requests that cost less would do" : fmt::format("{} would do", fmt::join(ways, ", or "));
}

std::string why_no_edge(const Advice& advice, const Curve& curve) {
  if (!curve.is_known()) {
    return "none: the steps had too few requests to tell a p99; a longer --step-time gives more";
  }
  return fmt::format("none: in the lightest steps, up to {}, p99 is {} and beyond {} already; allow a higher one, or "
                     "calibrate with requests that cost less, or with a longer --step-time",
                     cpu_text(curve.first_millicores()), load::time_text(curve.p99_us(0)),
                     load::time_text(advice.goal_us));
}

std::string why_idling(const Case& asked) {
  const double idle = std::ceil(idle_of(asked.calibration));
  // Up to nine tenths of the highest target.
  const double request = std::floor(100 * 100 * idle / ((100.0 - kTolerancePercent) * kTargetHighest)) + 1;
  return fmt::format("none: idling alone is read as {:.0f}m, {:.0f} % of the request, and up to a target of {} % the "
                     "replicas would never become fewer; {} that idles less would do", idle,
                     percent_seen(idle, asked.request_millicores), kTargetHighest,
                     asked.would_do_with(request) ? fmt::format("a request of {:.0f}m, or a server", request)
                                                  : "a server");
}

std::string why_none(const Advice& advice, const Case& asked) {
  if (advice.edge_millicores <= 0) return why_no_edge(advice, asked.curve);
  const std::vector<Threshold> usual = asked.usual();
  const auto lowest = std::ranges::find_if(usual, [](const Threshold& at) { return at.replicas_at_rest > 0; });
  if (lowest == usual.end()) return why_idling(asked);
  if (!lowest->can_trigger) {
    return fmt::format("none: even at {} % {}; {}lower the request", lowest->target_percent,
                       cannot_trigger(asked.calibration),
                       asked.calibration.limit_cuts() ? "raise the limit, or " : "");
  }
  const std::string would_do = remedies(*lowest, asked);
  if (lowest->ramp_seconds <= 0) {
    return fmt::format("none: at {} % already the autoscaler acts from {} on, and there a replica is past {}; {}",
                       lowest->target_percent, cpu_text(lowest->acts_from_millicores),
                       advice.edge_is_plateau ? "what it can use" : "a p99 of " + load::time_text(advice.goal_us),
                       would_do);
  }
  return fmt::format("none: even at {} % a replica stands {} for only {} {}, and new ones serve after {}; {}",
                     lowest->target_percent, grows(cpu_text(asked.slope_millicores)),
                     seconds_text(lowest->ramp_seconds), until_the_edge(advice, asked.calibration),
                     exact_seconds_text(asked.reaction_seconds), would_do);
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
  if (!calibration.is_straight()) {
    reasons.push_back(fmt::format("the steps are off the line by {:.1f} % of the limit",
                                  100 * calibration.line->residual_max_millicores / calibration.limit_millicores));
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
  const Curve curve(calibration);
  const auto passes = curve.passes(advice.goal_us);
  const double most = capacity(calibration);
  advice.edge_is_plateau = curve.is_known() && (!passes || *passes >= most);
  advice.edge_millicores = advice.edge_is_plateau ? most : passes.value_or(0);

  const Case asked{.calibration = calibration,
                   .curve = curve,
                   .edge_millicores = advice.edge_millicores,
                   .request_millicores = wishes.request_millicores,
                   .slope_millicores = advice.slope_millicores,
                   .reaction_seconds = in_seconds(wishes.reaction)};
  advice.thresholds = asked.usual();
  const auto target = wishes.target_percent;
  if (target && std::ranges::count(advice.thresholds, *target, &Threshold::target_percent) == 0) {
    advice.thresholds.push_back(asked.at(*target));
    std::ranges::sort(advice.thresholds, {}, &Threshold::target_percent);
  }
  const auto best = asked.best();
  if (best) advice.recommended = best->target_percent;
  advice.reason = best ? why(advice, *best, asked) + about_chosen(*best) : why_none(advice, asked);
  advice.reason += caveats(calibration);
  return advice;
}

}  // namespace kiln::calibrate
