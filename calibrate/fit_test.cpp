#include "calibrate/fit.h"

#include <gtest/gtest.h>

#include <vector>

namespace kiln::calibrate {
namespace {

TEST(FitLine, FindsTheLineThatPointsLieOn) {
  const std::vector<Point> points = {{10, 50.25}, {20, 100.25}, {95, 475.25}};
  const auto line = fit_line(points);
  ASSERT_TRUE(line);
  EXPECT_NEAR(line->cost_ms, 5, 1e-12);
  EXPECT_NEAR(line->idle_millicores, 0.25, 1e-10);
  EXPECT_NEAR(line->residual_max_millicores, 0, 1e-10);
}

TEST(FitLine, TellsTheLargestDistanceFromIt) {
  // The least squares of (0,0), (1,3), (2,0) are those of the level 1, which never grows; a slope is added to all.
  const std::vector<Point> points = {{0, 0}, {1, 13}, {2, 20}};
  const auto line = fit_line(points);
  ASSERT_TRUE(line);
  EXPECT_NEAR(line->cost_ms, 10, 1e-12);
  EXPECT_NEAR(line->idle_millicores, 1, 1e-12);
  EXPECT_NEAR(line->residual_max_millicores, 2, 1e-12);
}

TEST(FitLine, KeepsItsDigitsFarFromTheOrigin) {
  std::vector<Point> points;
  for (int i = 0; i < 10; ++i) points.push_back({1e7 + i, 3 * (1e7 + i) + 7});
  const auto line = fit_line(points);
  ASSERT_TRUE(line);
  EXPECT_NEAR(line->cost_ms, 3, 1e-6);
}

TEST(FitLine, IsNoneWhereCpuDoesNotGrow) {
  const std::vector<Point> rows[] = {{}, {{5, 5}}, {{5, 5}, {5, 9}}, {{1, 5}, {2, 5}}, {{1, 5}, {2, 4}}};
  for (const auto& points : rows) EXPECT_FALSE(fit_line(points)) << points.size();
}

base::HdrHistogram of(std::initializer_list<std::pair<uint64_t, uint64_t>> values) {
  base::HdrHistogram histogram(1'000'000);
  for (const auto& [value, count] : values) histogram.record(value, count);
  return histogram;
}

struct SmoothCase {
  const char* name;
  std::vector<base::HdrHistogram> histograms;
  std::vector<double> figures;
};

TEST(SmoothP99, NeverFalls) {
  const SmoothCase cases[] = {
      {"nothing", {}, {}},
      {"one", {of({{7, 100}})}, {7}},
      {"rising already", {of({{5, 100}}), of({{6, 100}}), of({{6, 100}}), of({{9, 100}})}, {5, 6, 6, 9}},
      {"a fall is pooled: 99 % of all do not exceed 5", {of({{9, 100}}), of({{5, 19'900}})}, {5, 5}},
      {"not averaged", {of({{900, 500}}), of({{100, 500}})}, {900, 900}},
      {"what was pooled may fall below the one before",
       {of({{6, 10'000}}), of({{9, 100}}), of({{5, 30'000}})},
       {6, 6, 6}},
      {"an empty one goes with the next", {of({}), of({{5, 100}}), of({}), of({{9, 100}})}, {5, 5, 9, 9}},
      {"the last with the one before", {of({{5, 100}}), of({{9, 100}}), of({}), of({})}, {5, 9, 9, 9}},
      {"all empty", {of({}), of({})}, {0, 0}},
  };
  for (const SmoothCase& row : cases) EXPECT_EQ(smooth_p99(row.histograms), row.figures) << row.name;
}

TEST(SmoothP99, TakesFewValuesTogether) {
  const SmoothCase cases[] = {
      {"until they are enough", {of({{5, 40}}), of({{6, 60}}), of({{9, 100}})}, {6, 6, 9}},
      {"the last with the one before", {of({{5, 100}}), of({{9, 99}})}, {9, 9}},
      {"not enough even so", {of({{5, 10}}), of({{9, 10}}), of({{7, 10}})}, {0, 0, 0}},
  };
  for (const SmoothCase& row : cases) EXPECT_EQ(smooth_p99(row.histograms), row.figures) << row.name;
}

}  // namespace
}  // namespace kiln::calibrate
