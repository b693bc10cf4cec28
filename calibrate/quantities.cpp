#include "calibrate/quantities.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace kiln::calibrate {

std::string cpu_text(double millicores) {
  const double size = std::abs(millicores);
  if (size < 0.0005) return "0m";
  if (size < 1) return fmt::format("{:.3g}m", millicores);
  return size < 1000 ? fmt::format("{:.4g}m", millicores) : fmt::format("{:.0f}m", millicores);
}

std::string slope_text(double millicores) {
  const double digits = millicores < 100 ? 100 : 1;
  const double shown = std::floor(digits * millicores) / digits;
  return shown > 0 ? cpu_text(shown) : "";
}

std::string seconds_text(double seconds) {
  return seconds < 10 ? fmt::format("{:g} s", std::floor(seconds * 10) / 10)
                      : fmt::format("{:.0f} s", std::floor(seconds));
}

std::string exact_seconds_text(double seconds) { return fmt::format("{:.10g} s", seconds); }

std::string wrapped(std::string_view text, size_t indent) {
  constexpr size_t kColumns = 79;
  std::string out;
  size_t line_begins = 0;
  while (!text.empty()) {
    const std::string_view word = text.substr(0, text.find(' '));
    text.remove_prefix(std::min(word.size() + 1, text.size()));
    const bool fits = out.size() - line_begins + 1 + word.size() <= kColumns;
    if (!out.empty() && !fits && !word.starts_with('%')) {
      out += '\n';
      line_begins = out.size();
      out.append(indent, ' ');
    } else if (!out.empty()) {
      out += ' ';
    }
    out += word;
  }
  return out;
}

}  // namespace kiln::calibrate
