#include "base/quantity.h"

#include <gtest/gtest.h>

#include <limits>
#include <random>
#include <string>
#include <string_view>

namespace kiln::base {
namespace {

using namespace std::chrono_literals;
using std::chrono::nanoseconds;

constexpr auto kDurationMax = nanoseconds::max();
constexpr auto kIntegerMax = std::numeric_limits<uint64_t>::max();

TEST(Duration, ParsesAndFormatsTheShortestForm) {
  struct Row {
    const char* text;
    nanoseconds duration;
    const char* formatted;
  };
  const Row rows[] = {
      {"0", 0ns, "0"},
      {"0s", 0ns, "0"},
      {"0.000ms", 0ns, "0"},
      {"1ns", 1ns, "1ns"},
      {"1.0ns", 1ns, "1ns"},
      {"0.001us", 1ns, "1ns"},
      {"100us", 100us, "100us"},
      {"0.1ms", 100us, "100us"},
      {"250us", 250us, "250us"},
      {"5ms", 5ms, "5ms"},
      {"05ms", 5ms, "5ms"},
      {"500ms", 500ms, "0.5s"},
      {"1.5s", 1500ms, "1.5s"},
      {"1500us", 1500us, "1.5ms"},
      {"1.000000001s", 1000000001ns, "1000000001ns"},
      {"90s", 90s, "90s"},
      {"1.5m", 90s, "90s"},
      {"60s", 60s, "1m"},
      {"2m", 2min, "2m"},
      {"90m", 90min, "90m"},
      {"1h", 1h, "1h"},
      {"0.1h", 6min, "6m"},
      {"0.00048828125h", 1757812500ns, "1.7578125s"},
      {"9223372036854775807ns", kDurationMax, "9223372036854775807ns"},
      {"9223372036.854775807s", kDurationMax, "9223372036854775807ns"},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.text);
    const auto parsed = parse_duration(row.text);
    ASSERT_TRUE(parsed) << parsed.error().what;
    EXPECT_EQ(parsed->count(), row.duration.count());
    EXPECT_EQ(format_duration(*parsed), row.formatted);
  }
}

TEST(Duration, RefusesEverythingElse) {
  const char* const rows[] = {"",    " ",    "5",     "00",   "0.0",   "5 ms",  " 5ms", "5ms ", "+5ms",      "-5ms",
                              "ms",  ".5s",  "5.s",   "5.ms", "1e3ms", "5MS",   "5sec", "5mss", "inf",       "infs",
                              "nan", "nans", "0x5ms", "5,0s", "0x",    "1..5s", "1m3s", "５ms", "5\xC2\xB5s"};
  for (const char* text : rows) EXPECT_FALSE(parse_duration(text)) << text;
  EXPECT_FALSE(parse_duration(std::string_view("5ms\0", 4)));
}

TEST(Duration, RefusesWhatIsTooFineOrTooLong) {
  const char* const rows[] = {"0.5ns",
                              "0.0000000001s",
                              "0.33333333333333h",
                              "9223372036854775808ns",
                              "9223372036.854775808s",
                              "18446744073709551616ns",
                              "2562048h",
                              "99999999999999999999999999999h"};
  for (const char* text : rows) EXPECT_FALSE(parse_duration(text)) << text;
}

TEST(Duration, EveryFormattedValueParsesBack) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 20000; ++i) {
    const nanoseconds duration(static_cast<int64_t>(random() >> (1 + random() % 63)));
    const auto text = format_duration(duration);
    const auto parsed = parse_duration(text);
    ASSERT_TRUE(parsed) << text;
    ASSERT_EQ(parsed->count(), duration.count()) << text;
  }
}

TEST(Duration, FormatsNegativeValuesWithASign) {
  EXPECT_EQ(format_duration(-5ms), "-5ms");
  EXPECT_EQ(format_duration(nanoseconds::min()), "-9223372036854775808ns");
}

TEST(Size, ParsesAndFormatsTheLargestWholeUnit) {
  struct Row {
    const char* text;
    uint64_t bytes;
    const char* formatted;
  };
  const Row rows[] = {
      {"0", 0, "0"},
      {"0KiB", 0, "0"},
      {"1", 1, "1"},
      {"4096", 4096, "4KiB"},
      {"1536", 1536, "1536"},
      {"64KiB", 65536, "64KiB"},
      {"1MiB", 1048576, "1MiB"},
      {"1025KiB", 1049600, "1025KiB"},
      {"2GiB", 2147483648, "2GiB"},
      {"17179869183GiB", 17179869183ULL << 30, "17179869183GiB"},
      {"18446744073709551615", kIntegerMax, "18446744073709551615"},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.text);
    const auto parsed = parse_size(row.text);
    ASSERT_TRUE(parsed) << parsed.error().what;
    EXPECT_EQ(*parsed, row.bytes);
    EXPECT_EQ(format_size(*parsed), row.formatted);
  }
}

