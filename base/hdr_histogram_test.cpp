#include "base/hdr_histogram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace kiln::base {
namespace {

constexpr uint64_t kHour = 3'600'000'000'000;  // in nanoseconds
constexpr uint64_t kLargest = 1ULL << 62;

HdrHistogram of(uint64_t highest, const std::vector<uint64_t>& values) {
  HdrHistogram histogram(highest);
  for (const uint64_t value : values) histogram.record(value);
  return histogram;
}

void expect_same(const HdrHistogram& left, const HdrHistogram& right) {
  EXPECT_EQ(left.count(), right.count());
  EXPECT_EQ(left.saturated(), right.saturated());
  EXPECT_EQ(left.min(), right.min());
  EXPECT_EQ(left.max(), right.max());
  EXPECT_EQ(left.mean(), right.mean());
  EXPECT_EQ(left.stddev(), right.stddev());
  EXPECT_EQ(left.percentile_distribution({}), right.percentile_distribution({}));
}

// From a microsecond to ten seconds, as often in each power of ten.
std::vector<uint64_t> latencies(size_t count, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<uint64_t> values;
  for (size_t i = 0; i < count; ++i) {
    const double share = static_cast<double>(random() >> 11) * 0x1p-53;
    values.push_back(static_cast<uint64_t>(std::pow(10, 3 + 7 * share)));
  }
  return values;
}

TEST(HdrHistogram, OfNothingGivesNothing) {
  const HdrHistogram histogram(kHour);
  EXPECT_EQ(histogram.count(), 0u);
  EXPECT_EQ(histogram.saturated(), 0u);
  EXPECT_EQ(histogram.min(), 0u);
  EXPECT_EQ(histogram.max(), 0u);
  EXPECT_EQ(histogram.mean(), 0);
  EXPECT_EQ(histogram.stddev(), 0);
  EXPECT_EQ(histogram.value_at_percentile(50), 0u);
  EXPECT_TRUE(histogram.recorded().empty());
  EXPECT_TRUE(histogram.percentile_distribution({}).contains("Total count    =            0]"));
}

TEST(HdrHistogram, KeepsEveryValueBelow2048) {
  HdrHistogram histogram(kHour);
  for (uint64_t value = 0; value < 2048; ++value) histogram.record(value, value + 1);
  const auto parts = histogram.recorded();
  ASSERT_EQ(parts.size(), 2048u);
  for (uint64_t value = 0; value < 2048; ++value) {
    EXPECT_EQ(parts[value].lowest, value);
    EXPECT_EQ(parts[value].highest, value);
    EXPECT_EQ(parts[value].count, value + 1);
  }
}

// A part holds the value, is as narrow as promised, and begins where the one before ends.
TEST(HdrHistogram, PartsMeetAroundEveryPowerOfTwo) {
  for (int k = 1; k <= 62; ++k) {
    const uint64_t power = 1ULL << k;
    for (const uint64_t value : {power - 1, power, power + 1}) {
      if (value > kLargest) continue;
      SCOPED_TRACE(value);
      const auto parts = of(kLargest, {value}).recorded();
      ASSERT_EQ(parts.size(), 1u);
      EXPECT_LE(parts[0].lowest, value);
      EXPECT_GE(parts[0].highest, value);
      EXPECT_LE(parts[0].highest - parts[0].lowest, value / 1000);
      EXPECT_EQ(parts[0].count, 1u);
      if (parts[0].lowest > 0) {
        EXPECT_EQ(of(kLargest, {parts[0].lowest - 1}).recorded()[0].highest, parts[0].lowest - 1);
      }
    }
    EXPECT_EQ(of(kLargest, {power}).min(), power) << "a power of two begins a part";
  }
}

TEST(HdrHistogram, PercentilesAreThoseOfTheSortedValues) {
  std::vector<uint64_t> values = latencies(100'000, 1);
  const HdrHistogram histogram = of(kHour, values);
  std::ranges::sort(values);
  for (const double percentile : {0.001, 1.0, 10.0, 25.0, 50.0, 75.0, 90.0, 99.0, 99.9, 99.99, 99.999, 100.0}) {
    const auto rank = static_cast<size_t>(std::ceil(percentile * static_cast<double>(values.size()) / 100 - 1e-6));
    const uint64_t exact = values[rank - 1];
    const uint64_t found = histogram.value_at_percentile(percentile);
    EXPECT_GE(found, exact) << percentile;
    EXPECT_LE(found - exact, exact / 1000) << percentile;
  }
  EXPECT_EQ(histogram.count(), values.size());
  EXPECT_LE(histogram.min(), values.front());
  EXPECT_LE(values.front() - histogram.min(), values.front() / 1000);
  EXPECT_GE(histogram.max(), values.back());
  EXPECT_LE(histogram.max() - values.back(), values.back() / 1000);
}

TEST(HdrHistogram, MeanAndDeviationAreThoseOfTheValues) {
  const std::vector<uint64_t> values = latencies(100'000, 2);
  const auto n = static_cast<double>(values.size());
  double mean = 0;
  for (const uint64_t value : values) mean += static_cast<double>(value) / n;
  double variance = 0;
  for (const uint64_t value : values) variance += std::pow(static_cast<double>(value) - mean, 2) / n;
  const HdrHistogram histogram = of(kHour, values);
  EXPECT_NEAR(histogram.mean(), mean, mean / 2000);
  EXPECT_NEAR(histogram.stddev(), std::sqrt(variance), std::sqrt(variance) / 1000);
}

TEST(HdrHistogram, RanksAreExactWhereThePercentileMeetsOne) {
  const HdrHistogram histogram = of(1000, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10});
  const struct {
    double percentile;
    uint64_t value;
  } rows[] = {
      {-1, 1}, {0, 1},  {0.1, 1},  {10, 1}, {10.1, 2},  {20, 2},   {50, 5},   {50.1, 6},
      {70, 7}, {72, 8}, {89.9, 9}, {90, 9}, {90.1, 10}, {100, 10}, {101, 10},
  };
  for (const auto& row : rows) EXPECT_EQ(histogram.value_at_percentile(row.percentile), row.value) << row.percentile;
}

// 0 asks for the least value, anything else for the largest that is equivalent to what was recorded.
TEST(HdrHistogram, GivesTheEndsOfAPart) {
  const HdrHistogram histogram = of(kHour, {1'000'000, 100'000'000});
  EXPECT_EQ(histogram.min(), 999'936u);
  EXPECT_EQ(histogram.value_at_percentile(0), 999'936u);
  EXPECT_EQ(histogram.value_at_percentile(1), 1'000'447u);
  EXPECT_EQ(histogram.value_at_percentile(50), 1'000'447u);
  EXPECT_EQ(histogram.value_at_percentile(51), 100'007'935u);
  EXPECT_EQ(histogram.max(), 100'007'935u);
}

TEST(HdrHistogram, AddedIsAsIfRecordedTogether) {
  const std::vector<uint64_t> first = latencies(10'000, 3);
  const std::vector<uint64_t> second = latencies(7'000, 4);
  constexpr uint64_t kHighest = 1'000'000'000;  // so that some are beyond
  HdrHistogram together = of(kHighest, first);
  for (const uint64_t value : second) together.record(value);
  HdrHistogram added = of(kHighest, first);
  added.add(of(kHighest, second));
  expect_same(added, together);
  EXPECT_GT(added.saturated(), 0u);

  added.add(HdrHistogram(kHighest));
  expect_same(added, together);
  HdrHistogram from_nothing(kHighest);
  from_nothing.add(together);
  expect_same(from_nothing, together);
}

TEST(HdrHistogram, CountsManyAtOnce) {
  HdrHistogram at_once(kHour);
  HdrHistogram singly(kHour);
  at_once.record(12'345'678, 1000);
  at_once.record(99, 3);
  at_once.record(7, 0);
  for (int i = 0; i < 1000; ++i) singly.record(12'345'678);
  for (int i = 0; i < 3; ++i) singly.record(99);
  expect_same(at_once, singly);
}

TEST(HdrHistogram, WhatWasRecordedMakesTheSameHistogramAgain) {
  const HdrHistogram histogram = of(kHour, latencies(10'000, 5));
  HdrHistogram again(kHour);
  for (const auto& part : histogram.recorded()) again.record(part.lowest, part.count);
  expect_same(again, histogram);
}

TEST(HdrHistogram, CountsWhatIsBeyondTheHighestAtTheHighestAndSaysSo) {
  for (const uint64_t highest : {uint64_t{2}, uint64_t{2047}, uint64_t{2048}, uint64_t{1'000'000}, kHour, kLargest}) {
    SCOPED_TRACE(highest);
    HdrHistogram histogram(highest);
    histogram.record(highest - 1);
    histogram.record(highest);
    EXPECT_EQ(histogram.saturated(), 0u);
    const uint64_t max = histogram.max();
    EXPECT_GE(max, highest);
    histogram.record(highest + 1, 5);
    histogram.record(UINT64_MAX, 2);
    EXPECT_EQ(histogram.saturated(), 7u);
    EXPECT_EQ(histogram.count(), 9u);
    EXPECT_EQ(histogram.max(), max);
    EXPECT_EQ(histogram.value_at_percentile(99), max);
  }
}

TEST(HdrHistogram, StartsAnew) {
  HdrHistogram histogram = of(1000, {5, 5000});
  histogram.reset();
  expect_same(histogram, HdrHistogram(1000));
}

// As the tools of hdrhistogram.org write it for 1000, 2000, … 100000 with the unit 1000 (their values checked with the
// Python package hdrhistogram, their levels by the rule of the Java class PercentileIterator).
TEST(HdrHistogram, WritesThePercentileDistributionThatToolsPlot) {
  constexpr std::string_view kExpected =
      R"(       Value     Percentile TotalCount 1/(1-Percentile)

       1.000 0.000000000000          1           1.00
      10.007 0.100000000000         10           1.11
      20.015 0.200000000000         20           1.25
      30.015 0.300000000000         30           1.43
      40.031 0.400000000000         40           1.67
      50.015 0.500000000000         50           2.00
      55.007 0.550000000000         55           2.22
      60.031 0.600000000000         60           2.50
      65.023 0.650000000000         65           2.86
      70.015 0.700000000000         70           3.33
      75.007 0.750000000000         75           4.00
      78.015 0.775000000000         78           4.44
      80.063 0.800000000000         80           5.00
      83.007 0.825000000000         83           5.71
      85.055 0.850000000000         85           6.67
      88.063 0.875000000000         88           8.00
      89.023 0.887500000000         89           8.89
      90.047 0.900000000000         90          10.00
      92.031 0.912500000000         92          11.43
      93.055 0.925000000000         93          13.33
      94.015 0.937500000000         94          16.00
      95.039 0.943750000000         95          17.78
      95.039 0.950000000000         95          20.00
      96.063 0.956250000000         96          22.86
      97.023 0.962500000000         97          26.67
      97.023 0.968750000000         97          32.00
      98.047 0.971875000000         98          35.56
      98.047 0.975000000000         98          40.00
      98.047 0.978125000000         98          45.71
      99.007 0.981250000000         99          53.33
      99.007 0.984375000000         99          64.00
      99.007 0.985937500000         99          71.11
      99.007 0.987500000000         99          80.00
      99.007 0.989062500000         99          91.43
     100.031 0.990625000000        100         106.67
     100.031 1.000000000000        100
#[Mean    =       50.504, StdDeviation   =       28.866]
#[Max     =      100.031, Total count    =          100]
#[Buckets =           22, SubBuckets     =         2048]
)";
  HdrHistogram histogram(3'600'000'000);
  for (uint64_t value = 1000; value <= 100'000; value += 1000) histogram.record(value);
  EXPECT_EQ(histogram.percentile_distribution({.unit = 1000}), kExpected);
}

// One in 2^60: levels come so near to 100 % that a double cannot tell.
TEST(HdrHistogram, DistributionEndsHoweverLopsidedItIs) {
  HdrHistogram histogram(1000);
  histogram.record(1, 1ULL << 60);
  histogram.record(2);
  const std::string text = histogram.percentile_distribution({});
  EXPECT_LT(std::ranges::count(text, '\n'), 500);
  EXPECT_TRUE(text.contains("       2.000 1.000000000000 1152921504606846977\n"));
  EXPECT_FALSE(text.contains("inf"));
  EXPECT_FALSE(text.contains("nan"));
}

}  // namespace
}  // namespace kiln::base
