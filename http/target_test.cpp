#include "http/target.h"

#include <gtest/gtest.h>

#include <vector>

namespace kiln::http {
namespace {

using std::string_literals::operator""s;

TEST(Target, DecodesPercentEscapes) {
  EXPECT_EQ(percent_decode("", Plus::Space), "");
  EXPECT_EQ(percent_decode("a%20b%2Fc%2f", Plus::Literal), "a b/c/");
  EXPECT_EQ(percent_decode("%00%ff", Plus::Literal), "\0\xff"s);
  EXPECT_EQ(percent_decode("%2525", Plus::Literal), "%25");
  EXPECT_EQ(percent_decode("a+b%2B", Plus::Literal), "a+b+");
  EXPECT_EQ(percent_decode("a+b%2B", Plus::Space), "a b+");
}

TEST(Target, RefusesBadEscapes) {
  for (const char* const text : {"%", "a%", "%2", "%g0", "%0g", "%%20", "%20%", "% 20"}) {
    EXPECT_EQ(percent_decode(text, Plus::Literal), std::nullopt) << text;
    EXPECT_FALSE(parse_form("a=1&b="s + text)) << text;
    EXPECT_FALSE(parse_form(std::string(text) + "=1")) << text;
  }
}

TEST(Target, DecodesOnlyWhatNeededNoEscape) {
  EXPECT_EQ(decode_unreserved("/%61pi/%69n%66o"), "/api/info");
  EXPECT_EQ(decode_unreserved("/%41%5A%7a%30%39%2D%2e%5f%7E"), "/AZz09-._~");
  EXPECT_EQ(decode_unreserved("/a%2Fb%2f%00%25%20%3f%40%5B%60%7B%80%ff"), "/a%2Fb%2f%00%25%20%3f%40%5B%60%7B%80%ff");
  EXPECT_EQ(decode_unreserved("/%2561"), "/%2561");  // once is enough
  EXPECT_EQ(decode_unreserved("/%61"), "/a");
}

TEST(Target, ParsesForms) {
  using Pairs = std::vector<std::pair<std::string, std::string>>;
  const std::vector<std::pair<const char*, Pairs>> rows = {
      {"", {}},
      {"&&", {}},
      {"a=1&b=x%20y", {{"a", "1"}, {"b", "x y"}}},
      {"a=1&&b=2&", {{"a", "1"}, {"b", "2"}}},
      {"a&b=", {{"a", ""}, {"b", ""}}},
      {"=1", {{"", "1"}}},
      {"a=b=c", {{"a", "b=c"}}},
      {"a=1&a=2", {{"a", "1"}, {"a", "2"}}},
      {"a%3d%26=+", {{"a=&", " "}}}};
  for (const auto& [text, expected] : rows) {
    SCOPED_TRACE(text);
    const auto parameters = parse_form(text);
    ASSERT_TRUE(parameters);
    Pairs pairs;
    for (const Parameter& parameter : *parameters) pairs.emplace_back(parameter.name, parameter.value);
    EXPECT_EQ(pairs, expected);
  }
}

}  // namespace
}  // namespace kiln::http
