#include "calibrate/run.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "calibrate/fit.h"
#include "calibrate/meter.h"
#include "calibrate/quantities.h"
#include "calibrate/samples.h"
#include "load/report.h"

namespace kiln::calibrate {

namespace {

using Clock = std::chrono::steady_clock;

// How long each phase lasts, as a multiple of a step below the limit: so that all of it takes 80 s by default.
constexpr double kIdleSteps = 0.6;
constexpr double kPilotSteps = 0.3;
constexpr double kRouteSteps = 0.37;
constexpr double kBurnSteps = 0.85;
constexpr double kAtLimitSteps = 1.9;
constexpr double kBeyondSteps = 2.5;
// Until a queue of two seconds of CPU is empty under the usual limit.
constexpr double kDrainSeconds = 4;
// To begin and to come to rest, for each load.
constexpr double kAroundSeconds = 0.12;

constexpr std::array kShares = {0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95};
constexpr std::array kBurnSizes = {0.1, 1.0, 5.0, 20.0, 100.0};  // milliseconds
constexpr int kStepsMin = 3;
constexpr double kStepRequestsMin = 5;
constexpr double kBurnShare = 0.8;  // of the limit
constexpr double kBurnRateMax = 4000;  // which the client sends with ease
constexpr double kRouteRate = 200;

constexpr double kPilotRate = 5;
constexpr double kPilotRateBlind = 1000;  // no more while the counter stands still
constexpr int kPilotsMax = 6;
constexpr double kPilotShare = 0.1;  // of the limit: enough to go by
constexpr double kPilotAim = 0.3;

constexpr double kLateShareNoted = 0.01;
constexpr double kPlateauShareMax = 1.1;  // a quota is enforced in slices, and not to the last of them
constexpr double kQuotaPeriodSeconds = 0.1;
constexpr double kStepSecondsShort = 2;   // twenty periods of the quota are a rough average
constexpr double kFailedShareMax = 0.01;  // of what is measured beside the request itself

struct Route {
  std::string_view method;
  std::string_view target;
  std::string_view label;  // of the route, in metrics
  std::string_view body;
  bool leaves_something = false;  // true when it is not for a server that is somebody else's
};
constexpr std::string_view kRecord = R"({"kind":"calibration","text":"a record of an ordinary size"})";
constexpr std::array kRoutes = {
    Route{"GET", "/", "/", ""},
    Route{"GET", "/api/info", "/api/info", ""},
    Route{"GET", "/livez", "/livez", ""},
    Route{"POST", "/echo", "/echo", kRecord},
    Route{"POST", "/data", "/data", kRecord, true},
    Route{"GET", "/data?limit=50", "/data", ""},
};

// True when the server could not do what was asked in the time that it had, and a little for what came last: a period
// of the quota, and the time of some requests.
bool is_saturated(const Step& step, double p50_us) {
  constexpr double kLonger = 1.05;
  constexpr double kRequests = 3;
  return step.refused > 0 ||
         step.finished > kLonger * step.seconds + kQuotaPeriodSeconds + kRequests * p50_us / 1e6;
}

struct Measured {
  Step step;
  base::HdrHistogram latency;
};

class Run {
 public:
  Run(const Subject& subject, const RunOptions& options)
      : subject_(subject),
        options_(options),
        meter_(subject, options.interrupted),
        step_(in_seconds(options.step)),
        planned_(plan(subject.is_kiln, step_)),
        found_(subject.facts) {
    found_.seed = options.seed;
  }

  base::Result<Calibration> go() {
    const auto began = Clock::now();
    found_.started_at = in_seconds(std::chrono::system_clock::now().time_since_epoch());
    found_.request = "GET " + load::printable(subject_.url.target);
    using Phase = base::Result<void> (Run::*)();
    for (const Phase phase :
         {&Run::measure_idle, &Run::pilot, &Run::routes, &Run::burns, &Run::steps, &Run::overload}) {
      if (const auto done = (this->*phase)(); !done) return std::unexpected(done.error());
      if (found_.interrupted) break;
    }
    found_.seconds = in_seconds(Clock::now() - began);
    return std::move(found_);
  }

 private:
  static double plan(bool is_kiln, double step) {
    const size_t loads = 2 + kShares.size() + 2 + (is_kiln ? kRoutes.size() + kBurnSizes.size() : 0);
    double steps = kIdleSteps + 2 * kPilotSteps + static_cast<double>(kShares.size()) + kAtLimitSteps + kBeyondSteps;
    if (is_kiln) {
      steps += kRouteSteps * static_cast<double>(kRoutes.size()) + kBurnSteps * static_cast<double>(kBurnSizes.size());
    }
    return steps * step + kAroundSeconds * static_cast<double>(loads) + kDrainSeconds;
  }

