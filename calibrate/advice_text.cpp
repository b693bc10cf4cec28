#include <fmt/format.h>

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

std::string how_often(double seconds) {
  constexpr double kMinute = 60, kHour = 60 * kMinute, kDay = 24 * kHour;
  if (seconds < 2 * kMinute) return fmt::format("each {:.0f} s", seconds);
  if (seconds < 2 * kHour) return fmt::format("each {:.0f} min", seconds / kMinute);
  if (seconds < 2 * kDay) return fmt::format("each {:.0f} h", seconds / kHour);
  return "hardly";
}

std::string row(const Threshold& at) {
  const std::string remark = !at.can_trigger            ? "  never scales up"
                             : at.replicas_at_rest == 0 ? "  never scales down"
                             : at.replicas_at_rest > 1  ? fmt::format("  {} stay", at.replicas_at_rest)
                                                        : "";
  const std::string slope = slope_text(at.slope_millicores);
  return fmt::format("{:>4} % {:>7} {:>7} {:>9} {:>7} {:>6} {:>9} {:>9} {:>10}{}\n", at.target_percent,
                     cpu_text(at.cpu_millicores), or_dash(at.rate > 0, fmt::format("{:.1f}", at.rate)),
                     cpu_text(at.headroom_millicores), fmt::format("x{:.1f}", at.growth),
                     or_dash(at.ramp_seconds > 0, seconds_text(at.ramp_seconds)),
                     slope.empty() ? "-" : slope + "/s",
                     or_dash(at.p99_us > 0, load::time_text(at.p99_us)),
                     or_dash(at.chance_seconds > 0, how_often(at.chance_seconds)), remark);
}

}  // namespace

std::string to_text(const Advice& advice, const Calibration& calibration, const Wishes& wishes) {
  const std::string whence =
      wishes.p99_max ? "" : fmt::format(" ({:g} x the median with little load)", kTimesAlone);
  std::string text =
      fmt::format("request {}, limit {}, load grows by {} a second, new replicas after {}\n",
                  cpu_text(wishes.request_millicores), cpu_text(calibration.limit_millicores),
                  cpu_text(advice.slope_millicores), exact_seconds_text(in_seconds(wishes.reaction)));
  const auto to = std::back_inserter(text);
  fmt::format_to(to, "p99 to hold {}{}", load::time_text(advice.goal_us), whence);
  if (advice.edge_millicores > 0) fmt::format_to(to, ": up to {}", cpu_text(advice.edge_millicores));
  fmt::format_to(to, "\n{:>6} {:>7} {:>7} {:>9} {:>7} {:>6} {:>9} {:>9} {:>10}\n", "target", "CPU", "req/s",
                 "headroom", "growth", "ramp", "slope", "p99", "by chance");
  for (const Threshold& at : advice.thresholds) text += row(at);
  return text + wrapped("recommended: " + advice.reason, 2) + "\n";
}

std::string to_json(const Advice& advice, const Wishes& wishes) {
  std::string json;
  const auto to = std::back_inserter(json);
  fmt::format_to(to,
                 R"({{"request_millicores":{:.9g},"slope_millicores":{:.9g},"reaction_seconds":{:.9g},)"
                 R"("goal_us":{:.9g},"edge_millicores":{:.9g},"edge_is_plateau":{},"recommended":{},"reason":"{}",)"
                 R"("thresholds":[)",
                 wishes.request_millicores, advice.slope_millicores,
                 in_seconds(wishes.reaction), advice.goal_us, advice.edge_millicores,
                 advice.edge_is_plateau, advice.recommended ? std::to_string(*advice.recommended) : "null",
                 http::json_escape(advice.reason));
  std::string_view separator = "\n  ";
  for (const Threshold& at : advice.thresholds) {
    fmt::format_to(to,
                   R"({}{{"target_percent":{},"cpu_millicores":{:.9g},"rate":{:.9g},"headroom_millicores":{:.9g},)"
                   R"("growth":{:.9g},"acts_from_millicores":{:.9g},"ramp_seconds":{:.9g},)"
                   R"("slope_millicores":{:.9g},"p99_us":{:.9g},"chance_seconds":{:.9g},"can_trigger":{},)"
                   R"("replicas_at_rest":{}}})",
                   separator, at.target_percent, at.cpu_millicores, at.rate, at.headroom_millicores, at.growth,
                   at.acts_from_millicores, at.ramp_seconds, at.slope_millicores, at.p99_us, at.chance_seconds,
                   at.can_trigger, at.replicas_at_rest);
    separator = ",\n  ";
  }
  return json + "\n]}";
}

}  // namespace kiln::calibrate
