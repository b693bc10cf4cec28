#include "core/engine.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/fd.h"
#include "core/listener.h"

namespace kiln::core {
namespace {

using namespace std::chrono_literals;

struct Seen {
  Token token;
  int result;
  bool more;
  std::string bytes;
};

// Keeps what completes, and waits for it with a limit.
class Sink final : public CompletionSink {
 public:
  void woke() override {}
  void complete(const Completion& completion) override {
    seen.push_back({completion.token, completion.result, completion.more,
                    std::string(completion.data.begin(), completion.data.end())});
  }

  std::deque<Seen> seen;
};

// Both engines pass every test here; one that cannot be opened fails them.
class EngineTest : public testing::TestWithParam<EngineKind> {
 protected:
  void SetUp() override { open({}); }

  void open(const EngineOptions& options) {
    auto opened = GetParam() == EngineKind::IoUring ? open_io_uring(options) : open_epoll();
    ASSERT_TRUE(opened.has_value()) << opened.error().what;
    engine = std::move(*opened);
  }

  // The next completion; fails after five seconds without one.
  Seen next() {
    const TimePoint end = engine->now() + 5s;
    while (sink.seen.empty() && engine->now() < end) engine->wait(100ms, sink);
    if (sink.seen.empty()) {
      ADD_FAILURE() << "nothing completed within five seconds";
      return {};
    }
    Seen first = std::move(sink.seen.front());
    sink.seen.pop_front();
    return first;
  }

  // What a test leaves armed ends with the engine; its descriptors are closed after that.
  void TearDown() override { engine.reset(); }