  [[nodiscard]] double limit() const { return found_.limit_millicores; }
  [[nodiscard]] double idle() const { return found_.idle_millicores.value_or(0); }

  void tell(std::string_view doing, double beyond) const {
    options_.progress(doing, std::min(done_ + beyond, planned_), planned_);
  }

  base::Result<Outcome> send(const Load& load) {
    tell(load.doing, 0);
    auto outcome = meter_.run(load, [&](double seconds) { tell(load.doing, std::min(seconds, load.seconds)); });
    done_ += load.seconds + kAroundSeconds;
    if (outcome) found_.interrupted = outcome->report.interrupted;
    return outcome;
  }

  static std::string commonest_failure(const load::Report& report) {
    std::pair<int, uint64_t> most = {0, 0};
    for (const auto& status : report.statuses) {
      if (status.first >= 400 && status.second > most.second) most = status;
    }
    return most.second > 0 ? fmt::format("with {}", most.first) : "without an answer";
  }

  // Of what is measured beside the request itself: not every server has it, or can do so much of it.
  bool all_are_good(const Load& load, const Outcome& outcome) {
    const load::Report& report = outcome.report;
    if (report.error_share() <= kFailedShareMax) return true;
    found_.notes.push_back(fmt::format("Left out: {}, of which {} of {} requests failed, most {}.", load.doing,
                                       report.errors(), report.due, commonest_failure(report)));
    return false;
  }

  base::Result<void> measure_idle() {
    const double seconds = kIdleSteps * step_;
    tell("idle", 0);
    const auto idle = meter_.measure_idle(seconds);
    if (!idle) return std::unexpected(idle.error());
    found_.idle_millicores = *idle;
    found_.interrupted = !idle->has_value();
    done_ += seconds;
    return {};
  }

  // About what a request costs, so that the rates to come are some shares of the limit. Warms the server up, too.
  base::Result<void> pilot() {
    double rate = kPilotRate;
    for (int i = 0; i < kPilotsMax; ++i) {
      const double time = std::max(kPilotSteps * step_, 2 / rate);
      auto outcome = send({.doing = "a first look", .target = subject_.url.target, .rate = rate, .seconds = time});
      if (!outcome) return std::unexpected(std::move(outcome.error()));
      if (found_.interrupted) return {};
      const load::Report& report = outcome->report;
      if (outcome->good == 0) {
        return base::error(fmt::format("{}: no request was a success; most ended {}", report.url,
                                       commonest_failure(report)));
      }
      cost_ms_ = outcome->billed_ms / static_cast<double>(outcome->good);
      if (cost_ms_ * rate >= kPilotShare * limit() || (cost_ms_ > 0 && report.errors() > 0)) break;
      if (cost_ms_ <= 0 && rate >= kPilotRateBlind) break;
      constexpr double kFaster = 20;
      rate *= kFaster;
      if (cost_ms_ > 0) rate = std::min(rate, kPilotAim * limit() / cost_ms_);
    }
    if (cost_ms_ <= 0) {
      return base::error(fmt::format("{} does not move while {} is asked for: is it of the same server?", found_.judge,
                                     found_.request));
    }
    const auto enough = std::ranges::count_if(kShares, [this](double share) { return has_enough(rate_for(share)); });
    if (enough >= kStepsMin) return {};
    return base::error(fmt::format("at {} a request the limit of {} allows too few of them in {:g} s: a longer "
                                   "--step-time gives more", load::time_text(1000 * cost_ms_), cpu_text(limit()),
                                   step_));
  }

  [[nodiscard]] double rate_for(double share) const { return (share * limit() - idle()) / cost_ms_; }
  [[nodiscard]] bool has_enough(double rate) const { return rate * step_ >= kStepRequestsMin; }

  // CPU time that the server itself has seen go to that route, to burns that it paid for, and to what was done for
  // either on other threads. Nothing when it does not tell.
  [[nodiscard]] std::optional<double> booked_ms(std::string_view route) const {
    const auto metrics = subject_.metrics();
    if (!metrics) return std::nullopt;
    const auto overhead =
        sum_of_samples(*metrics, "kiln_request_overhead_cpu_seconds_total", {{"route", route}, {"paid", "extra"}});
    const auto asked = sum_of_samples(*metrics, "kiln_burn_cpu_seconds_total", {{"kind", "asked"}});
    const auto background = sum_of_samples(*metrics, "kiln_background_cpu_seconds");
    return 1000 * (overhead.value_or(0) + asked.value_or(0) + background.value_or(0));
  }

