#include "app/load_view.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <ranges>
#include <string_view>
#include <utility>

namespace kiln::app {

namespace {

constexpr size_t kCurveColumns = 60;  // seconds
constexpr size_t kPodsShown = 12;
constexpr size_t kPodColumnsMin = 10;
constexpr size_t kBarColumns = 30;
constexpr uint64_t kLineEvery = 10;  // seconds

std::string curve(const std::vector<uint32_t>& values) {
  static constexpr std::array<const char*, 8> kBlocks = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  const uint32_t most = *std::ranges::max_element(values);
  std::string out;
  for (const uint32_t value : values) out += kBlocks[most == 0 ? 0 : uint64_t{value} * 7 / most];
  return out;
}

std::string bar(double share) {
  std::string out;
  for (size_t i = 0; i < static_cast<size_t>(share * kBarColumns + 0.5); ++i) out += "█";
  return out;
}

// The beginning of a line, by characters: of each in UTF-8 there is one byte that does not continue another.
std::string_view first_columns(std::string_view line, size_t columns) {
  size_t characters = 0;
  for (size_t i = 0; i < line.size(); ++i) {
    const bool begins = (static_cast<unsigned char>(line[i]) & 0xc0) != 0x80;
    if (begins && ++characters > columns) return line.substr(0, i);
  }
  return line;
}

}  // namespace

LoadView::LoadView(Where where, std::string_view title, double planned_seconds)
    : where_(where), title_(load::printable(title)), planned_seconds_(planned_seconds) {}

std::string LoadView::after(uint64_t index, const load::SecondReport& second, Screen screen) {
  answers_ += second.answers;
  errors_ += second.errors;
  for (const auto& [pod, answers] : second.pods) pods_[pod] += answers;
  if (where_ == Where::Terminal) return picture(index, second, screen);
  load::add(since_line_, second);
  if ((index + 1) % kLineEvery != 0) return "";
  const load::SecondReport ten = std::exchange(since_line_, {});
  return fmt::format("{} of {:.0f} s: asked {:.1f}/s, answered {:.1f}/s, {} errors, p99 {}, {} pod{}\n",
                     index + 1, planned_seconds_, static_cast<double>(ten.due) / kLineEvery,
                     static_cast<double>(ten.answers) / kLineEvery, ten.errors, load::time_text(ten.p99_us),
                     ten.pods.size(), ten.pods.size() == 1 ? "" : "s");
}

std::string LoadView::picture(uint64_t index, const load::SecondReport& second, Screen screen) {
  p99_us_.push_back(second.p99_us);
  if (p99_us_.size() > kCurveColumns) p99_us_.erase(p99_us_.begin());
  std::vector<std::string> lines{
      title_,
      fmt::format("{} of {:.0f} s   asked {}/s   answered {}/s   in all {}, {} errors", index + 1, planned_seconds_,
                  second.due, second.answers, answers_, errors_),
      fmt::format("p50 {}   p99 {}", load::time_text(second.p50_us), load::time_text(second.p99_us)),
      curve(p99_us_),
  };
  size_t width = 0;
  for (const auto& [pod, answers] : pods_) width = std::max(width, pod.size());
  width = std::min(width, std::max(kPodColumnsMin, screen.columns / 2));
  const size_t rows = screen.rows - std::min(screen.rows, lines.size() + 2);  // two: of the cursor and of the rest
  const size_t shown = std::min({pods_.size(), kPodsShown, rows});
  for (const auto& [pod, answers] : pods_ | std::views::take(shown)) {
    const auto now = second.pods.find(pod);
    const double share = static_cast<double>(answers) / static_cast<double>(answers_);
    lines.push_back(fmt::format("{:{}.{}} {:>6}/s {:>5.1f} % {}", pod, width, width,
                                now == second.pods.end() ? 0 : now->second, 100 * share, bar(share)));
  }
  if (shown < pods_.size()) lines.push_back(fmt::format("and {} more pods", pods_.size() - shown));

  std::string text = clear();
  lines_drawn_ = std::min(lines.size(), std::max<size_t>(screen.rows, 2) - 1);
  for (const std::string& line : lines | std::views::take(lines_drawn_)) {
    text += first_columns(line, screen.columns - 1);
    text += '\n';
  }
  return text;
}

// Up as many lines as were drawn, and everything below away (ECMA-48 CUU and ED).
std::string LoadView::clear() {
  if (lines_drawn_ == 0) return "";
  return fmt::format("\x1b[{}A\x1b[J", std::exchange(lines_drawn_, 0));
}

}  // namespace kiln::app
