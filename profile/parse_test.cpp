#include "profile/parse.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace kiln::profile {
namespace {

using namespace std::chrono_literals;

using Parsed = std::expected<Profile, ParseError>;

Parsed parse(std::string_view text, ParseOptions options = {}) { return parse_profile(text, options); }

struct Good {
  std::string_view text;
  Time duration;
  double total;
  double rate_max;
};

void expect_good(const Good& row, const Parsed& parsed) {
  SCOPED_TRACE(row.text);
  ASSERT_TRUE(parsed.has_value()) << parsed.error().what;
  EXPECT_EQ(parsed->duration(), row.duration);
  EXPECT_NEAR(parsed->total(), row.total, 1e-9 * row.total);
  EXPECT_NEAR(parsed->rate_max(), row.rate_max, 1e-9 * row.rate_max);
}

TEST(Parse, TakesEveryForm) {
  const Good rows[] = {
      {"20@1m", 1min, 1200, 20},
      {"0.5@1h", 1h, 1800, 0.5},
      {"1e3@1s", 1s, 1000, 1000},
      {"0:100@2m", 2min, 6000, 100},
      {"100:0@2m", 2min, 6000, 100},
      {"20@1m,20:200@5m,200@10m", 16min, 154200, 200},
      {"sine(50,30,2m)@10m", 10min, 30000, 80},
      {"sine(50,50,2m)@30s", 30s, 50 * 30 + 50 * 120 / (2 * 3.14159265358979), 100},
      {"burst(10,200,1m,5s)@10m", 10min, 10 * (1000 + 550), 200},
      {"burst(0,200,1m,1m)@10m", 10min, 120000, 200},
      {"0@1m,1@1s", 61s, 1, 1},
      {"1@1m,burst(1,2,1s,500ms)@1s,sine(1,1,1ms)@1m", 121s, 121.5, 2},
      {" 20 @ 1m ,\n 20 : 200 @ 5m ,\tsine( 50 , 30 , 2m ) @ 2m\r\n", 8min, 1200 + 33000 + 6000, 200},
  };
  for (const Good& row : rows) expect_good(row, parse(row.text));
}

TEST(Parse, DefaultIsWhatItSays) {
  const Parsed parsed = parse(kDefaultProfile);
  ASSERT_TRUE(parsed.has_value());
  EXPECT_EQ(parsed->duration(), 5min);
  EXPECT_DOUBLE_EQ(parsed->total(), 120 * 55 + 180 * 100);
  EXPECT_EQ(parsed->rate(0s), 10);
}

TEST(Parse, MillicoresBecomeRequestsThroughTheirCost) {
  const Good rows[] = {
      {"100m@1m", 1min, 1200, 20},
      {"100m:500m@1m", 1min, 3600, 100},
      {"20:100m@1m", 1min, 1200, 20},
      {"0.5m@1m", 1min, 6, 0.1},
      {"sine(100m,50m,10s)@1m", 1min, 1200, 30},
      {"burst(0m,500m,10s,1s)@1m", 1min, 600, 100},
  };
  for (const Good& row : rows) expect_good(row, parse(row.text, {.cost = 5ms}));
  EXPECT_DOUBLE_EQ(parse("1000m@1s", {.cost = 1us})->rate_max(), kRateMax);
}

TEST(Parse, LimitsHoldExactly) {
  EXPECT_TRUE(parse("1000000@1s").has_value());
  EXPECT_TRUE(parse("sine(500000,500000,1s)@1s").has_value());
  EXPECT_TRUE(parse("sine(1,1,1ms)@1s").has_value());
  EXPECT_TRUE(parse("1@24h").has_value());
  EXPECT_TRUE(parse("1@23h,1@1h").has_value());
  EXPECT_TRUE(parse("burst(1,1,1ms,1ns)@1s").has_value());
  EXPECT_TRUE(parse("1000000@1us").has_value());
}

struct Bad {
  std::string_view text;
  size_t position;
  std::string_view says;  // a part of it
};

void expect_bad(const Bad& row, const Parsed& parsed) {
  SCOPED_TRACE(row.text);
  ASSERT_FALSE(parsed.has_value());
  EXPECT_EQ(parsed.error().position, row.position) << parsed.error().what;
  EXPECT_TRUE(parsed.error().what.contains(row.says)) << parsed.error().what;
}

TEST(Parse, RefusesEverythingElseAndPointsAtIt) {
  const Bad rows[] = {
      // nothing
      {"", 0, "empty"},
      {"  \n", 3, "empty"},
      {",", 0, "a rate is needed"},
      {"20@1m,", 6, "a rate is needed"},
      {"20@1m,,20@1m", 6, "a rate is needed"},
      {",20@1m", 0, "a rate is needed"},
      // rates
      {"@1m", 0, "a rate is needed"},
      {"x@1m", 0, "a rate is needed"},
      {"-5@1m", 0, "a rate is needed"},
      {"+5@1m", 0, "a rate is needed"},
      {"nan@1m", 0, "a rate is needed"},
      {"inf@1m", 0, "a rate is needed"},
      {"1e999@1m", 0, "a rate is needed"},
      {"0x10@1m", 0, "a rate is needed"},
      {"20:@1m", 3, "a rate is needed"},
      {"20:-1@1m", 3, "a rate is needed"},
      {"20/s@1m", 0, "a rate is needed"},
      {"20@1m,20:2oo@5m", 9, "a rate is needed"},
      {"1000001@1m", 0, "more than 1000000"},
      {"1:1000000.1@1m", 2, "more than 1000000"},
      {"1e308@1m", 0, "more than 1000000"},
      // millicores without their cost
      {"100m@1m", 0, "the CPU time that a request costs"},
      {"20:100m@1m", 3, "the CPU time that a request costs"},
      // times
      {"20", 2, "@TIME is needed"},
      {"20,30@1m", 2, "@TIME is needed"},
      {"20:30", 5, "@TIME is needed"},
      {"2 0@1m", 2, "@TIME is needed"},
      {"10:20:30@1m", 5, "@TIME is needed"},
      {"20@", 3, "a time is needed"},
      {"20@1", 3, "a time is needed"},
      {"20@-1m", 3, "a time is needed"},
      {"20@inf", 3, "a time is needed"},
      {"20@1min", 3, "a time is needed"},
      {"20@0.1ns", 3, "a time is needed"},
      {"20@0", 3, "longer than 0"},
      {"20@0s", 3, "longer than 0"},
      {"1@24.000000000001h", 2, "a time is needed"},
      {"1@86400000000001ns", 2, "longer than 24h"},
      {"1@23h,1@1h,1@1ns", 13, "longer than 24h"},
      {"1@2562047h,1@2562047h", 2, "longer than 24h"},
      // what stands behind
      {"20@1m 30@1m", 6, "a comma is missing"},
      {"20@1m;30@1m", 3, "a time is needed"},
      {"20@1m)", 5, "a comma is missing"},
      {"20@1m@2m", 5, "a comma is missing"},
      {std::string_view("20@1m\0", 6), 3, "a time is needed"},
      // functions
      {"sin(50,30,2m)@10m", 0, "the functions are"},
      {"(50)@10m", 0, "the functions are"},
      {"sine", 0, "a rate is needed"},
      {"sine@1m", 0, "a rate is needed"},
      {"sine(", 5, "a rate is needed"},
      {"sine(50", 7, "of the form sine"},
      {"sine(50,30", 10, "of the form sine"},
      {"sine(50,30,2m", 13, "of the form sine"},
      {"sine(50,30,2m@1m", 13, "of the form sine"},
      {"sine(50,30,2m,1)@1m", 13, "of the form sine"},
      {"sine(50,30)@1m", 10, "of the form sine"},
      {"sine(50,30,2m)", 14, "@TIME is needed"},
      {"sine(30,50,2m)@10m", 8, "above the mean"},
      {"sine(30,30.001,2m)@10m", 8, "above the mean"},
      {"sine(500001,500000,1s)@10m", 12, "more than 1000000"},
      {"sine(50,30,0)@10m", 11, "longer than 0"},
      {"sine(50,30,999us)@10m", 11, "shorter than 1ms"},
      {"sine(50,-30,2m)@10m", 8, "a rate is needed"},
      {"burst(1,2,3)@1m", 10, "a time is needed"},
      {"burst(1,2,3s)@1m", 12, "of the form burst"},
      {"burst(1,2,3s,1s,1s)@1m", 15, "of the form burst"},
      {"burst(20,10,1m,5s)@10m", 9, "below the base"},
      {"burst(10,20,1m,61s)@10m", 15, "longer than the time"},
      {"burst(10,20,1m,0s)@10m", 15, "longer than 0"},
      {"burst(10,20,0s,0s)@10m", 12, "longer than 0"},
      {"burst(10,1000001,1m,5s)@10m", 9, "more than 1000000"},
      // a load that is none
      {"0@1m", 0, "less than one request"},
      {"0.9@1s", 0, "less than one request"},
      {"sine(0,0,1m)@10m", 0, "less than one request"},
      {"burst(0,0,1m,1s)@10m", 0, "less than one request"},
  };
  for (const Bad& row : rows) expect_bad(row, parse(row.text));
}

TEST(Parse, RefusesACostThatIsNone) {
  expect_bad({"5@1m,100m@1m", 5, "costs no CPU time"}, parse("5@1m,100m@1m", {.cost = 0ns}));
  expect_bad({"1001m@1m", 0, "more than 1000000"}, parse("1001m@1m", {.cost = 1us}));
  expect_bad({"m@1m", 0, "a rate is needed"}, parse("m@1m", {.cost = 1us}));
}

TEST(Parse, CountsPieces) {
  std::string text = "1@1ms";
  for (size_t piece = 1; piece < kPiecesMax; ++piece) text += ",1@1ms";
  EXPECT_TRUE(parse(text).has_value());
  text += ",1@1ms";
  expect_bad({"one piece too many", text.size() - 3, "more than 100000 pieces"}, parse(text));
}

TEST(ParseCsv, TakesPointsHeaderCommentsAndJumps) {
  const Good rows[] = {
      {"0,20\n60,20\n", 1min, 1200, 20},
      {"0,20\n60,20", 1min, 1200, 20},
      {"seconds,rate\n0,0\n60,100\n120,0\n", 2min, 6000, 100},
      {"\xEF\xBB\xBFseconds,rate\r\n0,0\r\n60,100\r\n", 1min, 3000, 100},
      {"# recorded\n\nTime,RPS\n 0 , 10\n# a jump\n60,10\n60,100\n \n120.5,100\n\n", 120500ms, 600 + 6050, 100},
      {"0,5\n0,10\n1,10\n", 1s, 10, 10},
      {"0,1e2\n0.000000001,0\n1,2", 1s, 1 + 0.5e-7, 100},
  };
  for (const Good& row : rows) expect_good(row, parse_profile_csv(row.text, {}));
  const std::string_view millicores = "0,100m\n60,100m\n";
  expect_good({millicores, 1min, 1200, 20}, parse_profile_csv(millicores, {.cost = 5ms}));
}

TEST(ParseCsv, RefusesEverythingElseAndNamesTheLine) {
  const Bad rows[] = {
      {"", 0, "the file is empty"},
      {"\n\n", 2, "the file is empty"},
      {"# only\nseconds,rate\n", 20, "the file is empty"},
      {"0,20\n", 5, "a later line is missing"},
      {"0,20\n0,30\n", 10, "a later line is missing"},
      {"0,0\n60,0\n", 0, "less than one request"},
      {"1,20\n60,20\n", 0, "line 1: the first line must stand at second 0"},
      {"0,20\n60,20\n59,20\n", 11, "line 3: this is earlier"},
      {"0,20\n60\n", 7, "line 2: this is not of the form"},
      {"0,20\n60;20\n", 5, "line 2: seconds are needed"},
      {"0,20\n60,20,1\n", 10, "line 2: this is not of the form"},
      {"0,20\n60,20 1\n", 11, "line 2: this is not of the form"},
      {"0,20\n60,\n61,1\n", 8, "line 2: a rate is needed"},
      {"0,20\n60,-1\n", 8, "line 2: a rate is needed"},
      {"0,20\n60,nan\n", 8, "line 2: a rate is needed"},
      {"0,20\n60,1000001\n", 8, "line 2: this asks for more than 1000000"},
      {"0,20\n60,100m\n", 8, "line 2: a rate in millicores"},
      {"0,20\n,1\n", 5, "line 2: seconds are needed"},
      {"0,20\n-60,1\n", 5, "line 2: seconds are needed"},
      {"0,20\n1m,1\n", 5, "line 2: seconds are needed"},
      {"0,20\n1e3,1\n", 5, "line 2: seconds are needed"},
      {"0,20\nseconds,rate\n", 5, "line 2: "},
      {"a,b\nc,d\n", 4, "line 2: "},
      {"0,20\n86400.000000001,1\n", 5, "line 2: the profile would be longer than 24h"},
  };
  for (const Bad& row : rows) expect_bad(row, parse_profile_csv(row.text, {}));
}

TEST(ParseCsv, FileIsToldByItsName) {
  EXPECT_TRUE(names_csv_file("load.csv"));
  EXPECT_TRUE(names_csv_file("/etc/kiln/load.csv"));
  EXPECT_FALSE(names_csv_file("20@1m"));
  EXPECT_FALSE(names_csv_file("load.csv@1m"));
}

TEST(PointAt, PutsACaretUnderThePlace) {
  const struct {
    std::string_view text;
    size_t position;
    std::string_view shown;
  } rows[] = {
      {"20@1m,x@1m", 6, "20@1m,x@1m\n      ^"},
      {"20@1m,", 6, "20@1m,\n      ^"},
      {"", 0, "\n^"},
      {"0,20\n60,x\n90,1\n", 8, "60,x\n   ^"},
      {"0,20\n60,20\n", 11, "\n^"},
      {"0,20\n60,20", 4, "0,20\n    ^"},
      {"\xC3\xA4@1m,\x1b[2J", 6, "??@1m,?[2J\n      ^"},
      {"20@1m", 99, "20@1m\n     ^"},
  };
  for (const auto& row : rows) EXPECT_EQ(point_at(row.text, {row.position, ""}), row.shown) << row.text;
}

TEST(PointAt, ShowsThePartOfALongLineThatMatters) {
  std::string text(1000, '1');
  text[500] = 'x';
  const std::string shown = point_at(text, {500, ""});
  const size_t line_end = shown.find('\n');
  EXPECT_LT(line_end, 100u);
  EXPECT_TRUE(shown.ends_with('^'));
  EXPECT_EQ(shown.find('x'), shown.size() - line_end - 2);
}

}  // namespace
}  // namespace kiln::profile