  base::Result<void> routes() {
    if (!subject_.is_kiln) return {};
    for (const Route& route : kRoutes) {
      if (route.leaves_something && !subject_.is_own) continue;
      const std::string request = fmt::format("{} {}", route.method, route.target);
      const Load load{.doing = "cost of " + request,
                      .method = route.method,
                      .target = std::string(route.target),
                      .body = route.body,
                      .rate = kRouteRate,
                      .seconds = kRouteSteps * step_};
      const auto before = booked_ms(route.label);
      auto outcome = send(load);
      if (!outcome) return std::unexpected(std::move(outcome.error()));
      if (found_.interrupted) return {};
      const auto after = booked_ms(route.label);
      if (!all_are_good(load, *outcome)) continue;
      const auto requests = static_cast<double>(outcome->report.answers);
      found_.routes.push_back({.request = request,
                               .requests = outcome->report.answers,
                               .rate = kRouteRate,
                               .billed_us = 1000 * outcome->billed_ms / requests,
                               .booked_us = before && after ? std::optional(1000 * (*after - *before) / requests)
                                                            : std::nullopt});
    }
    return {};
  }

  base::Result<void> burns() {
    if (!subject_.is_kiln) return {};
    for (const double size : kBurnSizes) {
      const double rate = std::min(kBurnShare * limit() / size, kBurnRateMax);
      const Load load{.doing = fmt::format("burns of {:g} ms", size),
                      .target = load_target(size),
                      .rate = rate,
                      .seconds = std::max(kBurnSteps * step_, 2 / rate)};
      auto outcome = send(load);
      if (!outcome) return std::unexpected(std::move(outcome.error()));
      if (found_.interrupted) return {};
      if (!all_are_good(load, *outcome)) continue;
      found_.burns.push_back({.asked_ms = size,
                              .burns = outcome->good,
                              .billed_ms = outcome->billed_ms / static_cast<double>(outcome->good)});
    }
    return {};
  }

  [[nodiscard]] Step step_of(const Load& load, double share, const Outcome& outcome) const {
    const load::Report& report = outcome.report;
    const auto refused = report.statuses.find(503);
    Step step{.asked_share = share,
              .seconds = load.seconds,
              .due = report.due,
              .good = outcome.good,
              .refused = refused == report.statuses.end() ? 0 : refused->second};
    step.failed = step.due - step.good - step.refused;
    step.finished = report.seconds;
    step.p50_us = static_cast<double>(report.latency.value_at_percentile(50));
    step.p99_us = static_cast<double>(report.latency.value_at_percentile(99));
    step.client_late_share = static_cast<double>(report.late_by_client) / static_cast<double>(report.due);
    step.saturated = is_saturated(step, first_p50_us_.value_or(step.p50_us));
    step.billed_ms = std::max(outcome.billed_ms + idle() * load.seconds, 0.0);
    // A bill that has waited in a full queue has what was done for nobody since the last answer, too.
    const double counted = std::max(step.finished, step.seconds);
    if (outcome.bill_waited) step.billed_ms *= std::min(counted / outcome.elapsed, 1.0);
    return step;
  }

  base::Result<void> steps() {
    std::vector<Measured> measured;
    for (const double share : kShares) {
      if (!has_enough(rate_for(share))) continue;
      // As of many people who know nothing of each other: evenly spaced requests would never meet. Each step has a seed
      // of its own: one crowd of requests, met again in every step, would bend all of the curve.
      const Load load{.doing = fmt::format("{:.0f} % of the limit", 100 * share),
                      .target = subject_.url.target,
                      .rate = rate_for(share),
                      .seconds = step_,
                      .arrivals = profile::Arrivals::Poisson,
                      .seed = options_.seed * kShares.size() + measured.size()};
      auto outcome = send(load);
      if (!outcome) return std::unexpected(std::move(outcome.error()));
      if (found_.interrupted) break;
      const Step step = step_of(load, share, *outcome);
      // The pilot's rate was another one, at which a request may cost more.
      if (!step.saturated && step.billed_ms > 0) cost_ms_ = outcome->billed_ms / static_cast<double>(step.due);
      if (measured.empty()) first_p50_us_ = step.p50_us;
      measured.push_back({.step = step, .latency = outcome->report.latency});
    }
    // Of two rates that lie close the higher may have been given fewer arrivals.
    std::ranges::stable_sort(measured, {}, [](const Measured& one) { return one.step.rate(); });
    return fit(measured);
  }

