// What a calibration means for an autoscaler: for each target utilisation what a replica does there, how much it can
// still take, and which target to choose. Pure arithmetic.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "calibrate/calibration.h"

namespace kiln::calibrate {

inline constexpr unsigned kTargetLowest = 30, kTargetHighest = 90, kTargetStep = 10;  // percent of the request
// The autoscaler leaves the replicas alone while use is within a tenth of the target (Kubernetes' default
// --horizontal-pod-autoscaler-tolerance).
inline constexpr unsigned kTolerancePercent = 10;
// metrics-server's usual window, over which the use is a mean, and how often the autoscaler looks.
inline constexpr double kWindowSeconds = 15;

struct Wishes {
  double request_millicores = 100;
  // How fast the load of one replica grows while nobody comes to help. Nothing: the limit in kRampSeconds, as under
  // kiln load's own profile.
  std::optional<double> slope_millicores = std::nullopt;  // a second
  // From the beginning of that until the new replicas serve. The first decision comes after 23 s on the average and
  // 50 s at worst (what is read each 15 s is scraped each 15 s and looked at each 15 s), a pod is ready some seconds
  // after it.
  std::chrono::nanoseconds reaction = std::chrono::seconds(60);
  // The 99th percentile that shall hold meanwhile. Nothing: kTimesAlone times the median with little load.
  std::optional<std::chrono::nanoseconds> p99_max = std::nullopt;
  // One more to look at, beside the usual ones; it is never the recommended one.
  std::optional<unsigned> target_percent = std::nullopt;
};
inline constexpr double kTimesAlone = 5;
inline constexpr double kRampSeconds = 120;
inline constexpr double kSlopeLeast = 0.001;  // a millicore in a quarter of an hour
inline constexpr double kSlopeMost = 1e6;     // a thousand cores in a second

// "p99<250ms", with a duration greater than 0; blanks do not matter.
[[nodiscard]] base::Result<std::chrono::nanoseconds> parse_goal(std::string_view text);

// One target.
struct Threshold {
  unsigned target_percent = 0;
  double cpu_millicores = 0;       // of a replica at target
  double rate = 0;                 // what it serves there; 0 when idling alone costs as much
  // From there to the limit, or to what the server can use of it; negative beyond.
  double headroom_millicores = 0;
  double growth = 0;  // the most by which one look can multiply the replicas: limit / (request × target)
  // Beyond that use the autoscaler adds replicas: metrics-server rounds use up to whole millicores, the autoscaler
  // divides down to whole percents of the request, and those have to be more than a tenth beyond the target.
  double acts_from_millicores = 0;
  double ramp_seconds = 0;      // at the slope, from there to the edge; 0 beyond it
  double slope_millicores = 0;  // a second, the steepest that it stands for the reaction; 0 beyond the edge
  double p99_us = 0;  // at that load, between the measured steps, and that of the first below it; 0 when unknown
  // From one scale-up by chance alone to the next, on the average: of one replica at target, with Poisson arrivals of
  // one cost. At most kChanceSecondsMax; 0 of no requests, and where nothing can trigger.
  double chance_seconds = 0;
  bool can_trigger = true;  // false when the limit keeps the use from where the autoscaler acts
  // How many replicas stay when the load has gone, by what idling alone uses. 0: as many as there are, or more.
  unsigned replicas_at_rest = 1;
};
inline constexpr double kChanceSecondsMax = 1e9;

struct Advice {
  double slope_millicores = 0;  // a second, that it is for
  double goal_us = 0;           // the p99 that shall hold
  double edge_millicores = 0;  // the load up to which it does, measured or between two steps; 0 if never, or unknown
  bool edge_is_plateau = false;  // true when it holds in all steps, so that the limit is the edge
  std::vector<Threshold> thresholds;
  // The highest that can trigger, begins to do so before the edge, whose ramp lasts for the reaction, and from which
  // the replicas become fewer again.
  std::optional<unsigned> recommended;
  std::string reason;                   // one sentence; of none recommended: why, and what to change
};

// An error when the calibration has no line or no limit, or when no figure can come of the wishes: a request below 1m
// or beyond the limit, a slope outside 0.001m to 1000 cores a second, a negative reaction.
[[nodiscard]] base::Result<Advice> advise(const Calibration& calibration, const Wishes& wishes);

std::string to_text(const Advice& advice, const Calibration& calibration, const Wishes& wishes);
// An object, for the member "advice" of the file and of --format json.
std::string to_json(const Advice& advice, const Wishes& wishes);

}  // namespace kiln::calibrate
