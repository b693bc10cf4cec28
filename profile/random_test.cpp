#include "profile/random.h"

#include <gtest/gtest.h>

#include <cmath>

namespace kiln::profile {
namespace {

// As the reference implementations give them: splitmix64.c with 1234567, xoshiro256plusplus.c with 1, 2, 3, 4.
TEST(Random, DrawsWhatTheReferenceDraws) {
  uint64_t seed = 1234567;
  constexpr uint64_t kSplitmix[] = {6457827717110365317, 3203168211198807973, 9817491932198370423u, 4593380528125082431,
                                    16408922859458223821u};
  for (const uint64_t expected : kSplitmix) EXPECT_EQ(splitmix64(seed), expected);

  Random random(Random::State{1, 2, 3, 4});
  constexpr uint64_t kXoshiro[] = {41943041,
                                   58720359,
                                   3588806011781223,
                                   3591011842654386,
                                   9228616714210784205u,
                                   9973669472204895162u,
                                   14011001112246962877u,
                                   12406186145184390807u,
                                   15849039046786891736u,
                                   10450023813501588000u};
  for (const uint64_t expected : kXoshiro) EXPECT_EQ(random.next(), expected);
}

TEST(Random, SeedFillsTheStateBySplitmix) {
  uint64_t seed = 42;
  const Random::State state{splitmix64(seed), splitmix64(seed), splitmix64(seed), splitmix64(seed)};
  Random seeded(42);
  Random given(state);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(seeded.next(), given.next());
}

// The standard error of the mean of n draws is 1 / sqrt(n); of the variance, whose fourth moment is 9, sqrt(8 / n). The
// tolerances are some four of them.
TEST(Random, ExponentialHasItsMeanVarianceAndTail) {
  constexpr int kDraws = 1'000'000;
  Random random(1);
  double sum = 0;
  double squares = 0;
  int beyond_two = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double gap = random.next_exponential();
    ASSERT_GE(gap, 0);
    sum += gap;
    squares += gap * gap;
    beyond_two += gap > 2;
  }
  const double mean = sum / kDraws;
  EXPECT_NEAR(mean, 1, 0.004);
  EXPECT_NEAR(squares / kDraws - mean * mean, 1, 0.012);
  EXPECT_NEAR(static_cast<double>(beyond_two) / kDraws, std::exp(-2), 0.0014);
}

TEST(Random, UnitIsNeverOne) {
  Random random(7);
  for (int i = 0; i < 1'000'000; ++i) {
    const double unit = random.next_unit();
    ASSERT_GE(unit, 0);
    ASSERT_LT(unit, 1);
  }
}

}  // namespace
}  // namespace kiln::profile
