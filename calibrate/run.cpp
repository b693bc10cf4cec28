#include "calibrate/run.h"

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "calibrate/fit.h"
#include "load/generator.h"
#include "load/report.h"
#include "profile/parse.h"

namespace kiln::calibrate {

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::nanoseconds;

double seconds(nanoseconds duration) { return std::chrono::duration<double>(duration).count(); }
double milliseconds(nanoseconds duration) { return seconds(duration) * 1000; }

// Times in steps below the limit.
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
constexpr size_t kStepsMin = 3;
constexpr double kStepRequestsMin = 5;
constexpr double kBurnShare = 0.8;                               // of the limit
constexpr double kRouteRate = 200;

constexpr double kPilotRate = 5;
constexpr int kPilotsMax = 6;
constexpr double kPilotShare = 0.1;  // of the limit: enough to go by
constexpr double kPilotAim = 0.3;

constexpr double kLateShareMax = 0.01;
constexpr double kPlateauShareMin = 0.97;

struct Route {
  std::string_view request;  // for people
  std::string_view method;
  std::string_view target;
  std::string_view label;  // of the route, in metrics
  std::string_view body;
};
constexpr std::string_view kRecord = R"({"kind":"calibration","text":"a record of an ordinary size"})";
constexpr std::array kRoutes = {
    Route{"GET /", "GET", "/", "/", ""},
    Route{"GET /api/info", "GET", "/api/info", "/api/info", ""},
    Route{"GET /livez", "GET", "/livez", "/livez", ""},
    Route{"POST /echo", "POST", "/echo", "/echo", kRecord},
    Route{"POST /data", "POST", "/data", "/data", kRecord},
    Route{"GET /data?limit=50", "GET", "/data?limit=50", "/data", ""},
};

struct Load {
  std::string doing;
  std::string_view method = "GET";
  std::string target;
  std::string_view body = {};
  double rate = 0;
  double seconds = 0;
  profile::Arrivals arrivals = profile::Arrivals::Uniform;
};

struct Outcome {
  load::Report report;
  uint64_t good = 0;
  double billed_ms = 0;                        // without idling
  std::optional<double> steady_millicores;     // between the first whole second and the last, idling included
};

uint64_t count_good(const load::Report& report) {
  uint64_t good = 0;
  for (const auto& [status, count] : report.statuses) good += status < 400 ? count : 0;
  return good;
}

// True when the server could not do what was asked in the time that it had.
bool is_saturated(const Step& step) {
  constexpr double kLonger = 1.25;
  return step.refused + step.failed > 0 || step.finished > kLonger * step.seconds + 1;
}

class Run {
 public:
  Run(const Subject& subject, const RunOptions& options)
      : subject_(subject),
        options_(options),
        step_(seconds(options.step)),
        planned_(plan(subject.is_kiln, step_)),
        found_(subject.facts) {}