  struct Pair {
    base::Fd ours, peer;
  };
  static Pair connected() {
    int fds[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    return {base::Fd(fds[0]), base::Fd(fds[1])};
  }

  Sink sink;
  std::unique_ptr<Engine> engine;
};

constexpr Token kReceive{Operation::Receive, 1, 1};
constexpr Token kSend{Operation::Send, 1, 1};

TEST_P(EngineTest, PassesItsSelfTestAgainAndAgain) {
  for (int i = 0; i < 3; ++i) {
    const auto passed = self_test(*engine);
    EXPECT_TRUE(passed.has_value()) << passed.error().what;
  }
}

TEST_P(EngineTest, ReceivesOnce) {
  Pair pair = connected();
  engine->receive(pair.ours.get(), kReceive, Repeat::Once);
  ASSERT_EQ(::write(pair.peer.get(), "one", 3), 3);
  const Seen got = next();
  EXPECT_EQ(got.token, kReceive);
  EXPECT_EQ(got.bytes, "one");
  EXPECT_FALSE(got.more);
  ASSERT_EQ(::write(pair.peer.get(), "two", 3), 3);
  engine->wait(20ms, sink);
  EXPECT_TRUE(sink.seen.empty()) << "nothing was armed";
  engine->receive(pair.ours.get(), kReceive, Repeat::Once);
  EXPECT_EQ(next().bytes, "two");
}

TEST_P(EngineTest, StreamsUntilTheEnd) {
  Pair pair = connected();
  engine->receive(pair.ours.get(), kReceive, Repeat::Stream);
  for (const char* text : {"a", "bb", "ccc"}) {
    ASSERT_EQ(::write(pair.peer.get(), text, std::strlen(text)), static_cast<ssize_t>(std::strlen(text)));
    const Seen got = next();
    EXPECT_EQ(got.bytes, text);
    EXPECT_TRUE(got.more);
  }
  pair.peer.reset();
  const Seen end = next();
  EXPECT_EQ(end.result, 0);
  EXPECT_FALSE(end.more);
  engine->close(pair.ours.release());
}

TEST_P(EngineTest, CancelsAnArmedReceive) {
  Pair pair = connected();
  engine->receive(pair.ours.get(), kReceive, Repeat::Stream);
  engine->wait(Duration::zero(), sink);
  engine->cancel(pair.ours.get(), kReceive);
  const Seen ended = next();
  EXPECT_EQ(ended.token, kReceive);
  EXPECT_EQ(ended.result, -ECANCELED);
  EXPECT_FALSE(ended.more);
  engine->cancel(pair.ours.get(), kReceive);
  engine->wait(20ms, sink);
  EXPECT_TRUE(sink.seen.empty()) << "there was nothing left to cancel";
  engine->close(pair.ours.release());
}

TEST_P(EngineTest, EndsAReceiveByShutdown) {
  Pair pair = connected();
  engine->receive(pair.ours.get(), kReceive, Repeat::Stream);
  engine->wait(Duration::zero(), sink);
  engine->shutdown(pair.ours.get(), SHUT_RDWR);
  const Seen ended = next();
  EXPECT_EQ(ended.result, 0);
  EXPECT_FALSE(ended.more);
  engine->close(pair.ours.release());
}

TEST_P(EngineTest, SendsAMebibyteToASlowReaderInOneCompletion) {
  Pair pair = connected();
  std::string data(1024 * 1024, '\0');
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(i * 31 >> 3);
  engine->send(pair.ours.get(), kSend, data);
  std::string got;
  std::string piece(10'000, '\0');
  while (got.size() < data.size()) {
    engine->wait(Duration::zero(), sink);
    const ssize_t n = ::recv(pair.peer.get(), piece.data(), piece.size(), MSG_DONTWAIT);
    if (n < 0) {
      ASSERT_EQ(errno, EAGAIN);
      continue;
    }
    ASSERT_GT(n, 0);
    got.append(piece, 0, static_cast<size_t>(n));
  }
  EXPECT_TRUE(got == data);
  const Seen sent = next();
  EXPECT_EQ(sent.token, kSend);
  EXPECT_EQ(sent.result, static_cast<int>(data.size()));
  EXPECT_TRUE(sink.seen.empty());
}

TEST_P(EngineTest, EndsASendWhosePeerIsGone) {
  Pair pair = connected();
  const std::string data(4 * 1024 * 1024, 'x');
  engine->send(pair.ours.get(), kSend, data);
  engine->wait(Duration::zero(), sink);
  EXPECT_TRUE(sink.seen.empty());
  pair.peer.reset();
  const Seen sent = next();
  EXPECT_LT(sent.result, static_cast<int>(data.size())) << "short or an error, never a success";
  engine->close(pair.ours.release());
}

TEST_P(EngineTest, ReceivesAndSendsAtTheSameTime) {
  Pair pair = connected();
  engine->receive(pair.ours.get(), kReceive, Repeat::Stream);
  engine->send(pair.ours.get(), kSend, std::string_view("ping"));
  EXPECT_EQ(next().token, kSend);
  char got[4];
  ASSERT_EQ(::read(pair.peer.get(), got, 4), 4);
  ASSERT_EQ(::write(pair.peer.get(), "pong", 4), 4);
  EXPECT_EQ(next().bytes, "pong");
}

TEST_P(EngineTest, AcceptsUntilItIsCancelled) {
  auto listener = listen({.address = "127.0.0.1", .port = 0});
  ASSERT_TRUE(listener.has_value());
  constexpr Token kAccept{Operation::Accept, 0, 0};
  engine->accept(listener->get(), kAccept, Repeat::Stream);
  std::vector<base::Fd> clients, accepted;
  for (int i = 0; i < 5; ++i) {
    clients.emplace_back(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_storage address{};
    socklen_t size = sizeof address;
    ::getsockname(listener->get(), reinterpret_cast<sockaddr*>(&address), &size);
    ASSERT_EQ(::connect(clients.back().get(), reinterpret_cast<sockaddr*>(&address), size), 0);
    const Seen got = next();
    ASSERT_GE(got.result, 0);
    EXPECT_TRUE(got.more);
    accepted.emplace_back(got.result);
    EXPECT_NE(::fcntl(got.result, F_GETFD) & FD_CLOEXEC, 0);
  }
  engine->cancel(listener->get(), kAccept);
  EXPECT_EQ(next().result, -ECANCELED);
  engine->close(listener->release());
}

TEST_P(EngineTest, AcceptsOnceAndNoMore) {
  auto listener = listen({.address = "127.0.0.1", .port = 0});
  ASSERT_TRUE(listener.has_value());
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  ::getsockname(listener->get(), reinterpret_cast<sockaddr*>(&address), &size);
  std::vector<base::Fd> clients;
  for (int i = 0; i < 3; ++i) {
    clients.emplace_back(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(::connect(clients.back().get(), reinterpret_cast<sockaddr*>(&address), size), 0);
  }
  engine->accept(listener->get(), {Operation::Accept, 0, 0}, Repeat::Once);
  const Seen got = next();
  EXPECT_FALSE(got.more);
  const base::Fd first(got.result);
  engine->wait(Duration::zero(), sink);
  EXPECT_TRUE(sink.seen.empty());
  // The others wait, and can be had at once.
  for (int i = 0; i < 2; ++i) {
    const base::Fd other(engine->accept_now(listener->get()));
    EXPECT_TRUE(other.valid());
    EXPECT_NE(::fcntl(other.get(), F_GETFD) & FD_CLOEXEC, 0);
  }
  EXPECT_EQ(engine->accept_now(listener->get()), -EAGAIN);
  engine->close(listener->release());
}

TEST_P(EngineTest, SaysThatTheListenerWasShutDown) {
  auto listener = listen({.address = "127.0.0.1", .port = 0});
  ASSERT_TRUE(listener.has_value());
  engine->accept(listener->get(), {Operation::Accept, 0, 0}, Repeat::Stream);
  engine->wait(Duration::zero(), sink);
  engine->shutdown(listener->get(), SHUT_RDWR);
  const Seen ended = next();
  EXPECT_EQ(ended.result, -EINVAL);
  EXPECT_FALSE(ended.more);
  engine->close(listener->release());
}

TEST_P(EngineTest, WakesForAnEventfdEachTime) {
  const base::Fd eventfd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  engine->watch(eventfd.get(), {Operation::Wake, 0, 0});
  for (int i = 0; i < 3; ++i) {
    ::eventfd_write(eventfd.get(), 1);
    const Seen woken = next();
    EXPECT_EQ(woken.token.operation, Operation::Wake);
    eventfd_t value = 0;
    ::eventfd_read(eventfd.get(), &value);
    sink.seen.clear();
    if (!woken.more) engine->watch(eventfd.get(), {Operation::Wake, 0, 0});
  }
}

TEST_P(EngineTest, SleepsWhenNothingHappens) {
  const TimePoint began = engine->now();
  int waits = 0;
  // A wait may end early, interrupted; a loop that spins would need thousands.
  for (; engine->now() - began < 50ms; ++waits) engine->wait(50ms, sink);
  EXPECT_LE(waits, 5);
  EXPECT_TRUE(sink.seen.empty());
}

// Eight places in each queue and two buffers for a hundred senders: what is full or empty is waited for, nothing is
// lost.
TEST_P(EngineTest, ServesAHundredSendersWithTwoBuffersAndEightEntries) {
  open({.submission_entries = 8, .completion_entries = 8, .buffers = 2});
  constexpr uint32_t kSenders = 100;
  std::vector<Pair> pairs;
  std::map<uint32_t, std::string> got;
  for (uint32_t i = 0; i < kSenders; ++i) {
    pairs.push_back(connected());
    engine->receive(pairs[i].ours.get(), {Operation::Receive, 1, i}, Repeat::Stream);
  }
  engine->wait(Duration::zero(), sink);
  constexpr int kRounds = 20;
  for (int round = 0; round < kRounds; ++round) {
    for (uint32_t i = 0; i < kSenders; ++i) {
      const std::string text = std::to_string(i) + ":" + std::to_string(round) + ";";
      ASSERT_EQ(::write(pairs[i].peer.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
    }
  }
  const auto whole = [](const std::string& text) { return std::ranges::count(text, ';') == kRounds; };
  uint32_t complete = 0;
  const TimePoint end = engine->now() + 10s;
  while (complete < kSenders && engine->now() < end) {
    engine->wait(100ms, sink);
    for (; !sink.seen.empty(); sink.seen.pop_front()) {
      const Seen& seen = sink.seen.front();
      ASSERT_TRUE(seen.result > 0 || seen.result == -ENOBUFS) << seen.result;
      got[seen.token.slot] += seen.bytes;
      if (seen.result > 0 && whole(got[seen.token.slot])) ++complete;
      if (!seen.more) engine->receive(pairs[seen.token.slot].ours.get(), seen.token, Repeat::Stream);
    }
  }
  EXPECT_EQ(complete, kSenders);
  for (uint32_t i = 0; i < kSenders; ++i) {
    std::string expected;
    for (int round = 0; round < kRounds; ++round) expected += std::to_string(i) + ":" + std::to_string(round) + ";";
    EXPECT_EQ(got[i], expected);
  }
  if (GetParam() == EngineKind::IoUring) {
    EXPECT_GT(engine->counters().receives_starved.get(), 0U);
  }
}

// As a client with a thousand pipelined requests would have it: each answer that is out makes room for the next.
TEST_P(EngineTest, OneWaitDoesNotGoOnForEver) {
  class Again final : public CompletionSink {
   public:
    Again(Engine& engine, int fd) : engine_(engine), fd_(fd) {}
    void woke() override {}
    void complete(const Completion& completion) override {
      if (completion.token.operation != Operation::Send) return;
      if (++sends < 10'000) engine_.send(fd_, completion.token, {"x", 1});
    }
    int sends = 0;

   private:
    Engine& engine_;
    int fd_;
  };
  open({.submission_entries = 8, .completion_entries = 16, .buffers = 2});
  const Pair pair = connected();
  Again again(*engine, pair.ours.get());
  std::thread reader([peer = pair.peer.get()] {
    char bytes[65536];
    while (::read(peer, bytes, sizeof bytes) > 0) {
    }
  });
  engine->send(pair.ours.get(), kSend, {"x", 1});
  int waits = 0;
  while (again.sends < 10'000) {
    const int before = again.sends;
    engine->wait(1s, again);
    ++waits;
    if (again.sends - before > 100) break;
  }
  EXPECT_EQ(again.sends, 10'000) << "too many in one wait";
  EXPECT_GT(waits, 100);
  engine->shutdown(pair.ours.get(), SHUT_RDWR);
  reader.join();
}

TEST_P(EngineTest, DoesNotSleepOverWhatIsDone) {
  Pair pair = connected();
  engine->send(pair.ours.get(), kSend, std::string_view("ping"));
  const TimePoint began = engine->now();
  while (sink.seen.empty() && engine->now() - began < 10s) engine->wait(10s, sink);
  EXPECT_LT(engine->now() - began, 5s);
  EXPECT_EQ(sink.seen.size(), 1U);
}

TEST_P(EngineTest, DoesNotSpinOnBytesThatNobodyAskedFor) {
  Pair pair = connected();
  engine->receive(pair.ours.get(), kReceive, Repeat::Once);
  ASSERT_EQ(::write(pair.peer.get(), "one", 3), 3);
  EXPECT_EQ(next().bytes, "one");
  ASSERT_EQ(::write(pair.peer.get(), "two", 3), 3);
  pair.peer.reset();
  const TimePoint began = engine->now();
  int waits = 0;
  for (; engine->now() - began < 50ms; ++waits) engine->wait(50ms, sink);
  EXPECT_LE(waits, 10);
  EXPECT_TRUE(sink.seen.empty());
  engine->receive(pair.ours.get(), kReceive, Repeat::Once);
  EXPECT_EQ(next().bytes, "two");
  engine->close(pair.ours.release());
}

TEST_P(EngineTest, EndsABlockedSendByCancelOrShutdown) {
  enum class By : uint8_t { Cancel, Shutdown };
  const std::string data(4 * 1024 * 1024, 'x');
  for (const By by : {By::Cancel, By::Shutdown}) {
    SCOPED_TRACE(static_cast<int>(by));
    Pair pair = connected();
    engine->receive(pair.ours.get(), kReceive, Repeat::Stream);
    engine->send(pair.ours.get(), kSend, data);
    engine->wait(Duration::zero(), sink);
    EXPECT_TRUE(sink.seen.empty());
    if (by == By::Cancel) {
      engine->cancel(pair.ours.get(), kSend);
      engine->cancel(pair.ours.get(), kReceive);
    } else {
      engine->shutdown(pair.ours.get(), SHUT_RDWR);
    }
    std::map<Operation, int> results;
    for (int i = 0; i < 2; ++i) {
      const Seen ended = next();
      EXPECT_FALSE(ended.more);
      results[ended.token.operation] = ended.result;
    }
    EXPECT_EQ(results.size(), 2U) << "each ended once";
    EXPECT_EQ(results[Operation::Receive], by == By::Cancel ? -ECANCELED : 0);
    EXPECT_LT(results[Operation::Send], static_cast<int>(data.size()));
    engine->close(pair.ours.release());
  }
}

constexpr Token kConnect{Operation::Connect, 1, 1};

// The address of a listener on the loopback interface.
SocketAddress address_of(int listener) {
  SocketAddress address;
  address.size = sizeof address.storage;
  EXPECT_EQ(::getsockname(listener, reinterpret_cast<sockaddr*>(&address.storage), &address.size), 0);
  return address;
}

TEST_P(EngineTest, ConnectsAndTalks) {
  open({.connects = true});
  auto listener = listen({.address = "127.0.0.1"});
  ASSERT_TRUE(listener.has_value());
  const SocketAddress address = address_of(listener->get());
  const base::Fd ours(engine->new_socket(AF_INET));
  ASSERT_TRUE(ours.valid());
  engine->connect(ours.get(), kConnect, address);
  const Seen made = next();
  EXPECT_EQ(made.token, kConnect);
  EXPECT_EQ(made.result, 0);
  const base::Fd peer(::accept(listener->get(), nullptr, nullptr));
  engine->send(ours.get(), kSend, std::string_view("hello"));
  EXPECT_EQ(next().result, 5);
  engine->receive(ours.get(), kReceive, Repeat::Stream);
  ASSERT_EQ(::write(peer.get(), "world", 5), 5);
  EXPECT_EQ(next().bytes, "world");
  engine->shutdown(ours.get(), SHUT_RDWR);
  EXPECT_EQ(next().result, 0);
}

TEST_P(EngineTest, SaysThatNobodyListens) {
  open({.connects = true});
  auto listener = listen({.address = "127.0.0.1"});
  ASSERT_TRUE(listener.has_value());
  const SocketAddress address = address_of(listener->get());
  listener->reset();
  const base::Fd ours(engine->new_socket(AF_INET));
  engine->connect(ours.get(), kConnect, address);
  EXPECT_EQ(next().result, -ECONNREFUSED);
}

// A full backlog drops what knocks (net.ipv4.tcp_abort_on_overflow is 0), so that a connect hangs.
TEST_P(EngineTest, CancelsAConnectThatHangs) {
  open({.connects = true});
  auto listener = listen({.address = "127.0.0.1", .backlog = 0});
  ASSERT_TRUE(listener.has_value());
  const SocketAddress address = address_of(listener->get());
  std::vector<base::Fd> ours;
  for (uint32_t i = 0; i < 8; ++i) {
    ours.emplace_back(engine->new_socket(AF_INET));
    engine->connect(ours.back().get(), {Operation::Connect, 1, i}, address);
  }
  engine->wait(Duration::zero(), sink);
  for (uint32_t i = 0; i < 8; ++i) engine->cancel(ours[i].get(), {Operation::Connect, 1, i});
  std::map<uint32_t, int> results;
  for (int i = 0; i < 8; ++i) {
    const Seen ended = next();
    EXPECT_FALSE(ended.more);
    results[ended.token.slot] = ended.result;
  }
  EXPECT_EQ(results.size(), 8U) << "each ended once";
  EXPECT_EQ(results[7], -ECANCELED);
}

INSTANTIATE_TEST_SUITE_P(Both, EngineTest, testing::Values(EngineKind::IoUring, EngineKind::Epoll),
                         [](const auto& row) { return std::string(engine_name(row.param)); });

TEST(Token, SurvivesPacking) {
  for (const Token token : {Token{Operation::Accept, 0, 0}, Token{Operation::Send, Token::kGenerationMask, UINT32_MAX},
                            Token{Operation::Cancel, 12345, 678}}) {
    EXPECT_EQ(Token::unpack(token.pack()), token);
  }
}

TEST(OpenEngine, NeverFallsBackFromAnExplicitChoice) {
  const auto epoll = open_engine(EngineRequest::Epoll, {});
  ASSERT_TRUE(epoll.has_value());
  EXPECT_EQ(epoll->engine->kind(), EngineKind::Epoll);
  const auto automatic = open_engine(EngineRequest::Auto, {});
  ASSERT_TRUE(automatic.has_value());
  EXPECT_FALSE(automatic->reason.empty());
}

TEST(OpenEngine, ExplainsWhatStandsInTheWay) {
  for (const int error : {EPERM, ENOSYS, ENOMEM, EINVAL, EIO}) EXPECT_FALSE(explain_io_uring_error(error).empty());
  EXPECT_NE(explain_io_uring_error(ENOMEM).find("RLIMIT_MEMLOCK"), std::string::npos);
}

}  // namespace
}  // namespace kiln::core
