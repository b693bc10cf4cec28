#include "calibrate/samples.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>

namespace kiln::calibrate {
namespace {

constexpr std::string_view kText =
    "# HELP requests_total Requests by route.\n"
    "# TYPE requests_total counter\n"
    "requests_total{route=\"/load\",code=\"200\"} 40\n"
    "requests_total{route=\"/load\",code=\"503\"} 2 1395066363000\n"
    "requests_total{ code = \"200\" , route = \"/a \\\"b\\\" }\\\\\", } 1e2\n"
    "requests_total_more{route=\"/load\"} 1000\n"
    "  up\t+3.5\n"
    "engine_info{engine=\"io_uring\",reason=\"\"} 1\n"
    "engine_info{engine=\"epoll\"} 1\n"
    "bad{route=\"/load\" 7\n"
    "bad 7x\n"
    "bad{=\"x\"} 7\n"
    "bad{a=\"x\"b=\"y\"} 7\n"
    "bad\n"
    "odd NaN\n"
    "odd{a=\"1\"} +Inf\n"
    "half{a=\"1\"} NaN\n"
    "half{a=\"2\"} 2\n"
    "huge{a=\"1\"} 1e308\n"
    "huge{a=\"2\"} 1e308\n"
    "last 9";

struct Row {
  std::string_view name;
  Labels labels;
  std::optional<double> value;
};

TEST(Samples, AreAddedWhereNameAndLabelsFit) {
  const Row rows[] = {
      {"requests_total", {}, 142},
      {"requests_total", {{"route", "/load"}}, 42},
      {"requests_total", {{"code", "200"}, {"route", "/load"}}, 40},
      {"requests_total", {{"route", R"(/a \"b\" }\\)"}}, 100},
      {"requests_total", {{"route", "/loa"}}, std::nullopt},
      {"requests_total", {{"method", "GET"}}, std::nullopt},
      {"requests", {}, std::nullopt},
      {"up", {}, 3.5},
      {"up", {{"a", "b"}}, std::nullopt},
      {"bad", {}, std::nullopt},
      {"odd", {}, std::nullopt},
      {"half", {}, 2},
      {"huge", {}, std::nullopt},
      {"last", {}, 9},
      {"# HELP", {}, std::nullopt},
      {"", {}, std::nullopt},
  };
  for (const Row& row : rows) EXPECT_EQ(sum_of_samples(kText, row.name, row.labels), row.value) << row.name;
}

TEST(Samples, OfADamagedTextAreFiniteNumbers) {
  const auto look = [](std::string_view text) {
    for (const std::string_view name : {"requests_total", "up", "huge"}) {
      const auto value = sum_of_samples(text, name, {});
      if (value) {
        EXPECT_TRUE(std::isfinite(*value)) << text;
      }
    }
  };
  for (size_t size = 0; size < kText.size(); ++size) look(kText.substr(0, size));
  std::string text(kText);
  for (char& c : text) {
    const char kept = c;
    for (const char other : {'\0', '\n', '"', '\\', '{', '}', '9', '\xff'}) {
      c = other;
      look(text);
    }
    c = kept;
  }
}

}  // namespace
}  // namespace kiln::calibrate
