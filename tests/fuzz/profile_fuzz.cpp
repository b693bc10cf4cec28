// Any bytes as a load profile: "C" and then the text of a CSV file, else the form of the command line; an "M" before
// either gives a request a cost, so that millicores are known. An error lies within the text and can be shown. What is
// accepted keeps to its limits; the time of a number of requests and the requests of a time are inverse to each other
// and never fall; a schedule and two shards of it send the same.
#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <string>

#include "profile/parse.h"
#include "profile/schedule.h"
#include "tests/fuzz/pieces.h"

namespace kiln::fuzz {
namespace {

using profile::Profile;
using profile::Schedule;
using profile::Time;

void check_error(std::string_view text, const profile::ParseError& error) {
  CHECK(error.position <= text.size());
  CHECK(!error.what.empty());
  const std::string shown = point_at(text, error);
  CHECK(std::ranges::count(shown, '\n') == 1);
  CHECK(shown.ends_with('^'));
  CHECK(std::ranges::all_of(shown, [](char c) { return c == '\n' || (c >= ' ' && c <= '~'); }));
}

void check_inverse(const Profile& found) {
  constexpr int kSteps = 64;
  // At the highest rate, half a nanosecond and the rounding of seconds; and that of the number itself.
  const double seconds = static_cast<double>(found.duration().count()) / 1e9;
  const double tolerance = found.rate_max() * (0.5e-9 + 1e-15 * seconds) + 1e-11 * found.total();
  Time time_before{0};
  double arrivals_before = 0;
  for (int step = 0; step <= kSteps; ++step) {
    const double n = found.total() * step / kSteps;
    const Time time = found.time_of(n);
    CHECK(time >= time_before);
    CHECK(time <= found.duration());
    CHECK(std::abs(found.arrivals(time) - n) <= tolerance);
    time_before = time;

    const Time t = found.duration() / kSteps * step;
    const double arrivals = found.arrivals(t);
    CHECK(arrivals >= arrivals_before - tolerance);
    CHECK(arrivals <= found.total());
    CHECK(found.rate(t) >= -1e-9);
    CHECK(found.rate(t) <= found.rate_max() * (1 + 1e-12));
    arrivals_before = arrivals;
  }
}

void check_shards(const Profile& found, profile::Arrivals arrivals) {
  constexpr int kRequestsMax = 200;
  const auto with = [&](uint32_t index, uint32_t count) {
    return Schedule(found, {.arrivals = arrivals, .seed = 1, .shard = {.index = index, .count = count}});
  };
  Schedule whole = with(0, 1);
  std::array parts = {with(0, 2), with(1, 2)};
  Time before{0};
  for (size_t request = 0; request < kRequestsMax; ++request) {
    const auto time = whole.next();
    CHECK(parts[request % 2].next() == time);
    if (!time) break;
    CHECK(*time >= before);
    CHECK(*time <= found.duration());
    before = *time;
  }
}

void check_profile(std::string_view text) {
  profile::ParseOptions options;
  if (text.starts_with('M')) {
    options.cost = std::chrono::milliseconds(5);
    text.remove_prefix(1);
  }
  const bool csv = text.starts_with('C');
  if (csv) text.remove_prefix(1);
  const ExactCopy copy(text);
  const auto found = csv ? parse_profile_csv(copy.view(), options) : parse_profile(copy.view(), options);
  if (!found) return check_error(copy.view(), found.error());
  CHECK(found->duration() > Time(0));
  CHECK(found->duration() <= profile::kDurationMax);
  CHECK(found->rate_max() > 0);
  CHECK(found->rate_max() <= profile::kRateMax);
  CHECK(found->total() >= 1);
  CHECK(found->pieces().size() <= profile::kPiecesMax);
  check_inverse(*found);
  check_shards(*found, profile::Arrivals::Uniform);
  check_shards(*found, profile::Arrivals::Poisson);
}

}  // namespace
}  // namespace kiln::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  kiln::fuzz::check_profile(kiln::fuzz::text_of(data, size));
  return 0;
}
