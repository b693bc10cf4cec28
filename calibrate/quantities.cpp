#include "calibrate/quantities.h"

#include <fmt/format.h>

#include <cmath>

namespace kiln::calibrate {

std::string cpu_text(double millicores) {
  const double size = std::abs(millicores);
  if (size < 0.0005) return "0m";
  if (size < 1) return fmt::format("{:.3g}m", millicores);
  return size < 1000 ? fmt::format("{:.4g}m", millicores) : fmt::format("{:.0f}m", millicores);
}

double round_down(double millicores) { return std::floor(100 * millicores) / 100; }

std::string seconds_text(double seconds) {
  return seconds < 10 ? fmt::format("{:g} s", std::floor(seconds * 10) / 10)
                      : fmt::format("{:.0f} s", std::floor(seconds));
}

}  // namespace kiln::calibrate
