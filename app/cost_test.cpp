#include "app/cost.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

namespace kiln::app {
namespace {

using namespace std::chrono_literals;

const std::vector<std::string> kRoutes{"/", "/api/info", "/load", "/data", "/data/{id}"};

Cost cost_of(std::string_view text) {
  const auto cost = Cost::parse(text);
  EXPECT_TRUE(cost.has_value()) << text << ": " << cost.error().what;
  return cost.value();
}

std::vector<Cost::Duration> draw_many(std::string_view text, uint64_t seed, size_t count) {
  const Cost cost = cost_of(text);
  Cost::Random random(seed);
  std::vector<Cost::Duration> drawn;
  for (size_t i = 0; i < count; ++i) drawn.push_back(cost.draw(random));
  return drawn;
}

TEST(Cost, OfATimeIsThatTimeAlways) {
  for (const char* text : {"2ms", "lognormal(2ms,0)"}) {
    for (const Cost::Duration drawn : draw_many(text, 1, 10)) EXPECT_EQ(drawn, 2ms) << text;
  }
}

TEST(Cost, TakesWhatItsRangeAllowsAndNothingBeyond) {
  for (const char* good :
       {"0", "1ns", "1m", "59.999999999s", "lognormal(1m,3)", "lognormal(0,3)", "lognormal(5ms,1e-1)"}) {
    EXPECT_TRUE(Cost::parse(good).has_value()) << good;
  }
  const struct {
    const char* text;
    const char* quoted;  // of the error
    const char* accepted;
  } bad[] = {
      {"", "''", "TIME"},
      {"2", "'2'", "TIME"},
      {"-2ms", "'-2ms'", "TIME"},
      {"2ms,", "'2ms,'", "TIME"},
      {"60.000000001s", "'60.000000001s'", "1m"},
      {"normal(5ms,1)", "'normal(5ms,1)'", "lognormal(MEAN,SIGMA)"},
      {"lognormal", "'lognormal'", "lognormal(MEAN,SIGMA)"},
      {"lognormal(", "'lognormal('", "lognormal(MEAN,SIGMA)"},
      {"lognormal()", "'lognormal()'", "lognormal(MEAN,SIGMA)"},
      {"lognormal(5ms)", "'lognormal(5ms)'", "lognormal(MEAN,SIGMA)"},
      {"lognormal(5ms,1", "'lognormal(5ms,1'", "lognormal(MEAN,SIGMA)"},
      {"lognormal(5ms,1)x", "'lognormal(5ms,1)x'", "lognormal(MEAN,SIGMA)"},
      {"lognormal(5,1)", "'lognormal(5,1)'", "lognormal(MEAN,SIGMA)"},
      {"lognormal(-5ms,1)", "'lognormal(-5ms,1)'", "lognormal(MEAN,SIGMA)"},
      {"lognormal(61s,1)", "'61s'", "1m"},
      {"lognormal(5ms,)", "''", "between 0 and 3"},
      {"lognormal(5ms,-1)", "'-1'", "between 0 and 3"},
      {"lognormal(5ms,3.01)", "'3.01'", "between 0 and 3"},
      {"lognormal(5ms,nan)", "'nan'", "between 0 and 3"},
      {"lognormal(5ms,1,2)", "'1,2'", "between 0 and 3"},
  };
  for (const auto& row : bad) {
    const auto refused = Cost::parse(row.text);
    ASSERT_FALSE(refused.has_value()) << row.text;
    EXPECT_NE(refused.error().what.find(row.quoted), std::string::npos) << refused.error().what;
    EXPECT_NE(refused.error().what.find(row.accepted), std::string::npos) << refused.error().what;
  }
}

// The standard error of the mean is mean * sqrt((exp(sigma^2) - 1) / n), of the median about 1.25 * sigma / sqrt(n) of
// it; the tolerances are some four of them.
TEST(Cost, DrawsHaveTheMeanThatWasAskedForAndTheMedianThatFollows) {
  constexpr size_t kDraws = 200'000;
  const struct {
    const char* text;
    double mean_ms;
    double median_ms;  // mean * exp(-sigma^2 / 2)
    double tolerance;  // of both, as a share
  } rows[] = {
      {"lognormal(5ms,0.1)", 5, 4.97506, 0.002},
      {"lognormal(5ms,0.8)", 5, 3.63075, 0.009},
      {"lognormal(2ms,1.5)", 2, 0.64930, 0.03},
  };
  for (const auto& row : rows) {
    std::vector<Cost::Duration> drawn = draw_many(row.text, 1, kDraws);
    double sum_ms = 0;
    for (const Cost::Duration one : drawn) {
      ASSERT_GE(one.count(), 0);
      sum_ms += std::chrono::duration<double, std::milli>(one).count();
    }
    std::ranges::nth_element(drawn, drawn.begin() + kDraws / 2);
    const double median_ms = std::chrono::duration<double, std::milli>(drawn[kDraws / 2]).count();
    EXPECT_NEAR(sum_ms / kDraws, row.mean_ms, row.mean_ms * row.tolerance) << row.text;
    EXPECT_NEAR(median_ms, row.median_ms, row.median_ms * row.tolerance) << row.text;
  }
}

TEST(Cost, DrawsAreBounded) {
  for (const Cost::Duration drawn : draw_many("lognormal(1m,3)", 1, 100'000)) {
    ASSERT_GE(drawn, 0ns);
    ASSERT_LE(drawn, Cost::kDrawMax);
  }
}

TEST(Cost, TheSeedDecidesTheDraws) {
  const auto drawn = draw_many("lognormal(5ms,0.8)", 1, 100);
  EXPECT_EQ(draw_many("lognormal(5ms,0.8)", 1, 100), drawn);
  EXPECT_NE(draw_many("lognormal(5ms,0.8)", 2, 100), drawn);
}

TEST(Costs, AreSeparatedByBlanks) {
  Cost::Random random(1);
  for (const char* text :
       {"/=2ms /data=10ms /data/{id}=lognormal(3ms,0)", "\n/=2ms\n  /data=10ms\t/data/{id}=3ms \r\n"}) {
    const auto costs = parse_costs(text, kRoutes);
    ASSERT_TRUE(costs.has_value()) << costs.error().what;
    ASSERT_EQ(costs->size(), 3U);
    EXPECT_EQ((*costs)[0].route, "/");
    EXPECT_EQ((*costs)[0].cost.draw(random), 2ms);
    EXPECT_EQ((*costs)[1].route, "/data");
    EXPECT_EQ((*costs)[1].cost.draw(random), 10ms);
    EXPECT_EQ((*costs)[2].route, "/data/{id}");
    EXPECT_EQ((*costs)[2].cost.draw(random), 3ms);
  }
  for (const char* nothing : {"", "  \n"}) {
    const auto costs = parse_costs(nothing, kRoutes);
    ASSERT_TRUE(costs.has_value());
    EXPECT_TRUE(costs->empty());
  }
}

TEST(Costs, RefuseAPairByNameInOneLine) {
  const struct {
    const char* text;
    const char* quoted;
    const char* says;
  } rows[] = {
      {"/=2ms 5ms", "'5ms'", "ROUTE=TIME"},
      {"/ =2ms", "'/'", "ROUTE=TIME"},
      {"/=2ms data=5ms", "'data=5ms'", "begins with /"},
      {"=5ms", "'=5ms'", "begins with /"},
      {"/=2ms /data=1ms /=3ms", "'/=3ms'", "/ has a cost already"},
      {"/=2ms /nowhere=5ms", "'/nowhere=5ms'", "there are /, /api/info, /load, /data, /data/{id}"},
      {"/=", "'/='", "TIME"},
      {"/=5", "'/=5'", "TIME"},
      {"/==5ms", "'/==5ms'", "TIME"},
      {"/=lognormal(5ms, 0.8)", "'/=lognormal(5ms,'", "lognormal(MEAN,SIGMA)"},
      {"/=2ms /load=5ms", "'/load=5ms'", "each request of /load"},
  };
  for (const auto& row : rows) {
    const auto refused = parse_costs(row.text, kRoutes);
    ASSERT_FALSE(refused.has_value()) << row.text;
    EXPECT_NE(refused.error().what.find(row.quoted), std::string::npos) << refused.error().what;
    EXPECT_NE(refused.error().what.find(row.says), std::string::npos) << refused.error().what;
    EXPECT_EQ(refused.error().what.find('\n'), std::string::npos) << refused.error().what;
  }
}

}  // namespace
}  // namespace kiln::app