  base::Result<Calibration> go() {
    const auto began = Clock::now();
    found_.started_at = seconds(std::chrono::system_clock::now().time_since_epoch());
    found_.request = "GET " + load::printable(subject_.url.target);
    using Phase = base::Result<void> (Run::*)();
    for (const Phase phase : {&Run::rest, &Run::pilot, &Run::routes, &Run::burns, &Run::steps, &Run::overload}) {
      if (const auto done = (this->*phase)(); !done) return std::unexpected(done.error());
      if (found_.interrupted) break;
    }
    found_.seconds = seconds(Clock::now() - began);
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

  // Once the server's threads sleep the counters stand still; one that is never at rest gets half a second.
  base::Result<nanoseconds> bill_at_rest() {
    auto last = subject_.bill();
    if (subject_.bill_costs) return last;
    for (int looks = 0; last && looks < 50; ++looks) {
      ::poll(nullptr, 0, 10);
      auto next = subject_.bill();
      if (!next || *next == *last) return next;
      last = std::move(next);
    }
    return last;
  }

  // Idling is taken off, but for that of a step, which belongs to it.
  base::Result<Outcome> send(const Load& load) {
    load::GeneratorOptions options{.url = subject_.url,
                                   .method = std::string(load.method),
                                   .fields = {},
                                   .body = std::string(load.body),
                                   .profile_text = "",
                                   .profile = {},
                                   .arrivals = load.arrivals,
                                   .shard = {},
                                   .engine = options_.engine,
                                   .start = {}};
    options.url.target = load.target;
    if (load.rate > profile::kRateMax) {
      return base::error(fmt::format("{} costs too little to be measured: {:g} a second would be needed",
                                     found_.request, load.rate));
    }
    options.profile.append(profile::Ramp{load.rate, load.rate, load.seconds},
                           std::chrono::round<profile::Time>(std::chrono::duration<double>(load.seconds)));
    tell(load.doing, 0);

    struct Reading {
      Clock::time_point at;
      nanoseconds bill;
    };
    std::optional<Reading> first, last;
    const auto second_done = [&](uint64_t index, const load::SecondReport&) {
      const double passed = static_cast<double>(index + 1);
      tell(load.doing, passed);
      if (passed > load.seconds) return;  // what is left of the queue
      const auto now = Clock::now();
      const auto bill = subject_.bill();
      if (!bill) return;
      last = {.at = now, .bill = *bill};
      if (!first) first = last;
    };
    const auto before = bill_at_rest();
    const auto began = Clock::now();
    if (!before) return std::unexpected(before.error());
    auto report = load::run(options, second_done, options_.interrupted);
    if (!report) return std::unexpected(std::move(report.error()));
    const auto after = bill_at_rest();
    if (!after) return std::unexpected(after.error());
    done_ += load.seconds + kAroundSeconds;

    Outcome out;
    out.good = count_good(*report);
    out.billed_ms = milliseconds(*after - *before) - idle() * seconds(Clock::now() - began);
    if (first && last->at > first->at) {
      out.steady_millicores = 1000 * seconds(last->bill - first->bill) / seconds(last->at - first->at);
    }
    out.report = std::move(*report);
    if (out.report.interrupted) {
      found_.interrupted = true;
    } else if (const auto sound = check(out.report, out.good); !sound) {
      return std::unexpected(sound.error());
    }
    return out;
  }

  static base::Result<void> check(const load::Report& report, uint64_t good) {
    if (report.due == 0) return base::error("no request came in a step: a longer --step-time gives more");
    if (report.answers == 0) return base::error(load::why_no_answer(report));
    if (load::only_redirects(report)) {
      return base::error(report.url + " is a redirect, which is not followed: use the URL in its Location");
    }
    if (good == 0) {
      return base::error(fmt::format("{}: no answer was a success; most were {}", report.url,
                                     std::ranges::max_element(report.statuses, {}, [](const auto& status) {
                                       return status.second;
                                     })->first));
    }
    if (report.pods.size() > 1) {
      return base::error(fmt::format("{} pods answered ({}, {}, …): calibrate one alone, by kubectl port-forward or "
                                     "with one replica", report.pods.size(), report.pods[0].pod, report.pods[1].pod));
    }
    return {};
  }

  base::Result<void> rest() {
    const double time = kIdleSteps * step_;
    tell("idle", 0);
    const auto before = bill_at_rest();
    const auto began = Clock::now();
    if (!before) return std::unexpected(before.error());
    for (double passed = 0; passed < time && !found_.interrupted; passed = seconds(Clock::now() - began)) {
      const double left = std::min(time - passed, 0.1);
      ::poll(nullptr, 0, static_cast<int>(std::ceil(left * 1000)));
      found_.interrupted = options_.interrupted();
    }
    const auto after = subject_.bill();
    if (!after) return std::unexpected(after.error());
    done_ += time;
    if (!found_.interrupted) {
      found_.idle_millicores = 1000 * seconds(*after - *before) / seconds(Clock::now() - began);
    }
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
      cost_ms_ = outcome->billed_ms / static_cast<double>(outcome->report.answers);
      if (cost_ms_ * rate >= kPilotShare * limit()) return {};
      constexpr double kFaster = 20;
      rate *= kFaster;
      if (cost_ms_ > 0) rate = std::min(rate, kPilotAim * limit() / cost_ms_);
    }
    if (cost_ms_ > 0) return {};
    return base::error(fmt::format("{} costs nothing by {}", found_.request, found_.judge));
  }

  // CPU time that the server itself has seen go to that route, to burns that it paid for, and to what was done for
  // either on other threads.
  [[nodiscard]] double booked_ms(std::string_view route) const {
    const auto overhead =
        subject_.metric("kiln_request_overhead_cpu_seconds_total", {{"route", route}, {"paid", "extra"}});
    const auto asked = subject_.metric("kiln_burn_cpu_seconds_total", {{"kind", "asked"}});
    const auto background = subject_.metric("kiln_background_cpu_seconds", {});
    return 1000 * (overhead.value_or(0) + asked.value_or(0) + background.value_or(0));
  }

  base::Result<void> routes() {
    if (!subject_.is_kiln) return {};
    for (const Route& route : kRoutes) {
      const double booked_before = booked_ms(route.label);
      auto outcome = send({.doing = std::string("cost of ").append(route.request),
                           .method = route.method,
                           .target = std::string(route.target),
                           .body = route.body,
                           .rate = kRouteRate,
                           .seconds = kRouteSteps * step_});
      if (!outcome) return std::unexpected(std::move(outcome.error()));
      if (found_.interrupted) return {};
      const double booked = booked_ms(route.label) - booked_before;
      const auto requests = static_cast<double>(outcome->report.answers);
      found_.routes.push_back({.request = std::string(route.request),
                               .requests = outcome->report.answers,
                               .rate = kRouteRate,
                               .billed_us = 1000 * outcome->billed_ms / requests,
                               .booked_us = booked > 0 ? std::optional(1000 * booked / requests) : std::nullopt});
    }
    return {};
  }