  base::Result<void> fit(const std::vector<Measured>& measured) {
    // What queues in a saturated step is a matter of how long that lasts.
    std::vector<base::HdrHistogram> in_time;
    for (const auto& [step, latency] : measured) {
      if (!step.saturated) in_time.push_back(latency);
    }
    const std::vector<double> smooth = smooth_p99(in_time);
    std::vector<Point> points;
    for (const Measured& one : measured) {
      Step& step = found_.steps.emplace_back(one.step);
      step.p99_smooth_us = step.saturated ? step.p99_us : smooth[points.size()];
      if (!step.saturated) points.push_back({.rate = step.rate(), .millicores = step.cpu_millicores()});
    }
    note_steps(found_.steps.size() - points.size());
    found_.line = fit_line(points);
    if (found_.interrupted) return {};
    if (std::cmp_less(points.size(), kStepsMin)) {
      return base::error(fmt::format("only {} steps did not saturate the server, by {} a request and a limit of {}: is "
                                     "that its limit, and is it alone?", points.size(),
                                     load::time_text(1000 * cost_ms_), cpu_text(limit())));
    }
    if (!found_.line) {
      return base::error(fmt::format("{} does not grow with the rate of {}: it costs too little beside what else the "
                                     "server does", found_.judge, found_.request));
    }
    if (!found_.is_straight()) {
      found_.notes.push_back(fmt::format("The steps are no straight line, off by up to {:.1f} % of the limit: what is "
                                         "computed of it is rough.",
                                         100 * found_.line->residual_max_millicores / limit()));
    }
    return {};
  }

  void note_steps(size_t saturated) {
    double late_most = 0;
    uint64_t due = 0, failed = 0;
    for (const Step& step : found_.steps) {
      late_most = std::max(late_most, step.client_late_share);
      due += step.due;
      failed += step.failed;
    }
    if (late_most > kLateShareNoted) {
      found_.notes.push_back(fmt::format("Up to {:.0f} % of a step's requests went out late because this machine was "
                                         "busy: latencies are too high.", 100 * late_most));
    }
    if (step_ < kStepSecondsShort) {
      found_.notes.push_back(fmt::format("Steps of {:g} s are short: no figure is worth much.", step_));
    }
    if (failed > 0) {
      found_.notes.push_back(fmt::format("{} of {} requests below the limit failed: what those cost is part of the "
                                         "line.", failed, due));
    }
    if (saturated > 0) {
      found_.notes.push_back(fmt::format("In {} of the steps below the limit the server was saturated already, so they "
                                         "are not part of the line.", saturated));
    }
  }

  base::Result<void> overload() {
    if (!found_.line) return {};
    struct Beyond {
      double share;
      double steps;
    };
    for (const auto& [share, steps] : {Beyond{1, kAtLimitSteps}, Beyond{2, kBeyondSteps}}) {
      const Load load{.doing = fmt::format("{:.0f} % of the limit", 100 * share),
                      .target = subject_.url.target,
                      .rate = found_.line->rate(limit()) * share,
                      .seconds = steps * step_};
      auto outcome = send(load);
      if (!outcome) return std::unexpected(std::move(outcome.error()));
      if (found_.interrupted) return {};
      Step step = step_of(load, share, *outcome);
      step.p99_smooth_us = step.p99_us;
      found_.overload.push_back(step);
      // Without two whole seconds: over all of it, until the queue was empty.
      found_.plateau_millicores =
          step.saturated ? outcome->steady_millicores.value_or(step.cpu_millicores()) : 0;
    }
    note_plateau();
    return {};
  }

  void note_plateau() {
    const double plateau = found_.plateau_millicores;
    // The period in which it begins may have all of its quota left.
    const double allowed = kPlateauShareMax + kQuotaPeriodSeconds / found_.overload.back().finished;
    if (plateau <= 0 || plateau > allowed * limit()) {
      found_.plateau_millicores = 0;
      found_.notes.push_back(fmt::format("The server did more than a limit of {} allows: that is not in force.",
                                         cpu_text(limit())));
    } else if (found_.limit_is_quota && !found_.limit_cuts()) {
      found_.notes.push_back(fmt::format("Of {} the server got {}: something else takes the CPU, or it cannot use "
                                         "more.", cpu_text(limit()), cpu_text(plateau)));
    }
    if (subject_.shares_limit) {
      found_.notes.push_back(fmt::format("Client and server share the limit; the client used up to {} of it.",
                                         cpu_text(meter_.client_millicores())));
    }
  }

  const Subject& subject_;
  const RunOptions& options_;
  Meter meter_;
  const double step_;
  const double planned_;
  double done_ = 0;
  double cost_ms_ = 0;  // of a request, as far as it is known
  std::optional<double> first_p50_us_;  // of the first step
  Calibration found_;
};

}  // namespace

base::Result<Calibration> run(const Subject& subject, const RunOptions& options) { return Run(subject, options).go(); }

}  // namespace kiln::calibrate
