#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <initializer_list>
#include <iterator>
#include <span>
#include <utility>

#include "calibrate/calibration.h"
#include "calibrate/quantities.h"
#include "load/report.h"

namespace kiln::calibrate {

namespace {

constexpr size_t kNameColumns = 10;  // of "request", "note" and the like
constexpr size_t kBurnsInARow = 6;
constexpr double kLateShareShown = 0.01;  // of a step's requests

std::string joined(std::initializer_list<std::string> parts) {
  std::string out;
  for (const std::string& part : parts) {
    if (!part.empty()) out += (out.empty() ? "" : ", ") + part;
  }
  return out;
}

std::string counted(uint32_t count, std::string_view one) {
  return count == 0 ? "" : fmt::format("{} {}{}", count, one, count == 1 ? "" : "s");
}

// Three digits or more, and none that nobody could have measured.
std::string rate_text(double rate) {
  return rate < 99.95 ? fmt::format("{:.1f}/s", rate) : fmt::format("{:.0f}/s", rate);
}

std::string percent_of(double part, double whole) { return fmt::format("{:+.1f} %", 100 * (part / whole - 1)); }

// Without a sign of zero.
std::string off_text(double millicores) { return fmt::format("{:+.2f}m", std::round(100 * millicores) / 100 + 0.0); }

void head(std::string& text, const Calibration& calibration) {
  const auto out = std::back_inserter(text);
  const Machine& machine = calibration.machine;
  std::string limit;
  if (calibration.limit_millicores > 0) {
    limit = cpu_text(calibration.limit_millicores);
    if (!calibration.limit_from.empty()) limit += " by " + calibration.limit_from;
  }
  const std::string platform = machine.kernel + (machine.hardware.empty() ? "" : " " + machine.hardware);
  const std::string when = calibration.started_at > 0
                               ? fmt::format("{:%Y-%m-%d %H:%M:%S} UTC", fmt::gmtime(static_cast<std::time_t>(
                                                                             calibration.started_at)))
                               : "";
  const std::pair<std::string_view, std::string> lines[] = {
      {"measured", joined({when, fmt::format("in {:.0f} s", calibration.seconds),
                           calibration.kiln.empty() ? "" : "by kiln " + calibration.kiln,
                           calibration.interrupted ? "INTERRUPTED" : ""})},
      {calibration.server == "own" ? "machine" : "client",
       joined({platform, machine.processor, counted(machine.cpus, "CPU")})},
      {"server", joined({calibration.server, calibration.engine, counted(calibration.workers, "worker"), limit})},
      {"request", calibration.request},
      {"judge", calibration.judge},
  };
  for (const auto& [name, value] : lines) {
    if (!value.empty()) fmt::format_to(out, "{:<10}{}\n", name, load::printable(value));
  }
  for (const std::string& note : calibration.notes) {
    fmt::format_to(out, "{}\n", wrapped(fmt::format("{:<9} {}", "note", load::printable(note)), kNameColumns));
  }
}

void line(std::string& text, const Calibration& calibration) {
  const auto out = std::back_inserter(text);
  const double limit = calibration.limit_millicores;
  if (calibration.idle_millicores || calibration.line || calibration.plateau_millicores > 0) text += '\n';
  if (calibration.idle_millicores) fmt::format_to(out, "{:<10}{:.2f}m\n", "idle", *calibration.idle_millicores);
  if (calibration.line) {
    const Line& fit = *calibration.line;
    const auto on_it = std::ranges::count(calibration.steps, false, &Step::saturated);
    fmt::format_to(out, "{:<10}CPU = {:.2f}m + {:.4f} ms x rate, by {} steps\n{:<10}at most {:.2f}m", "line",
                   fit.idle_millicores, fit.cost_ms, on_it, "off it", fit.residual_max_millicores);
    if (limit > 0) fmt::format_to(out, ", {:.3f} % of the limit", 100 * fit.residual_max_millicores / limit);
    text += '\n';
  }
  if (calibration.plateau_millicores > 0) {
    const char* which = calibration.limit_cuts() ? "the limit cuts at" : "the server uses no more than";
    const std::string cuts = fmt::format("{} {:.1f}m", which, calibration.plateau_millicores);
    const double rate = calibration.bend_rate();
    fmt::format_to(out, "{:<10}{}\n", "bend", rate > 0 ? fmt::format("at {}, where {}", rate_text(rate), cuts) : cuts);
  }
}

void routes(std::string& text, std::span<const RouteCost> routes) {
  if (routes.empty()) return;
  const auto out = std::back_inserter(text);
  constexpr std::string_view kTitle = "cost of a request";
  size_t width = kTitle.size();
  for (const RouteCost& route : routes) width = std::max(width, route.request.size());
  const bool told = std::ranges::any_of(routes, [](const RouteCost& route) { return route.booked_us.has_value(); });
  fmt::format_to(out, "\n{:<{}} {:>9} {:>12}{}\n", kTitle, width, "rate", "billed", told ? "   by its own clocks" : "");
  for (const RouteCost& route : routes) {
    fmt::format_to(out, "{:<{}} {:>9} {:>9.1f} us", load::printable(route.request), width, rate_text(route.rate),
                   route.billed_us);
    if (route.booked_us) fmt::format_to(out, " {:>9.1f} us", *route.booked_us);
    if (route.booked_us && route.billed_us > 0) {
      fmt::format_to(out, "  {}", percent_of(*route.booked_us, route.billed_us));
    }
    text += '\n';
  }
}

void burns(std::string& text, std::span<const BurnError> burns) {
  for (size_t at = 0; at < burns.size(); at += kBurnsInARow) {
    std::string sizes = fmt::format("\n{:<6}", "burn"), errors = fmt::format("\n{:<6}", "error");
    for (const BurnError& burn : burns.subspan(at, std::min(kBurnsInARow, burns.size() - at))) {
      sizes += fmt::format(" {:>9}", fmt::format("{:.4g} ms", burn.asked_ms));
      errors += fmt::format(" {:>9}", fmt::format("{:+.2f} %", burn.percent()));
    }
    text += sizes + errors + "\n";
  }
}

void step(std::string& text, const Step& step, double share, std::string_view off) {
  const auto out = std::back_inserter(text);
  const auto time = [](double us) { return us > 0 ? load::time_text(us) : "-"; };
  const std::string p50 = step.refused > 0 ? "-" : time(step.p50_us);  // it might be that of a refusal
  fmt::format_to(out, "{:>6.0f} % {:>8} {:>7.1f}m {:>8} {:>9} {:>9} {:>7} {:>6} {:>8}", 100 * share,
                 rate_text(step.rate()), step.cpu_millicores(), off, p50,
                 time(step.p99_us), step.refused, step.failed, rate_text(step.goodput()));
  if (step.client_late_share >= kLateShareShown) {
    fmt::format_to(out, "  {:.1f} % sent late", 100 * step.client_late_share);
  }
  text += '\n';
}

void steps(std::string& text, const Calibration& calibration) {
  if (calibration.steps.empty() && calibration.overload.empty()) return;
  const auto out = std::back_inserter(text);
  fmt::format_to(out, "\n{:>8} {:>8} {:>8} {:>8} {:>9} {:>9} {:>7} {:>6} {:>8}\n", "of limit", "rate", "CPU", "off",
                 "p50", "p99", "refused", "failed", "goodput");
  const double limit = calibration.limit_millicores;
  for (const Step& below : calibration.steps) {
    const double used = below.cpu_millicores();
    const bool is_off = calibration.line && !below.saturated;
    step(text, below, limit > 0 ? used / limit : below.asked_share,
         below.saturated ? "full" : is_off ? off_text(used - calibration.line->cpu(below.rate())) : "-");
  }
  if (!calibration.overload.empty()) text += "evenly spaced:\n";
  for (const Step& beyond : calibration.overload) {
    step(text, beyond, beyond.asked_share, beyond.saturated ? "full" : "");
  }
}

}  // namespace

std::string to_text(const Calibration& calibration) {
  std::string text;
  head(text, calibration);
  line(text, calibration);
  routes(text, calibration.routes);
  burns(text, calibration.burns);
  steps(text, calibration);
  return text;
}

}  // namespace kiln::calibrate
