#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <string_view>

#include "calibrate/advice.h"
#include "calibrate/quantities.h"
#include "http/response.h"
#include "load/report.h"

namespace kiln::calibrate {

namespace {

// Of nothing measured there is nothing to show.
std::string or_dash(bool known, std::string text) { return known ? std::move(text) : "-"; }

// Broken between words, for people.
std::string wrapped(std::string_view text) {
  constexpr size_t kColumns = 110;
  std::string out;
  size_t column = 0;
  while (!text.empty()) {
    const std::string_view word = text.substr(0, text.find(' '));
    text.remove_prefix(std::min(word.size() + 1, text.size()));
    if (column > 0 && column + 1 + word.size() > kColumns) {
      out += "\n ";
      column = 1;
    }
    if (!out.empty()) out += ' ';
    column += word.size() + 1;
    out += word;
  }
  return out + "\n";
}

std::string row(const Threshold& at) {
  return fmt::format("{:>4} % {:>7} {:>8} {:>10} {:>8} {:>8} {:>9} {:>10}{}\n", at.target_percent,
                     cpu_text(at.cpu_millicores), or_dash(at.rate > 0, fmt::format("{:.1f}", at.rate)),
                     cpu_text(at.headroom_millicores), fmt::format("x{:.1f}", at.growth),
                     or_dash(at.ramp_seconds > 0, seconds_text(at.ramp_seconds)),
                     or_dash(at.p99_us > 0, load::time_text(at.p99_us)),
                     or_dash(at.rate > 0, fmt::format("+-{:.0f} %", at.spread_percent)),
                     at.can_trigger ? "" : "   never scales up");
}

}  // namespace

std::string to_text(const Advice& advice, const Calibration& calibration, const Wishes& wishes) {
  const std::string whence =
      wishes.p99_max ? "" : fmt::format(" ({:g} x the median with little load)", kTimesAlone);
  std::string text = fmt::format("request {}, limit {}, p99 to hold {}{}\n", cpu_text(wishes.request_millicores),
                                 cpu_text(calibration.limit_millicores), load::time_text(advice.goal_us), whence);
  fmt::format_to(std::back_inserter(text), "{:>6} {:>7} {:>8} {:>10} {:>8} {:>8} {:>9} {:>10}\n", "target", "CPU",
                 "req/s", "headroom", "growth", "ramp", "p99", "by chance");
  for (const Threshold& at : advice.thresholds) text += row(at);
  return text + wrapped("recommended: " + advice.reason);
}

std::string to_json(const Advice& advice, const Wishes& wishes) {
  std::string json;
  const auto to = std::back_inserter(json);
  fmt::format_to(to,
                 R"({{"request_millicores":{:.9g},"slope_millicores":{:.9g},"reaction_seconds":{:.9g},)"
                 R"("goal_us":{:.9g},"edge_millicores":{:.9g},"edge_is_plateau":{},"recommended":{},"reason":"{}",)"
                 R"("thresholds":[)",
                 wishes.request_millicores, wishes.slope_millicores,
                 in_seconds(wishes.reaction), advice.goal_us, advice.edge_millicores,
                 advice.edge_is_plateau, advice.recommended ? std::to_string(*advice.recommended) : "null",
                 http::json_escape(advice.reason));
  std::string_view separator = "\n  ";
  for (const Threshold& at : advice.thresholds) {
    fmt::format_to(to,
                   R"({}{{"target_percent":{},"cpu_millicores":{:.9g},"rate":{:.9g},"headroom_millicores":{:.9g},)"
                   R"("growth":{:.9g},"ramp_seconds":{:.9g},"p99_us":{:.9g},"spread_percent":{:.9g},)"
                   R"("can_trigger":{}}})",
                   separator, at.target_percent, at.cpu_millicores, at.rate, at.headroom_millicores, at.growth,
                   at.ramp_seconds, at.p99_us, at.spread_percent, at.can_trigger);
    separator = ",\n  ";
  }
  return json + "\n]}";
}

}  // namespace kiln::calibrate
