#include "calibrate/meter.h"

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "calibrate/quantities.h"
#include "load/generator.h"
#include "profile/parse.h"

namespace kiln::calibrate {

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::nanoseconds;

constexpr std::chrono::milliseconds kBillMax{200};  // a reading that took longer has waited in the server's queue

struct Reading {
  Clock::time_point at;
  nanoseconds bill;
};

base::Result<load::GeneratorOptions> options_of(const Load& load, const http::Url& url) {
  if (load.rate > profile::kRateMax) {
    return base::error(fmt::format("{} {} costs too little to be measured: {:.0f} a second would be needed",
                                   load.method, load::printable(load.target), load.rate));
  }
  load::GeneratorOptions options{.url = url,
                                 .method = std::string(load.method),
                                 .fields = {},
                                 .body = std::string(load.body),
                                 .profile_text = "",
                                 .profile = {},
                                 .arrivals = load.arrivals,
                                 .seed = load.seed,
                                 .shard = {},
                                 .start = {}};
  options.url.target = load.target;
  options.profile.append(profile::Ramp{load.rate, load.rate, load.seconds},
                         std::chrono::round<profile::Time>(std::chrono::duration<double>(load.seconds)));
  return options;
}

base::Result<void> check(const load::Report& report) {
  if (report.interrupted) return {};
  if (report.due == 0) return base::error("no request came in a step: a longer --step-time gives more");
  if (report.answers == 0) return base::error(load::why_no_answer(report));
  if (load::only_redirects(report)) {
    return base::error(report.url + " is a redirect, which is not followed: use the URL in its Location");
  }
  if (report.pods.size() > 1) {
    return base::error(fmt::format("{} pods answered ({}, {}, ...): calibrate one alone, by kubectl port-forward or "
                                   "with one replica", report.pods.size(), report.pods[0].pod, report.pods[1].pod));
  }
  return {};
}

}  // namespace

// Once the server's threads sleep the counters stand still; one that is never at rest gets half a second.
base::Result<nanoseconds> Meter::bill_at_rest() {
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

base::Result<std::optional<double>> Meter::measure_idle(double seconds) {
  const auto before = bill_at_rest();
  const auto began = Clock::now();
  if (!before) return std::unexpected(before.error());
  for (double passed = 0; passed < seconds; passed = in_seconds(Clock::now() - began)) {
    const double left = std::min(seconds - passed, 0.1);
    ::poll(nullptr, 0, static_cast<int>(std::ceil(left * 1000)));
    if (interrupted_()) return std::nullopt;
  }
  const auto after = subject_.bill();
  if (!after) return std::unexpected(after.error());
  idle_millicores_ = 1000 * in_seconds(*after - *before) / in_seconds(Clock::now() - began);
  return idle_millicores_;
}

base::Result<Outcome> Meter::run(const Load& load, const std::function<void(double seconds)>& passed) {
  const auto options = options_of(load, subject_.url);
  if (!options) return std::unexpected(options.error());

  std::optional<Reading> first, last;
  const auto second_done = [&](uint64_t index, const load::SecondReport&) {
    const double seconds = static_cast<double>(index + 1);
    passed(seconds);
    if (seconds > load.seconds) return;  // what is left of the queue
    const auto asked = Clock::now();
    const auto bill = subject_.bill();
    const auto answered = Clock::now();
    if (!bill || answered - asked > kBillMax) return;
    last = {.at = asked + (answered - asked) / 2, .bill = *bill};
    if (!first) first = last;
  };
  const auto before = bill_at_rest();
  const auto began = Clock::now();
  if (!before) return std::unexpected(before.error());
  auto report = load::run(*options, second_done, interrupted_);
  if (!report) return std::unexpected(std::move(report.error()));
  const auto asked = Clock::now();
  const auto after = bill_at_rest();
  if (!after) return std::unexpected(after.error());

  Outcome out;
  out.bill_waited = subject_.bill_costs && Clock::now() - asked > kBillMax;
  out.good = report->due - report->errors();
  out.elapsed = in_seconds(Clock::now() - began);
  out.billed_ms = 1000 * in_seconds(*after - *before) - idle_millicores_ * out.elapsed;
  if (first && last->at > first->at) {
    out.steady_millicores = 1000 * in_seconds(last->bill - first->bill) / in_seconds(last->at - first->at);
  }
  client_millicores_ = std::max(client_millicores_, 1000 * report->cpu_seconds / std::max(report->seconds, 0.1));
  out.report = std::move(*report);
  if (const auto sound = check(out.report); !sound) return std::unexpected(sound.error());
  return out;
}

}  // namespace kiln::calibrate
