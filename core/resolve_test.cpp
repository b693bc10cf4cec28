#include "core/resolve.h"

#include <gtest/gtest.h>
#include <netinet/in.h>

namespace kiln::core {
namespace {

TEST(Resolve, TakesNumbersOfBothFamilies) {
  const auto four = resolve("127.0.0.1", 8080);
  ASSERT_TRUE(four) << four.error().what;
  ASSERT_EQ(four->size(), 1U) << "one for streams, and none for other kinds of sockets";
  const auto* in = reinterpret_cast<const sockaddr_in*>(four->front().get());
  EXPECT_EQ(in->sin_family, AF_INET);
  EXPECT_EQ(ntohs(in->sin_port), 8080);
  EXPECT_EQ(ntohl(in->sin_addr.s_addr), INADDR_LOOPBACK);

  const auto six = resolve("::1", 1);
  ASSERT_TRUE(six) << six.error().what;
  EXPECT_EQ(six->front().get()->sa_family, AF_INET6);
  EXPECT_EQ(six->front().size, sizeof(sockaddr_in6));
}

TEST(Resolve, NamesTheHostThatIsUnknown) {
  const auto unknown = resolve("nowhere.invalid", 80);  // RFC 6761 section 6.4
  ASSERT_FALSE(unknown);
  EXPECT_NE(unknown.error().what.find("nowhere.invalid"), std::string::npos);
}

}  // namespace
}  // namespace kiln::core
