#include "profile/profile.h"

#include <gtest/gtest.h>

#include <cmath>

#include "profile/parse.h"

namespace kiln::profile {
namespace {

using namespace std::chrono_literals;

Profile profile_of(std::string_view text) {
  auto profile = parse_profile(text, {});
  EXPECT_TRUE(profile.has_value()) << text << ": " << profile.error().what;
  return profile.value();
}

// One of everything, with pauses before, between and behind.
constexpr std::string_view kMixed =
    "0@5s,20@1m,0@30s,20:200@5m,sine(50,50,2m)@7m,burst(0,300,1m,5s)@150s,0:1000@1ns,1000:0@90s,0@5s";

TEST(Profile, NothingIsAskedForWithoutPieces) {
  const Profile empty;
  EXPECT_EQ(empty.duration(), 0s);
  EXPECT_EQ(empty.total(), 0);
  EXPECT_EQ(empty.rate_max(), 0);
  EXPECT_EQ(empty.rate(0s), 0);
  EXPECT_EQ(empty.arrivals(1s), 0);
  EXPECT_EQ(empty.time_of(1), 0s);
}

TEST(Profile, GivesRateAndArrivalsOfThePieceThatATimeIsIn) {
  const Profile profile = profile_of("20@1m,20:200@5m,200@10m");
  EXPECT_EQ(profile.duration(), 16min);
  EXPECT_DOUBLE_EQ(profile.total(), 1200 + 33000 + 120000);
  EXPECT_EQ(profile.rate_max(), 200);
  const struct {
    Time t;
    double rate;
    double arrivals;
  } rows[] = {
      {-1ns, 0, 0},
      {0s, 20, 0},
      {30s, 20, 600},
      {1min, 20, 1200},
      {1min + 150s, 110, 1200 + 150 * 65.0},
      {6min, 200, 34200},
      {16min - 1ns, 200, 154200},
      {16min, 0, 154200},
      {24h, 0, 154200},
  };
  for (const auto& row : rows) {
    EXPECT_DOUBLE_EQ(profile.rate(row.t), row.rate) << row.t.count();
    EXPECT_NEAR(profile.arrivals(row.t), row.arrivals, 1e-6) << row.t.count();
  }
}

TEST(Profile, RateAfterAJumpHoldsAtIt) {
  const Profile profile = profile_of("20@1m,100@1m");
  EXPECT_EQ(profile.rate(1min - 1ns), 20);
  EXPECT_EQ(profile.rate(1min), 100);
}

TEST(Profile, TimeOfIsTheInverseOfArrivalsAndNeverFalls) {
  const Profile profile = profile_of(kMixed);
  Time before = 0s;
  for (double n = 0.25; n < profile.total(); n += 0.25) {
    const Time t = profile.time_of(n);
    ASSERT_GE(t, before) << n;
    // Half a nanosecond of the highest rate, and rounding.
    ASSERT_NEAR(profile.arrivals(t), n, profile.rate_max() * 0.5e-9 + 1e-12 * profile.total()) << n;
    before = t;
  }
  EXPECT_LE(before, profile.duration() - 5s);
}

TEST(Profile, TimeOfStaysInside) {
  const Profile profile = profile_of(kMixed);
  EXPECT_EQ(profile.time_of(-1), 0s);
  EXPECT_EQ(profile.time_of(0), 0s);
  EXPECT_EQ(profile.time_of(1e-9), 5s) << "after the pause at the beginning";
  // Before the pause at the end; how long before is a matter of rounding, since the rate falls to 0.
  EXPECT_LE(profile.time_of(profile.total()), profile.duration() - 5s);
  EXPECT_GE(profile.time_of(profile.total()), profile.duration() - 5s - 10us);
  EXPECT_EQ(profile.time_of(profile.total() + 1), profile.duration());
  EXPECT_EQ(profile.time_of(1200), 65s) << "before the pause in the middle";
  EXPECT_EQ(profile.time_of(1200.0001), 95s + 5us);
}

TEST(Profile, ArrivalsNeverFall) {
  const Profile profile = profile_of(kMixed);
  double before = 0;
  for (Time t = 0s; t <= profile.duration(); t += 1234567ns) {
    const double arrivals = profile.arrivals(t);
    ASSERT_GE(arrivals, before) << t.count();
    before = arrivals;
  }
}

// 86400 pieces of a second each, against the same day in one.
TEST(Profile, ManyPiecesDoNotDrift) {
  Profile pieces;
  for (int second = 0; second < 86400; ++second) pieces.append(Ramp{0.1, 0.1, 1}, 1s);
  const Profile day = profile_of("0.1@24h");
  EXPECT_EQ(pieces.duration(), 24h);
  EXPECT_NEAR(pieces.total(), 8640, 1e-7);
  for (double n = 0.5; n < 8640; n += 100) {
    EXPECT_NEAR(static_cast<double>(pieces.time_of(n).count()), static_cast<double>(day.time_of(n).count()), 1000);
  }
}

TEST(Profile, ALongFastProfileEndsWhereItShould) {
  const Profile profile = profile_of("1000000@24h");
  EXPECT_EQ(profile.total(), 86.4e9);
  EXPECT_EQ(profile.time_of(86.4e9 - 0.5), 24h - 500ns);
  EXPECT_EQ(profile.time_of(43.2e9 + 0.5), 12h + 500ns);
}

}  // namespace
}  // namespace kiln::profile
