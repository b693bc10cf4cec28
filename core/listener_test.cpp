#include "core/listener.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

namespace kiln::core {
namespace {

base::Fd connect_v4(uint16_t port) {
  base::Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) fd.reset();
  return fd;
}

TEST(Listener, TakesTheSystemsChoiceOfAPort) {
  const auto listener = listen({.port = 0});
  ASSERT_TRUE(listener.has_value()) << listener.error().what;
  const uint16_t port = port_of(listener->get());
  EXPECT_NE(port, 0);
  const base::Fd client = connect_v4(port);
  ASSERT_TRUE(client.valid());
  const base::Fd accepted(::accept(listener->get(), nullptr, nullptr));
  EXPECT_EQ(peer_of(accepted.get()).find("127.0.0.1:"), 0U) << "an IPv4 client is shown as one";
}

TEST(Listener, SaysWhatToDoWhenThePortIsTaken) {
  const auto first = listen({.address = "127.0.0.1", .port = 0});
  ASSERT_TRUE(first.has_value());
  const uint16_t port = port_of(first->get());
  const auto second = listen({.address = "127.0.0.1", .port = port});
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(second.error().code, EADDRINUSE);
  EXPECT_NE(second.error().what.find("127.0.0.1:" + std::to_string(port)), std::string::npos) << second.error().what;
  EXPECT_NE(second.error().what.find("choose another"), std::string::npos);
}

TEST(Listener, SharesAPortOnlyAmongThoseThatAgree) {
  const auto first = listen({.address = "127.0.0.1", .port = 0, .share_port = true});
  ASSERT_TRUE(first.has_value());
  const uint16_t port = port_of(first->get());
  EXPECT_TRUE(listen({.address = "127.0.0.1", .port = port, .share_port = true}).has_value());
  EXPECT_FALSE(listen({.address = "127.0.0.1", .port = port}).has_value());
}

TEST(Listener, RefusesANameForAnAddress) {
  const auto listener = listen({.address = "localhost", .port = 0});
  ASSERT_FALSE(listener.has_value());
  EXPECT_NE(listener.error().what.find("'localhost'"), std::string::npos);
}

TEST(Listener, KnowsNoPeerOfWhatIsNoConnection) {
  const auto listener = listen({.address = "127.0.0.1", .port = 0});
  ASSERT_TRUE(listener.has_value());
  EXPECT_EQ(peer_of(listener->get()), "");
}

}  // namespace
}  // namespace kiln::core
