// Quantities as people write them on a command line or in a query: durations, sizes, CPU, plain numbers. Blanks, signs,
// NaN, infinities and trailing text are refused; so is what does not fit. Errors name the value and what is accepted.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace kiln::base {

// "100ns", "250us", "5ms", "1.5s", "2m", "1h", "0"; a unit is required except for 0. Exact, or refused: nothing is
// rounded.
[[nodiscard]] Result<std::chrono::nanoseconds> parse_duration(std::string_view text);

// "0", "4096", "64KiB", "1MiB", "2GiB".
[[nodiscard]] Result<uint64_t> parse_size(std::string_view text);

// CPU in millicores: "70m" or, in cores, "0.07".
[[nodiscard]] Result<double> parse_millicores(std::string_view text);

// A non-negative decimal, "12" or "0.25" or "1e3" or "1e-3".
[[nodiscard]] Result<double> parse_decimal(std::string_view text);

// Digits only.
[[nodiscard]] Result<uint64_t> parse_integer(std::string_view text);

// The shortest of these forms that parses back to the same value, the smaller unit where two are as short: "100us".
// A negative duration, which nothing parses, gets a minus sign.
[[nodiscard]] std::string format_duration(std::chrono::nanoseconds duration);

// The largest unit that divides it: "1536", "64KiB".
[[nodiscard]] std::string format_size(uint64_t bytes);

}  // namespace kiln::base
