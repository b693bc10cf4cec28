// Figures of a calibration as people read them.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>

namespace kiln::calibrate {

inline double in_seconds(std::chrono::nanoseconds time) { return std::chrono::duration<double>(time).count(); }

// "0m", "0.25m", "49.1m", "352m".
std::string cpu_text(double millicores);

// Rounded down to what is shown, so that what is promised holds as it is written. Empty below a hundredth.
std::string slope_text(double millicores);

// "0.5 s", "52 s". Rounded down: what lasts a little less than it should must not look as if it did.
std::string seconds_text(double seconds);

// As it was asked for: "60 s", "1.5 s".
std::string exact_seconds_text(double seconds);

// Broken between words, for a terminal of 80 columns; all lines but the first begin with so many blanks.
std::string wrapped(std::string_view text, size_t indent);

}  // namespace kiln::calibrate
