#include "app/metrics.h"

#include <gtest/gtest.h>

namespace kiln::app {
namespace {

using namespace std::chrono_literals;

TEST(Metrics, CountsByRouteMethodAndCode) {
  RequestCounters counters(2);
  counters.count(1, http::Method::Get, 200, 3ms);
  counters.count(1, http::Method::Get, 200, 3ms);
  counters.count(0, http::Method::Post, 418, 3ms);
  EXPECT_EQ(counters.requests(), 3U);
  EXPECT_EQ(counters.route(1).requests[0][0].get(), 2U);
  // A code without a place of its own is still counted.
  EXPECT_EQ(counters.route(0).requests[2][RequestCounters::kCodes.size() - 1].get(), 1U);
}

TEST(Metrics, PutsADurationIntoTheFirstBucketThatHoldsIt) {
  const struct {
    core::Duration took;
    size_t bucket;
  } rows[] = {{0ns, 0}, {500us, 0}, {501us, 1}, {1ms, 1}, {10s, 13}, {10001ms, 14}, {1h, 14}};
  for (const auto& row : rows) {
    RequestCounters counters(1);
    counters.count(0, http::Method::Get, 200, row.took);
    EXPECT_EQ(counters.route(0).buckets[row.bucket].get(), 1U) << row.took.count();
  }
}

TEST(Metrics, EscapesLabelValues) {
  EXPECT_EQ(MetricsText::label("reason", "a \"b\" \\ c\nd"), R"(reason="a \"b\" \\ c\nd")");
}

TEST(Metrics, WritesAFamilyAndItsSamples) {
  MetricsText out;
  out.family("kiln_test_total", MetricsText::Type::Counter, "Tests.");
  out.sample({}, uint64_t{3});
  out.sample(MetricsText::label("kind", "x"), 0.5, "_sum");
  EXPECT_EQ(out.text(),
            "# HELP kiln_test_total Tests.\n# TYPE kiln_test_total counter\nkiln_test_total 3\n"
            "kiln_test_total_sum{kind=\"x\"} 0.5\n");
}

}  // namespace
}  // namespace kiln::app
