#include <fmt/format.h>

#include <chrono>
#include <string>

#include "base/quantity.h"
#include "load/report.h"

namespace kiln::load {

namespace {

base::Result<double> parse_share(std::string_view text) {
  text.remove_suffix(1);
  auto percent = base::parse_decimal(text);
  if (percent) *percent /= 100;
  return percent;
}

}  // namespace

base::Result<Gate> Gate::parse(std::string_view text) {
  const auto refuse = [&](std::string_view why) {
    return base::error(
        fmt::format("'{}' is no condition: {}; for example p99>200ms, errors>0.1%, rate<95%", text, why));
  };
  std::string condition(text);
  std::erase(condition, ' ');
  const size_t at = condition.find_first_of("<>");
  if (at == std::string_view::npos) return refuse("it has neither < nor >");
  const std::string_view name = std::string_view(condition).substr(0, at);
  const std::string_view limit = std::string_view(condition).substr(at + 1);
  const bool share = limit.ends_with('%');

  Gate gate;
  gate.text_ = text;
  gate.above_ = condition[at] == '>';
  bool time = true;
  if (name.starts_with('p')) {
    const auto percentile = base::parse_decimal(name.substr(1));
    if (!percentile || *percentile > 100) return refuse("a percentile is p0 to p100");
    gate.figure_ = Figure::Percentile;
    gate.percentile_ = *percentile;
  } else if (name == "max") {
    gate.figure_ = Figure::Percentile;
    gate.percentile_ = 100;
  } else if (name == "mean") {
    gate.figure_ = Figure::Mean;
  } else if (name == "errors" || name == "rate") {
    time = false;
    gate.figure_ = name == "errors" ? (share ? Figure::ErrorShare : Figure::Errors)
                                    : (share ? Figure::RateShare : Figure::Rate);
  } else {
    return refuse("the figures are p50, p99 and the like, max, mean, errors and rate");
  }
  if (time) {
    const auto duration = base::parse_duration(limit);
    if (!duration) return refuse(duration.error().what);
    gate.limit_ = std::chrono::duration<double, std::micro>(*duration).count();
  } else {
    const auto number = share ? parse_share(limit) : base::parse_decimal(limit);
    if (!number) return refuse(number.error().what);
    gate.limit_ = *number;
  }
  return gate;
}

std::optional<std::string> Gate::fails(const Report& report) const {
  if (report.due == 0) return std::nullopt;  // a shard may have no request to judge
  const auto due = static_cast<double>(report.due);
  const auto answers = static_cast<double>(report.answers);
  const auto percent = [](double share) { return fmt::format("{:.3f} %", 100 * share); };
  // Without a single answer there is no latency that could be good.
  if (report.answers == 0 && figure_ <= Figure::Mean) return fmt::format("{}: nothing was answered", text_);
  double value = 0;
  std::string shown;
  switch (figure_) {
    case Figure::Percentile: {
      // What was not answered is slower than all that was: without it a server that hangs would have good latencies.
      const auto unanswered = static_cast<double>(report.unanswered());
      const double of_answers = unanswered == 0 ? percentile_ : percentile_ * (answers + unanswered) / answers;
      if (of_answers > 100 + 1e-9) {
        return fmt::format("{}: {} of {} were not answered", text_, report.unanswered(),
                           report.answers + report.unanswered());
      }
      value = static_cast<double>(report.latency.value_at_percentile(of_answers));
      shown = time_text(value);
      break;
    }
    case Figure::Mean:
      value = report.latency.mean();
      shown = time_text(value);
      break;
    case Figure::Errors:
      value = static_cast<double>(report.errors());
      shown = std::to_string(report.errors());
      break;
    case Figure::ErrorShare:
      value = report.error_share();
      shown = percent(value);
      break;
    case Figure::Rate:
      value = report.seconds_run() > 0 ? answers / report.seconds_run() : 0;
      shown = fmt::format("{:.1f} a second", value);
      break;
    case Figure::RateShare:
      value = answers / due;
      shown = percent(value);
      break;
  }
  if (above_ ? value > limit_ : value < limit_) return fmt::format("{}: {}", text_, shown);
  return std::nullopt;
}

}  // namespace kiln::load
