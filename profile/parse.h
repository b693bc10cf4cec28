// Load profiles as text, the same for every command that takes one. Pieces in order, separated by commas; blanks and
// line ends around anything are skipped:
//
//   RATE@TIME                           constant                                20@1m
//   RATE:RATE@TIME                      a ramp from the one to the other        20:200@5m
//   sine(MEAN,AMPLITUDE,PERIOD)@TIME    begins at the mean and rises            sine(50,30,2m)@10m
//   burst(BASE,PEAK,EVERY,WIDTH)@TIME   the peak for WIDTH at the beginning     burst(10,200,1m,5s)@10m
//                                       of each EVERY, the base for the rest
//
// RATE is in requests a second (20, 0.5), or in millicores of CPU (300m), which the cost of a request turns into
// requests. TIME, PERIOD, EVERY and WIDTH are durations (base/quantity.h).
//
// Or as the text of a CSV file: lines `seconds,rate`, the rate a straight line between two of them. The first stands at
// second 0; two lines at the same second are a jump. A first line that begins with a letter is a header, empty lines
// and those that begin with # are skipped.
#pragma once

#include <chrono>
#include <cstddef>
#include <expected>
#include <optional>
#include <string>
#include <string_view>

#include "profile/profile.h"

namespace kiln::profile {

// What a load generator runs when nobody says otherwise.
inline constexpr std::string_view kDefaultProfile = "10:100@2m,100@3m";

// More is a mistake in the text sooner than a wish: a core of a client sends some 10^5 requests a second.
inline constexpr double kRateMax = 1e6;
inline constexpr std::chrono::hours kDurationMax{24};
// Of a sine and of bursts: a shorter one is no load that an autoscaler or a person could tell from its mean.
inline constexpr std::chrono::milliseconds kPeriodMin{1};
// A line a second for a day, and some.
inline constexpr size_t kPiecesMax = 100'000;

struct ParseOptions {
  std::optional<std::chrono::nanoseconds> cost;  // CPU time of a request; without it no rate is in millicores
};

struct ParseError {
  size_t position = 0;  // in bytes; the size of the text where something is missing at its end
  std::string what;     // a sentence without its full stop
};

// A profile that asks for at least one request.
[[nodiscard]] std::expected<Profile, ParseError> parse_profile(std::string_view text, const ParseOptions& options);
[[nodiscard]] std::expected<Profile, ParseError> parse_profile_csv(std::string_view text, const ParseOptions& options);

// True when `text`, given where a profile is expected, is the name of a CSV file: it ends in ".csv".
[[nodiscard]] bool names_csv_file(std::string_view text);

// The line that the error is in, or some columns of it around the place, and below it a caret under the place. Without
// a line end behind it.
[[nodiscard]] std::string point_at(std::string_view text, const ParseError& error);

}  // namespace kiln::profile
