#include "http/authority.h"

#include <gtest/gtest.h>

namespace kiln::http {
namespace {

TEST(Authority, SplitsHostAndPort) {
  const auto plain = parse_authority("kiln.example:8080");
  ASSERT_TRUE(plain);
  EXPECT_EQ(plain->host, "kiln.example");
  EXPECT_EQ(plain->port, "8080");
  const auto address = parse_authority("[::1]:80");
  ASSERT_TRUE(address);
  EXPECT_EQ(address->host, "[::1]");
  EXPECT_EQ(address->port, "80");
  EXPECT_EQ(parse_authority("a")->port, std::nullopt);
  EXPECT_EQ(parse_authority("a:")->port, "");
}

TEST(Authority, TakesEveryKindOfHost) {
  for (const char* const text :
       {"", "a", "a_b", "1.2.3.4", "999.1", "a!$&'()*+,;=b", "a%20b", "[::]", "[::1]", "[1::]", "[1:2:3:4:5:6:7:8]",
        "[1:2:3:4:5:6:7::]", "[::2:3:4:5:6:7:8]", "[1::3:4:5:6:7:8]", "[fe80::1]", "[::ffff:1.2.3.4]",
        "[1:2:3:4:5:6:1.2.3.4]", "[ABCD:ef01::]", "[v1.a:b]", "[vF.x]", "a:0", "a:65535", "a:00080"}) {
    EXPECT_TRUE(parse_authority(text)) << text;
  }
}

TEST(Authority, RefusesWhatIsNone) {
  for (const char* const text :
       {"u@a", "a b", " a", "a/", "a?b", "a#b", "a:b", "a:1:2", "a:65536", "a:99999999999999999999", "a:-1", "a%2",
        "a%zz", "[", "]", "[]", "[:]", "[:::]", "[1]", "[1:]", "[1:2:3:4:5:6:7]", "[1:2:3:4:5:6:7:8:9]",
        "[1:2:3:4:5:6:7:8::]", "[1::2::3]", "[12345::]", "[g::]", "[::1.2.3]", "[::1.2.3.256]", "[::1.2.3.04]",
        "[::1.2.3.4.5]", "[1.2.3.4]", "[1:2:3:4:5:6:7:1.2.3.4]", "[fe80::1%25eth0]", "[::1]x", "[::1]:x", "[v.a]",
        "[v1.]", "[v1]", "[vg.a]", "[v1.%20]", "a\"b", "\x80"}) {
    EXPECT_FALSE(parse_authority(text)) << text;
  }
}

}  // namespace
}  // namespace kiln::http
