#include "profile/schedule.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "profile/parse.h"

namespace kiln::profile {
namespace {

using namespace std::chrono_literals;

Profile profile_of(std::string_view text) {
  auto profile = parse_profile(text, {});
  EXPECT_TRUE(profile.has_value()) << text << ": " << profile.error().what;
  return profile.value();
}

std::vector<Time> all_of(const Profile& profile, const ScheduleOptions& options) {
  std::vector<Time> times;
  Schedule schedule(profile, options);
  while (const auto time = schedule.next()) times.push_back(*time);
  EXPECT_FALSE(schedule.next().has_value()) << "after the end is after the end";
  return times;
}

constexpr std::string_view kProfiles[] = {
    "20@1m", "0:100@20s", "10:100@20s,100@30s", "sine(50,50,2s)@11s", "0@1s,burst(0,300,10s,1s)@25s,0.5@20s", "1@1s",
};

TEST(Schedule, UniformArrivalsStandInTheMiddleOfTheirShares) {
  const Profile profile = profile_of("10@1s,0@10s,2@1s");
  const std::vector<Time> expected = {50ms,  150ms, 250ms, 350ms, 450ms,   550ms,
                                      650ms, 750ms, 850ms, 950ms, 11250ms, 11750ms};
  EXPECT_EQ(all_of(profile, {}), expected);
}

TEST(Schedule, UniformArrivalsAreTheInverseOfTheIntegral) {
  for (const std::string_view text : kProfiles) {
    const Profile profile = profile_of(text);
    const std::vector<Time> times = all_of(profile, {});
    EXPECT_EQ(times.size(), static_cast<size_t>(std::llround(profile.total()))) << text;
    for (size_t k = 0; k < times.size(); ++k) {
      ASSERT_EQ(times[k], profile.time_of(static_cast<double>(k) + 0.5)) << text << ", " << k;
    }
  }
}

TEST(Schedule, ArrivalsRiseAndEndWithTheProfile) {
  for (const std::string_view text : kProfiles) {
    const Profile profile = profile_of(text);
    for (const Arrivals arrivals : {Arrivals::Uniform, Arrivals::Poisson}) {
      const std::vector<Time> times = all_of(profile, {.arrivals = arrivals, .seed = 5, .shard = {}});
      EXPECT_TRUE(std::ranges::is_sorted(times)) << text;
      if (!times.empty()) {
        EXPECT_GE(times.front(), 0s) << text;
        EXPECT_LE(times.back(), profile.duration()) << text;
      }
    }
  }
}

TEST(Schedule, ShardsTogetherSendExactlyWhatOneSends) {
  for (const std::string_view text : kProfiles) {
    const Profile profile = profile_of(text);
    for (const Arrivals arrivals : {Arrivals::Uniform, Arrivals::Poisson}) {
      for (const uint64_t seed : {0u, 1u, 123456u}) {
        const std::vector<Time> whole = all_of(profile, {.arrivals = arrivals, .seed = seed, .shard = {}});
        for (const uint32_t count : {1u, 2u, 3u, 7u, 64u}) {
          size_t sent = 0;
          for (uint32_t index = 0; index < count; ++index) {
            const std::vector<Time> part =
                all_of(profile, {.arrivals = arrivals, .seed = seed, .shard = {.index = index, .count = count}});
            for (size_t i = 0; i < part.size(); ++i) {
              const size_t k = index + i * count;
              ASSERT_LT(k, whole.size()) << text << ", shard " << index << " of " << count;
              ASSERT_EQ(part[i], whole[k]) << text << ", shard " << index << " of " << count << ", request " << k;
            }
            sent += part.size();
          }
          EXPECT_EQ(sent, whole.size()) << text << ", " << count << " shards, seed " << seed;
        }
      }
    }
  }
}

TEST(Schedule, SeedDecidesAboutPoissonArrivalsAlone) {
  const Profile profile = profile_of("100@10s");
  const auto with = [&](Arrivals arrivals, uint64_t seed) {
    return all_of(profile, {.arrivals = arrivals, .seed = seed, .shard = {}});
  };
  EXPECT_EQ(with(Arrivals::Poisson, 3), with(Arrivals::Poisson, 3));
  EXPECT_NE(with(Arrivals::Poisson, 3), with(Arrivals::Poisson, 4));
  EXPECT_EQ(with(Arrivals::Uniform, 3), with(Arrivals::Uniform, 4));
}

// In bins of one expected arrival counts are Poisson with mean and variance 1, also where the rate changes. With n bins
// the standard error of their mean is 1 / sqrt(n), of their variance about sqrt(3 / n); the tolerances are some four of
// them.
TEST(Schedule, PoissonArrivalsArePoissonWhereTheRateChanges) {
  const Profile profile = profile_of("100:2000@40s,sine(1000,900,7s)@60s");
  std::vector<double> bins(static_cast<size_t>(profile.total()));
  for (const Time t : all_of(profile, {.arrivals = Arrivals::Poisson, .seed = 11, .shard = {}})) {
    const auto bin = static_cast<size_t>(profile.arrivals(t));
    if (bin < bins.size()) bins[bin] += 1;
  }
  const auto n = static_cast<double>(bins.size());
  double mean = 0;
  for (const double count : bins) mean += count / n;
  double variance = 0;
  for (const double count : bins) variance += (count - mean) * (count - mean) / n;
  EXPECT_NEAR(mean, 1, 4 / std::sqrt(n));
  EXPECT_NEAR(variance, 1, 4 * std::sqrt(3 / n));
}

// Known once and for all: another machine, compiler or library must send at the same times.
TEST(Schedule, PoissonArrivalsAreTheSameEverywhere) {
  const Profile profile = profile_of("100@10s");
  std::vector<Time> times = all_of(profile, {.arrivals = Arrivals::Poisson, .seed = 1, .shard = {}});
  ASSERT_GE(times.size(), 5u);
  times.resize(5);
  const std::vector<Time> expected = {16692525ns, 30440322ns, 31495604ns, 45208356ns, 47250085ns};
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_LE(std::chrono::abs(times[i] - expected[i]), 1ns) << i;
}

TEST(Schedule, AProfileOfADayIsNoLongerOrShorterThanADay) {
  const Profile profile = profile_of("10@24h");
  const std::vector<Time> times = all_of(profile, {});
  EXPECT_EQ(times.size(), 864000u);
  EXPECT_EQ(times.front(), 50ms);
  EXPECT_EQ(times.back(), 24h - 50ms);
}

}  // namespace
}  // namespace kiln::profile
