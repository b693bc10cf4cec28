#include "app/bumped_metrics.h"

#include <gtest/gtest.h>

#include <string>

namespace kiln::app {
namespace {

using namespace std::chrono_literals;
using Refusal = BumpedMetrics::Refusal;
using Values = std::vector<std::pair<std::string, double>>;

constexpr BumpedMetrics::TimePoint kStart{1h};

TEST(BumpedMetrics, AddUpAndGoBackToNothing) {
  BumpedMetrics bumped;
  EXPECT_TRUE(bumped.list(kStart).empty());
  EXPECT_FALSE(bumped.add("QPS", 0.1, 10s, kStart));
  EXPECT_FALSE(bumped.add("QPS", 0.2, 20s, kStart));
  EXPECT_FALSE(bumped.add("depth", -5, 20s, kStart));
  EXPECT_EQ(bumped.list(kStart), (Values{{"QPS", 0.1 + 0.2}, {"depth", -5}}));
  EXPECT_EQ(bumped.list(kStart + 10s - 1ns), (Values{{"QPS", 0.1 + 0.2}, {"depth", -5}}));
  EXPECT_EQ(bumped.list(kStart + 10s), (Values{{"QPS", 0.2}, {"depth", -5}}));
  EXPECT_EQ(bumped.list(kStart + 20s), (Values{{"QPS", 0}, {"depth", 0}}));
}

TEST(BumpedMetrics, HaveAtMostAHundredNames) {
  BumpedMetrics bumped;
  for (size_t i = 0; i < BumpedMetrics::kNamesMax; ++i) {
    ASSERT_FALSE(bumped.add("a" + std::to_string(i), 1, i == 7 ? 1s : 60s, kStart));
  }
  EXPECT_EQ(bumped.add("b", 1, 60s, kStart), Refusal::TooManyNames);
  EXPECT_FALSE(bumped.add("a0", 1, 60s, kStart));
  EXPECT_FALSE(bumped.add("b", 1, 60s, kStart + 1s));
  const Values values = bumped.list(kStart + 1s);
  EXPECT_EQ(values.size(), BumpedMetrics::kNamesMax);
  EXPECT_EQ(values[7].first, "a8");
  EXPECT_EQ(values.back().first, "b");
}

TEST(BumpedMetrics, AreBumpedAtMostAThousandTimesAtOnce) {
  BumpedMetrics bumped;
  for (size_t i = 0; i < BumpedMetrics::kBumpsMax; ++i) ASSERT_FALSE(bumped.add("a", 1, 60s, kStart));
  EXPECT_EQ(bumped.add("a", 1, 60s, kStart), Refusal::TooManyBumps);
  EXPECT_EQ(bumped.add("b", 1, 60s, kStart), Refusal::TooManyBumps);
  EXPECT_FALSE(bumped.add("a", 1, 60s, kStart + 60s));
}

TEST(BumpedMetrics, HaveNamesThatPrometheusTakes) {
  for (const std::string& good : {std::string("a"), std::string("_"), std::string("QPS"), std::string("a:b_9"),
                                  std::string(BumpedMetrics::kNameBytesMax, 'a')}) {
    EXPECT_TRUE(is_metric_name(good)) << good;
  }
  BumpedMetrics bumped;
  for (const std::string& bad : {std::string(), std::string("9a"), std::string("a-b"), std::string("a b"),
                                 std::string("a\nb"), std::string("a{b}"), std::string("ä"), std::string("a\0b", 3),
                                 std::string(BumpedMetrics::kNameBytesMax + 1, 'a')}) {
    EXPECT_FALSE(is_metric_name(bad)) << bad;
    EXPECT_EQ(bumped.add(bad, 1, 1s, kStart), Refusal::BadName) << bad;
  }
}

}  // namespace
}  // namespace kiln::app