  base::Result<void> burns() {
    if (!subject_.is_kiln) return {};
    for (const double size : kBurnSizes) {
      const double rate = kBurnShare * limit() / size;
      auto outcome = send({.doing = fmt::format("burns of {:g} ms", size),
                           .target = fmt::format("/load?ms={:g}", size),
                           .rate = rate,
                           .seconds = std::max(kBurnSteps * step_, 2 / rate)});
      if (!outcome) return std::unexpected(std::move(outcome.error()));
      if (found_.interrupted) return {};
      found_.burns.push_back({.asked_ms = size,
                              .burns = outcome->good,
                              .billed_ms = outcome->billed_ms / static_cast<double>(outcome->good)});
    }
    return {};
  }

  Step step_of(const Load& load, double share, const Outcome& outcome) const {
    const load::Report& report = outcome.report;
    const auto refused = report.statuses.find(503);
    Step step{.asked_share = share,
              .seconds = load.seconds,
              .due = report.due,
              .good = outcome.good,
              .refused = refused == report.statuses.end() ? 0 : refused->second};
    step.failed = step.due - step.good - step.refused;
    step.finished = report.seconds;
    step.billed_ms = outcome.billed_ms + idle() * load.seconds;
    step.p50_us = static_cast<double>(report.latency.value_at_percentile(50));
    step.p99_us = static_cast<double>(report.latency.value_at_percentile(99));
    step.client_late_share = static_cast<double>(report.late_by_client) / static_cast<double>(report.due);
    return step;
  }

  base::Result<void> steps() {
    std::vector<base::HdrHistogram> latencies;
    for (const double share : kShares) {
      // As of many people who know nothing of each other: evenly spaced requests would never meet. All steps have the
      // same seed, so that they differ in nothing but the rate.
      const Load load{.doing = fmt::format("{:.0f} % of the limit", 100 * share),
                      .target = subject_.url.target,
                      .rate = (share * limit() - idle()) / cost_ms_,
                      .seconds = step_,
                      .arrivals = profile::Arrivals::Poisson};
      if (load.rate * load.seconds < kStepRequestsMin) continue;
      auto outcome = send(load);
      if (!outcome) return std::unexpected(std::move(outcome.error()));
      if (found_.interrupted) break;
      found_.steps.push_back(step_of(load, share, *outcome));
      latencies.push_back(outcome->report.latency);
    }
    return fit(latencies);
  }

  base::Result<void> fit(const std::vector<base::HdrHistogram>& latencies) {
    const std::vector<double> smooth = smooth_p99(latencies);
    std::vector<Point> points;
    double late_most = 0;
    for (size_t i = 0; i < found_.steps.size(); ++i) {
      Step& step = found_.steps[i];
      step.p99_smooth_us = smooth[i];
      if (!is_saturated(step)) points.push_back({.rate = step.rate(), .millicores = step.cpu_millicores()});
      late_most = std::max(late_most, step.client_late_share);
    }
    if (late_most > kLateShareMax) {
      found_.notes.push_back(fmt::format("Up to {:.0f} % of a step's requests went out late because this machine was "
                                         "busy: latencies are too high.", 100 * late_most));
    }
    if (points.size() < found_.steps.size()) {
      found_.notes.push_back(fmt::format("In {} of the steps below the limit the server was saturated already, so they "
                                         "are not part of the line.", found_.steps.size() - points.size()));
    }
    found_.line = fit_line(points);
    if (found_.interrupted) return {};
    if (points.size() < kStepsMin) {
      return base::error(fmt::format("at {:.3g} ms a request the limit of {:g}m allows too few of them in {:g} s: a "
                                     "longer --step-time gives more", cost_ms_, limit(), step_));
    }
    if (found_.line) return {};
    return base::error(fmt::format("{} does not grow with the rate of {}: it costs too little beside what else the "
                                   "server does", found_.judge, found_.request));
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
      found_.plateau_millicores = outcome->steady_millicores.value_or(step.cut_millicores());
    }
    if (found_.plateau_millicores < kPlateauShareMin * limit()) {
      found_.notes.push_back(fmt::format("Of {:.0f}m the server got {:.0f}m: something else takes the CPU, or it "
                                         "cannot use more.", limit(), found_.plateau_millicores));
    }
    return {};
  }

  const Subject& subject_;
  const RunOptions& options_;
  const double step_;
  const double planned_;
  double done_ = 0;
  double cost_ms_ = 0;
  Calibration found_;
};

}  // namespace

base::Result<Calibration> run(const Subject& subject, const RunOptions& options) { return Run(subject, options).go(); }

}  // namespace kiln::calibrate