TEST(Size, RefusesEverythingElse) {
  const char* const rows[] = {"",     " ",    "-1", "+1",  "1.5KiB", "1 KiB", "1K", "1KB",
                              "1kib", "1TiB", "1B", "KiB", "1e3",    "0x10",  "1 ", "1KiB "};
  for (const char* text : rows) EXPECT_FALSE(parse_size(text)) << text;
  EXPECT_FALSE(parse_size("18446744073709551616"));
  EXPECT_FALSE(parse_size("17179869184GiB"));
}

TEST(Millicores, AreExactForBothForms) {
  struct Row {
    const char* text;
    double millicores;
  };
  const Row rows[] = {
      {"0", 0},    {"0m", 0},     {"70m", 70},     {"0.07", 70},    {"0.5", 500},
      {"2", 2000}, {"0.5m", 0.5}, {"1.001", 1001}, {"0.0005", 0.5}, {"1500m", 1500},
  };
  for (const Row& row : rows) {
    const auto parsed = parse_millicores(row.text);
    ASSERT_TRUE(parsed) << row.text;
    EXPECT_EQ(*parsed, row.millicores) << row.text;
  }
}

TEST(Millicores, RefuseEverythingElse) {
  const char* const rows[] = {"",    "m",    "-70m", "+70m", "70 m", " 70m", "70M",
                              "70u", "70mm", "nan",  "inf",  "1e3",  ".5",   "5."};
  for (const char* text : rows) EXPECT_FALSE(parse_millicores(text)) << text;
  EXPECT_FALSE(parse_millicores(std::string(400, '9')));
}

TEST(Decimal, ParsesPlainAndScientificNumbers) {
  struct Row {
    const char* text;
    double value;
  };
  const Row rows[] = {{"0", 0},     {"12", 12},     {"0.25", 0.25}, {"1e3", 1000},
                      {"1E3", 1e3}, {"1e+3", 1000}, {"1e-3", 1e-3}, {"1.7976931348623157e308", 1.7976931348623157e308}};
  for (const Row& row : rows) {
    const auto parsed = parse_decimal(row.text);
    ASSERT_TRUE(parsed) << row.text;
    EXPECT_EQ(*parsed, row.value) << row.text;
  }
}

TEST(Decimal, RefusesEverythingElse) {
  const char* const rows[] = {"",     " 1", "1 ",  "-1", "-0", "+1",  "nan",  "NaN",   "inf", "infinity",
                              "0x10", "1e", "1e+", ".5", "5.", "1,5", "1e5x", "1_000", "e5",  "1e3.5"};
  for (const char* text : rows) EXPECT_FALSE(parse_decimal(text)) << text;
  EXPECT_FALSE(parse_decimal("1e309")) << "overflows";
  EXPECT_FALSE(parse_decimal("1e-400")) << "vanishes";
}

TEST(Integer, IsDigitsOnlyAndFits) {
  EXPECT_EQ(parse_integer("0").value(), 0u);
  EXPECT_EQ(parse_integer("007").value(), 7u);
  EXPECT_EQ(parse_integer("18446744073709551614").value(), kIntegerMax - 1);
  EXPECT_EQ(parse_integer("18446744073709551615").value(), kIntegerMax);
  const char* const rows[] = {"", " 1", "1 ", "-1", "+1", "1.0", "1e3", "0x1", "18446744073709551616"};
  for (const char* text : rows) EXPECT_FALSE(parse_integer(text)) << text;
}

TEST(Quantity, ErrorsNameTheValueAndWhatIsAccepted) {
  const auto refused = parse_duration("5 minutes");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, 0);
  EXPECT_TRUE(refused.error().what.contains("'5 minutes'")) << refused.error().what;
  EXPECT_TRUE(refused.error().what.contains("250us")) << refused.error().what;
}

TEST(Quantity, ErrorsStayOneShortLineWhateverTheInput) {
  const auto refused = parse_integer("1\n\x1b[2J" + std::string(100000, 'x'));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().what.find_first_of("\n\x1b"), std::string::npos);
  EXPECT_LT(refused.error().what.size(), 120u);
}

}  // namespace
}  // namespace kiln::base
