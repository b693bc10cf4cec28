#include "load/fetch.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "core/listener.h"
#include "core/resolve.h"

namespace kiln::load {
namespace {

using namespace std::string_view_literals;

constexpr std::chrono::seconds kLong{20};

http::Url url_of(const base::Fd& listener, std::string_view target = "/") {
  return http::parse_url(fmt::format("http://127.0.0.1:{}{}", core::port_of(listener.get()), target)).url;
}

base::Fd open_listener() { return std::move(*core::listen({.address = "127.0.0.1"})); }

// Takes one connection, reads a head, sends the pieces one by one, and closes.
class Server {
 public:
  explicit Server(std::vector<std::string> pieces)
      : thread_([this, pieces = std::move(pieces)] {
          pollfd waiting{.fd = listener_.get(), .events = POLLIN, .revents = 0};
          ::poll(&waiting, 1, -1);
          const base::Fd connection(::accept4(listener_.get(), nullptr, nullptr, 0));
          char byte = 0;
          while (!request.ends_with("\r\n\r\n") && ::recv(connection.get(), &byte, 1, 0) == 1) request += byte;
          for (const std::string& piece : pieces) {
            ::send(connection.get(), piece.data(), piece.size(), MSG_NOSIGNAL);
          }
        }) {}

  [[nodiscard]] http::Url url(std::string_view target) const { return url_of(listener_, target); }
  void join() { thread_.join(); }

  std::string request;

 private:
  base::Fd listener_ = open_listener();
  std::thread thread_;
};

TEST(Fetch, TakesWholeAnswersHoweverTheyAreFramed) {
  struct Row {
    std::string_view name;
    std::vector<std::string> pieces;
    std::string_view body;
  };
  const Row rows[] = {
      {"by length", {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Pod-Name: a\r\n\r\nhello"}, "hello"},
      {"chunked",
       {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Pod-Name: a\r\n\r\n", "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"},
       "hello"},
      {"by the end", {"HTTP/1.1 200 OK\r\nX-Pod-Name: a\r\n\r\nhel", "lo"}, "hello"},
      {"in pieces", {"HTTP/1.1 20", "0 OK\r\nX-Pod-Name: a\r\nContent-Le", "ngth: 5\r\n\r\nhe", "llo"}, "hello"},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.name);
    Server server(row.pieces);
    const auto answer = fetch(server.url("/metrics?a=1"), kLong);
    server.join();
    ASSERT_TRUE(answer) << answer.error().what;
    EXPECT_EQ(answer->status, 200);
    EXPECT_EQ(answer->pod, "a");
    EXPECT_EQ(answer->body, row.body);
    EXPECT_TRUE(server.request.starts_with("GET /metrics?a=1 HTTP/1.1\r\n")) << server.request;
    EXPECT_TRUE(server.request.contains("Connection: close\r\n")) << server.request;
  }
}

TEST(Fetch, TellsWhereARedirectPoints) {
  Server server({"HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n"});
  const auto answer = fetch(server.url("/"), kLong);
  server.join();
  ASSERT_TRUE(answer) << answer.error().what;
  EXPECT_EQ(answer->status, 302);
  EXPECT_EQ(answer->location, "/there");
}

TEST(Fetch, SaysWhatIsWrongWithAnAnswer) {
  struct Row {
    std::string_view sent;
    std::string_view says;
  };
  const std::string much = "HTTP/1.1 200 OK\r\n\r\n" + std::string(17 << 20, 'x');
  for (const Row& row : {Row{"", "no whole answer"}, Row{"SSH-2.0-OpenSSH_9.2\r\n", "no whole answer"},
                         Row{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", "no whole answer"},
                         Row{"HTTP/1.1 2", "no whole answer"}, Row{much, "more than 16 MiB"}}) {
    SCOPED_TRACE(row.sent.substr(0, 40));
    Server server({std::string(row.sent)});
    const auto answer = fetch(server.url("/"), kLong);
    server.join();
    ASSERT_FALSE(answer);
    EXPECT_TRUE(answer.error().what.contains(row.says)) << answer.error().what;
  }
}

TEST(Fetch, WaitsNoLongerThanItWasTold) {
  const base::Fd listener = open_listener();  // the kernel accepts; nobody answers
  const auto answer = fetch(url_of(listener), std::chrono::milliseconds(20));
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, ETIMEDOUT);
}

// Whoever sends a little now and then is not waited for either.
TEST(Fetch, WaitsNoLongerForAServerThatNeverEnds) {
  std::vector<std::string> pieces = {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"};
  for (int i = 0; i < 200'000; ++i) pieces.emplace_back("1\r\nx\r\n");
  Server server(std::move(pieces));
  const auto answer = fetch(server.url("/"), std::chrono::milliseconds(20));
  server.join();
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, ETIMEDOUT);
}

TEST(Fetch, SaysWhenNobodyListens) {
  base::Fd listener = open_listener();
  const http::Url url = url_of(listener);
  listener.reset();
  const auto answer = fetch(url, kLong);
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, ECONNREFUSED);
  EXPECT_TRUE(answer.error().what.contains(fmt::format("127.0.0.1:{}", url.port))) << answer.error().what;
}

// A listener that the kernel drops connections for.
struct Silent {
  Silent() {
    EXPECT_EQ(::listen(listener.get(), 0), 0);
    for (base::Fd& one : waiting) {
      one = base::Fd(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
      static_cast<void>(::connect(one.get(), address.get(), address.size));
    }
  }

  base::Fd listener = open_listener();
  core::SocketAddress address = std::move(*core::resolve("127.0.0.1", core::port_of(listener.get())))[0];
  std::array<base::Fd, 3> waiting;
};

TEST(Connect, ASilentAddressLeavesTimeForTheNext) {
  const Silent silent;
  const base::Fd listener = open_listener();
  const auto alive = std::move(*core::resolve("127.0.0.1", core::port_of(listener.get())))[0];
  const auto connected = connect(std::array{silent.address, silent.address, alive}, std::chrono::milliseconds(600));
  ASSERT_TRUE(connected) << connected.error().what;
  sockaddr_in peer{};
  socklen_t size = sizeof peer;
  ASSERT_EQ(::getpeername(connected->socket.get(), reinterpret_cast<sockaddr*>(&peer), &size), 0);
  EXPECT_EQ(ntohs(peer.sin_port), core::port_of(listener.get()));
}

TEST(Connect, EndsWhenItIsInterrupted) {
  const Silent silent;
  int looks = 0;
  const auto connected = connect(std::array{silent.address, silent.address}, kLong, [&] { return ++looks > 2; });
  ASSERT_FALSE(connected);
  EXPECT_EQ(connected.error().code, EINTR);
  EXPECT_EQ(looks, 3);
}

}  // namespace
}  // namespace kiln::load
