#include "http/date.h"

#include <gtest/gtest.h>

#include <vector>

namespace kiln::http {
namespace {

TEST(Date, WritesImfFixdate) {
  const std::vector<std::pair<int64_t, const char*>> rows = {
      {0, "Thu, 01 Jan 1970 00:00:00 GMT"},           {784111777, "Sun, 06 Nov 1994 08:49:37 GMT"},
      {951782400, "Tue, 29 Feb 2000 00:00:00 GMT"},   {951868799, "Tue, 29 Feb 2000 23:59:59 GMT"},
      {1767225599, "Wed, 31 Dec 2025 23:59:59 GMT"},  {4107542400, "Mon, 01 Mar 2100 00:00:00 GMT"},
      {253402300799, "Fri, 31 Dec 9999 23:59:59 GMT"}};
  for (const auto& [seconds, text] : rows) EXPECT_EQ(imf_fixdate(seconds), text);
}

TEST(Date, WritesRfc3339) {
  const std::vector<std::pair<int64_t, const char*>> rows = {{0, "1970-01-01T00:00:00.000Z"},
                                                             {784111777000, "1994-11-06T08:49:37.000Z"},
                                                             {951868799999, "2000-02-29T23:59:59.999Z"},
                                                             {1767225599042, "2025-12-31T23:59:59.042Z"},
                                                             {253402300799999, "9999-12-31T23:59:59.999Z"}};
  for (const auto& [milliseconds, text] : rows) EXPECT_EQ(rfc3339(milliseconds), text);
}

TEST(Date, KeepsItsLengthWhateverTheClockSays) {
  for (const int64_t when : {INT64_MIN, int64_t{-1}, int64_t{253402300800}, INT64_MAX}) {
    EXPECT_EQ(imf_fixdate(when).size(), 29u);
    EXPECT_EQ(rfc3339(when).size(), 24u);
  }
}

}  // namespace
}  // namespace kiln::http
