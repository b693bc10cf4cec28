#include "core/loop.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <future>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/listener.h"
#include "core/test_stage.h"

namespace kiln::core {
namespace {

using namespace std::chrono_literals;

// --- Accepting -------------------------------------------------------------------------------------------------------

// One accept each, or a stream that has to be cancelled.
TEST(Loop, StopsAcceptingAtTheCapAndGoesOnBelowLowWater) {
  struct Row {
    uint32_t connections_max;
    uint32_t low_water;
  };
  for (const uint32_t stream_room_min : {1024U, 0U}) {
    for (const Row row : {Row{1, 0}, Row{2, 1}, Row{20, 19}, Row{39, 38}, Row{40, 38}, Row{100, 95}}) {
      SCOPED_TRACE(testing::Message() << row.connections_max << " places, stream room " << stream_room_min);
      Stage stage({.stream_room_min = stream_room_min}, row.connections_max);
      uint32_t open = 0;
      for (; open < row.connections_max; ++open) {
        EXPECT_FALSE(stage.listener().reading->cancelled) << open;
        stage.connect(Stage::kClient + static_cast<int>(open));
      }
      if (stream_room_min == 0) {
        EXPECT_TRUE(stage.listener().reading->cancelled);
        stage.engine->accept_ends(Stage::kListener, -ECANCELED);
        stage.turn();
      }
      EXPECT_FALSE(stage.listener().reading);
      while (open > row.low_water) {
        EXPECT_FALSE(stage.listener().reading) << open;
        --open;
        stage.engine->receive_ends(Stage::kClient + static_cast<int>(open), -ECONNRESET);
        stage.turn();
      }
      EXPECT_TRUE(stage.listener().reading);
      EXPECT_EQ(stage.loop->counters().accept_errors.get(), 0U) << "a cancel of ours is none";
    }
  }
}

TEST(Loop, AcceptsOneByOneWhereAStreamCouldGoPastTheCap) {
  Stage stage({.stream_room_min = 4}, 10);
  const auto mode = [&] { return stage.listener().reading->mode; };
  const auto is_cancelled = [&] { return stage.listener().reading->cancelled; };
  for (int i = 0; i < 7; ++i) {
    EXPECT_EQ(mode(), Repeat::Stream) << i;
    EXPECT_FALSE(is_cancelled()) << i;
    stage.connect(Stage::kClient + i);
  }
  EXPECT_TRUE(is_cancelled()) << "three places are left";
  stage.connect(Stage::kClient + 7);
  stage.engine->accept_ends(Stage::kListener, -ECANCELED);
  stage.turn();
  for (int i = 8; i < 10; ++i) {
    EXPECT_EQ(mode(), Repeat::Once) << i;
    stage.connect(Stage::kClient + i);
  }
  EXPECT_FALSE(stage.listener().reading);
  for (int i = 0; i < 10; ++i) stage.engine->receive_ends(Stage::kClient + i, -ECONNRESET);
  stage.turn();
  EXPECT_EQ(mode(), Repeat::Once) << "armed when the first had left";
  stage.connect();
  EXPECT_EQ(mode(), Repeat::Stream);
  EXPECT_EQ(stage.loop->counters().turned_away.get(), 0U);
}

TEST(Loop, AcceptsAgainWhenRoomCameBeforeTheCancelWasThrough) {
  Stage stage({.stream_room_min = 0}, 1);
  stage.connect();
  EXPECT_TRUE(stage.listener().reading->cancelled);
  stage.engine->receive_ends(Stage::kClient, -ECONNRESET);
  stage.turn();
  stage.engine->accept_ends(Stage::kListener, -ECANCELED);
  stage.turn();
  ASSERT_TRUE(stage.listener().reading);
  EXPECT_FALSE(stage.listener().reading->cancelled);
}

TEST(Loop, TurnsAwayWhomThePoolHasNoRoomFor) {
  Stage stage({.connections_max = 2}, 10);
  stage.connect(Stage::kClient);
  stage.connect(Stage::kClient + 1);
  stage.engine->accepts(Stage::kListener, Stage::kClient + 2);
  stage.turn();
  EXPECT_EQ(stage.engine->closed(), std::vector<int>{Stage::kClient + 2});
  EXPECT_EQ(stage.loop->counters().turned_away.get(), 1U);
  EXPECT_EQ(stage.loop->counters().accepted.get(), 2U);
  EXPECT_EQ(stage.protocol.calls(), Calls{}) << "its protocol never knew";
}

TEST(Loop, LeavesThePlacesOfAListenerToIt) {
  constexpr int kOther = Stage::kListener - 1;
  Stage stage({.connections_max = 4, .stream_room_min = 0}, 2);
  stage.loop->listen(base::Fd(kOther), 2);
  // All come before the cancel at the cap is through.
  for (int client = 0; client < 4; ++client) stage.engine->accepts(Stage::kListener, Stage::kClient + client);
  stage.turn();
  EXPECT_EQ(stage.loop->counters().accepted.get(), 2U);
  EXPECT_EQ(stage.engine->closed(), (std::vector<int>{Stage::kClient + 2, Stage::kClient + 3}));
  stage.engine->accepts(kOther, Stage::kClient + 5);
  stage.engine->accepts(kOther, Stage::kClient + 6);
  stage.turn();
  EXPECT_EQ(stage.loop->counters().accepted.get(), 4U);
}

TEST(Loop, ArmsAnAcceptAgainThatEnded) {
  struct Row {
    const char* name;
    int result;
    uint64_t errors;
  };
  for (const Row& row : {Row{"with a client", Stage::kClient, 0}, Row{"the client is gone", -ECONNABORTED, 1},
                         Row{"interrupted", -EINTR, 1}, Row{"firewalled", -EPERM, 1}}) {
    SCOPED_TRACE(row.name);
    Stage stage;
    stage.engine->accept_ends(Stage::kListener, row.result);
    stage.turn();
    EXPECT_TRUE(stage.listener().reading);
    EXPECT_EQ(stage.listener().accepts, 2U);
    EXPECT_EQ(stage.loop->counters().accept_errors.get(), row.errors);
  }
}

TEST(Loop, WaitsOutAShortageLongerEachTime) {
  for (const int error : {EMFILE, ENFILE, ENOBUFS, ENOMEM}) {
    SCOPED_TRACE(error);
    Stage stage;
    for (const Duration pause : {50ms, 100ms, 200ms, 400ms, 800ms, 1000ms, 1000ms}) {
      stage.engine->accept_ends(Stage::kListener, -error);
      stage.turn();
      EXPECT_FALSE(stage.listener().reading);
      stage.turn();
      EXPECT_EQ(stage.engine->last_timeout(), pause) << "it sleeps meanwhile";
      stage.engine->advance(pause - 1ns);
      stage.turn();
      EXPECT_FALSE(stage.listener().reading) << pause.count();
      stage.engine->advance(1ns);
      stage.turn();
      ASSERT_TRUE(stage.listener().reading) << pause.count();
    }
    // A success forgets.
    stage.connect();
    stage.engine->accept_ends(Stage::kListener, -error);
    stage.turn();
    stage.engine->advance(50ms);
    stage.turn();
    EXPECT_TRUE(stage.listener().reading);
    EXPECT_EQ(stage.loop->counters().accept_errors.get(), 8U);
  }
}

TEST(Loop, ARoomThatBecomesFreeDoesNotCutAPauseShort) {
  Stage stage;
  stage.connect();
  stage.engine->accept_ends(Stage::kListener, -EMFILE);
  stage.turn();
  stage.engine->receive_ends(Stage::kClient, -ECONNRESET);
  stage.turn();
  EXPECT_FALSE(stage.listener().reading);
}

TEST(Loop, TellsListenersApart) {
  Stage stage({}, 1);
  constexpr int kSecond = 2'000'000;
  const uint32_t second = stage.loop->listen(base::Fd(kSecond), 1);
  EXPECT_EQ(second, 1U);
  EXPECT_EQ(stage.connect().listener(), 0U);
  EXPECT_FALSE(stage.listener().reading);
  EXPECT_TRUE(stage.client(kSecond).reading) << "each has its own cap";
  uint32_t listener = 77;
  stage.protocol.on_opened = [&](Connection& connection) { listener = connection.listener(); };
  stage.engine->accepts(kSecond, Stage::kClient + 1);
  stage.turn();
  EXPECT_EQ(listener, second);
}

// --- Drain and halt --------------------------------------------------------------------------------------------------

TEST(Loop, DrainEndsWhenTheListenerAndTheLastConnectionAreGone) {
  Stage stage({.stream_room_min = 0});
  stage.connect();
  stage.engine->waits(Stage::kListener, Stage::kClient + 2);
  stage.loop->drain();
  stage.loop->drain();
  EXPECT_EQ(stage.loop->counters().open.get(), 2U) << "who waited in the backlog comes first";
  EXPECT_EQ(stage.listener().shutdowns, std::vector<int>{SHUT_RDWR}) << "once";
  EXPECT_FALSE(stage.closed(Stage::kListener)) << "its accept is in flight";
  // Who has been accepted already is on his way.
  stage.engine->accepts(Stage::kListener, Stage::kClient + 1);
  stage.engine->accept_ends(Stage::kListener, -EINVAL);
  EXPECT_TRUE(stage.turn());
  EXPECT_TRUE(stage.closed(Stage::kListener));
  EXPECT_EQ(stage.loop->counters().open.get(), 3U);
  EXPECT_EQ(stage.loop->counters().accept_errors.get(), 0U);
  // They are still served.
  stage.receives("one\n");
  stage.sends();
  EXPECT_EQ(stage.client().sent, "one\n");
  for (int i = 0; i < 2; ++i) {
    stage.engine->receive_ends(Stage::kClient + i, -ECONNRESET);
    EXPECT_TRUE(stage.turn());
  }
  stage.engine->receive_ends(Stage::kClient + 2, -ECONNRESET);
  EXPECT_FALSE(stage.turn());
}

TEST(Loop, DrainTakesNoMoreThanThereIsRoomFor) {
  Stage stage({}, 3);
  for (int i = 0; i < 5; ++i) stage.engine->waits(Stage::kListener, Stage::kClient + i);
  stage.loop->drain();
  EXPECT_EQ(stage.loop->counters().open.get(), 3U);
  EXPECT_EQ(stage.loop->counters().turned_away.get(), 0U);
}

TEST(Loop, DrainFindsTheListenerInEveryState) {
  struct Row {
    const char* name;
    std::function<void(Stage&)> before;
    int result;  // of the accept in flight; 0: none is
  };
  const Row rows[] = {
      {"accepting", [](Stage&) {}, -EINVAL},
      {"waiting out a shortage",
       [](Stage& stage) {
         stage.engine->accept_ends(Stage::kListener, -EMFILE);
         stage.turn();
       },
       0},
      {"at the cap, its accept being cancelled", [](Stage& stage) { stage.connect(); }, -ECANCELED},
      {"at the cap",
       [](Stage& stage) {
         stage.connect();
         stage.engine->accept_ends(Stage::kListener, -ECANCELED);
         stage.turn();
       },
       0},
      {"short of descriptors at that moment", [](Stage&) {}, -EMFILE},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.name);
    Stage stage({.stream_room_min = 0}, 1);
    row.before(stage);
    stage.loop->drain();
    EXPECT_EQ(stage.closed(Stage::kListener), row.result == 0);
    if (row.result != 0) stage.engine->accept_ends(Stage::kListener, row.result);
    stage.turn();
    EXPECT_TRUE(stage.closed(Stage::kListener));
    if (stage.client().reading) stage.engine->receive_ends(Stage::kClient, -ECONNRESET);
    stage.engine->advance(10s);  // a pause that is over arms nothing
    EXPECT_FALSE(stage.turn());
  }
}

TEST(Loop, HaltClosesConnectionsInEveryState) {
  Stage stage;
  const auto fd = [](int i) { return Stage::kClient + i; };
  for (int i = 0; i < 4; ++i) stage.connect(fd(i));
  const auto receives = [&](int i, std::string bytes) {
    stage.engine->receives(fd(i), std::move(bytes));
    stage.turn();
  };
  receives(1, "one\n");  // a send in flight
  stage.protocol.on_receive = [](Connection& connection, std::string_view input) {
    connection.output() += "bye";
    connection.finish(Linger::Yes);
    return input.size();
  };
  receives(2, "flushing");
  receives(3, "lingering");
  stage.engine->sends(fd(3));
  stage.turn();
  stage.protocol.calls();
  stage.loop->halt();
  EXPECT_EQ(stage.protocol.calls(), (Calls{"closed", "closed", "closed", "closed"}));
  stage.engine->accept_ends(Stage::kListener, -EINVAL);
  for (int i = 0; i < 4; ++i) {
    if (!stage.closed(fd(i))) stage.engine->everything_ends(fd(i), 0, -EPIPE);
  }
  EXPECT_FALSE(stage.turn());
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(stage.closed(fd(i))) << i;
}

// Its completion was on the way when the listener was shut down.
TEST(Loop, AConnectionAcceptedAfterAHaltIsClosedAtOnce) {
  Stage stage({.stream_room_min = 0});
  stage.turn();
  stage.engine->accepts(Stage::kListener, Stage::kClient);
  stage.loop->halt();
  stage.engine->accept_ends(Stage::kListener, -EINVAL);
  EXPECT_FALSE(stage.turn());
  EXPECT_TRUE(stage.closed());
  EXPECT_EQ(stage.protocol.calls(), Calls{});
}

TEST(Loop, HaltMayBeCalledByTheProtocol) {
  Stage stage;
  stage.connect(Stage::kClient + 1);
  stage.protocol.on_receive = [&](Connection&, std::string_view input) {
    stage.loop->halt();
    return input.size();
  };
  stage.connect();
  stage.receives("?");
  EXPECT_TRUE(stage.closed());
  EXPECT_EQ(stage.client(Stage::kClient + 1).shutdowns, std::vector<int>{SHUT_RDWR});
}

// --- Time ------------------------------------------------------------------------------------------------------------

TEST(Loop, SleepsForEverWhenNothingIsDue) {
  Stage stage;
  stage.turn();
  EXPECT_EQ(stage.engine->last_timeout(), std::nullopt);
  stage.connect().set_deadline(stage.loop->now() + 10s);
  stage.turn();
  EXPECT_GE(stage.engine->last_timeout(), Duration(10s));
  EXPECT_LE(stage.engine->last_timeout(), Duration(10s + 2 * TimerWheel::kTick));
}

TEST(Loop, ATurnThatOversleptDoesNotExpireDeadlinesBeforeInput) {
  Stage stage;
  stage.protocol.on_receive = [&](Connection& connection, std::string_view input) {
    connection.set_deadline(stage.loop->now() + 10s);
    return input.size();
  };
  stage.connect().set_deadline(stage.loop->now() + 5s);
  // The process was stopped for an hour, and this wait saw none of what has arrived meanwhile.
  stage.engine->pass_while_waiting(1h);
  stage.turn();
  EXPECT_EQ(stage.protocol.calls(), Calls{});
  stage.receives("in time");
  EXPECT_EQ(stage.engine->last_timeout(), Duration::zero()) << "it looks again at once";
  EXPECT_EQ(stage.protocol.calls(), (Calls{"receive in time"}));
  stage.pass(10s);
  EXPECT_EQ(stage.protocol.calls(), (Calls{"expired"}));
}

TEST(Loop, ATurnThatOversleptExpiresWhatStaysSilent) {
  Stage stage;
  stage.connect().set_deadline(stage.loop->now() + 5s);
  stage.engine->pass_while_waiting(1h);
  stage.turn();
  stage.turn();
  EXPECT_EQ(stage.protocol.calls(), (Calls{"expired"}));
}

TEST(Loop, InputOfTheSameTurnComesBeforeItsDeadline) {
  Stage stage;
  stage.protocol.on_receive = [](Connection&, std::string_view input) { return input.size(); };
  stage.connect().set_deadline(stage.loop->now() + 5s);
  stage.engine->advance(6s);
  stage.receives("one\n");
  EXPECT_EQ(stage.protocol.calls(), (Calls{"receive one\n", "expired"}));
}

TEST(Loop, CompletionsLeftBehindPostponeDeadlinesForASecondAtMost) {
  Stage stage;
  stage.connect().set_deadline(stage.loop->now());
  stage.engine->leave_completions_behind(true);
  stage.pass(800ms);
  EXPECT_EQ(stage.protocol.calls(), Calls{});
  stage.pass(0s);
  EXPECT_EQ(stage.protocol.calls(), (Calls{"expired"}));
}

TEST(Loop, RunsScheduledLettersInTheirOrder) {
  Stage stage;
  std::string ran;
  const TimePoint start = stage.loop->now();
  stage.loop->schedule(start + 30ms, [&] { ran += 'c'; });
  stage.loop->schedule(start + 10ms, [&] { ran += 'a'; });
  stage.loop->schedule(start + 10ms, [&] {
    ran += 'b';
    stage.loop->schedule(start, [&] { ran += '!'; });  // due already
  });
  stage.turn();
  EXPECT_EQ(stage.engine->last_timeout(), Duration(10ms));
  EXPECT_EQ(ran, "");
  stage.engine->advance(10ms);
  stage.turn();
  EXPECT_EQ(ran, "ab") << "what is due, and not what came of it";
  stage.turn();
  EXPECT_EQ(stage.engine->last_timeout(), Duration(0));
  EXPECT_EQ(ran, "ab!");
  stage.turn();
  EXPECT_EQ(stage.engine->last_timeout(), Duration(20ms)) << "to the nanosecond, not to the tick";
  stage.engine->advance(20ms);
  stage.turn();
  EXPECT_EQ(ran, "ab!c");
}

TEST(Loop, ALetterThatSchedulesItselfIntoThePastStarvesNobody) {
  Stage stage;
  int ran = 0;
  bool came = false;
  std::function<void()> again = [&] {
    if (++ran < 1000) stage.loop->schedule(TimePoint{}, [&] { again(); });
  };
  again();
  stage.loop->schedule(stage.loop->now(), [&] { came = true; });
  stage.turn();
  EXPECT_EQ(ran, 2) << "once a turn";
  EXPECT_TRUE(came);
  stage.turn();
  EXPECT_EQ(ran, 3);
}

TEST(Loop, AnAppointmentThatIsCalledOffIsNotKept) {
  Stage stage;
  std::string ran;
  const TimePoint start = stage.loop->now();
  stage.loop->schedule(start + 10ms, [&] { ran += 'a'; });
  const Loop::Appointment later = stage.loop->schedule(start + 20ms, [&] { ran += 'b'; });
  stage.loop->call_off(stage.loop->schedule(start + 5ms, [&] { ran += '!'; }));
  stage.turn();
  EXPECT_EQ(stage.engine->last_timeout(), Duration(10ms));
  stage.engine->advance(10ms);
  stage.turn();
  EXPECT_EQ(ran, "a");
  stage.loop->call_off(later);
  stage.turn();
  EXPECT_EQ(stage.engine->last_timeout(), std::nullopt) << "nothing is left to wake up for";
  stage.engine->advance(1s);
  stage.turn();
  EXPECT_EQ(ran, "a");
}

TEST(Loop, RunsPostedLettersOnItsThread) {
  Stage stage;
  std::thread::id ran;
  std::thread([&] { stage.loop->post([&] { ran = std::this_thread::get_id(); }); }).join();
  EXPECT_EQ(ran, std::thread::id());
  stage.turn();
  EXPECT_EQ(ran, std::this_thread::get_id());
}

TEST(Loop, ALetterMayPostAndHalt) {
  Stage stage;
  stage.connect();
  stage.loop->post([&] { stage.loop->post([&] { stage.loop->halt(); }); });
  stage.turn();
  EXPECT_EQ(stage.listener().shutdowns, std::vector<int>{});
  stage.turn();
  EXPECT_EQ(stage.listener().shutdowns, std::vector<int>{SHUT_RDWR});
  EXPECT_EQ(stage.protocol.calls(), (Calls{"closed"}));
}

// --- On the real engines ---------------------------------------------------------------------------------------------

class Echo : public Protocol {
 public:
  void turn_began(TimePoint) override {}
  void opened(Connection&) override {}
  size_t receive(Connection& connection, std::string_view input) override {
    connection.output() += input;
    return input.size();
  }
  void input_ended(Connection& connection) override { connection.finish(Linger::No); }
  void expired(Connection&) override {}
  size_t held_bytes(const Connection&) const override { return 0; }
  void shed(Connection& connection) override { connection.abort(); }
  void closed(Connection&) override {}
};

// A loop on a thread of its own, which opens the engine as io_uring wants it.
class Server {
 public:
  Server(EngineKind kind, Protocol& protocol, const EngineOptions& engine_options = {}, LoopOptions options = {}) {
    auto listener = listen({.address = "127.0.0.1"});
    EXPECT_TRUE(listener);
    port_ = port_of(listener->get());
    std::promise<Loop*> started;
    auto ready = started.get_future();
    thread_ = std::thread([&, kind, options, fd = std::move(*listener)]() mutable {
      auto engine = kind == EngineKind::IoUring ? open_io_uring(engine_options) : open_epoll();
      auto mailbox = Mailbox::open();
      if (!engine || !mailbox) {
        ADD_FAILURE() << (engine ? mailbox.error().what : engine.error().what);
        return started.set_value(nullptr);
      }
      Loop loop(std::move(*engine), std::move(*mailbox), protocol, options);
      loop.listen(std::move(fd), options.connections_max);
      started.set_value(&loop);
      loop.run();
      EXPECT_EQ(loop.counters().open.get(), 0U);
    });
    loop_ = ready.get();
  }

  ~Server() {
    if (loop_ != nullptr) loop_->post([loop = loop_] { loop->halt(); });
    thread_.join();
  }

  [[nodiscard]] bool running() const { return loop_ != nullptr; }
  [[nodiscard]] const LoopCounters& counters() const { return loop_->counters(); }

  [[nodiscard]] base::Fd connect() const {
    base::Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port_);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    return fd;
  }

 private:
  uint16_t port_ = 0;
  std::thread thread_;
  Loop* loop_ = nullptr;
};

struct Client {
  base::Fd fd;
  std::string to_send;
  std::string got;
  size_t sent = 0;
  bool ended = false;

  [[nodiscard]] short wanted() const { return static_cast<short>(POLLIN | (sent < to_send.size() ? POLLOUT : 0)); }

  // Sends up to `piece` bytes, reads what is there. Half-closes when everything is sent.
  void step(short events, size_t piece) {
    if ((events & POLLOUT) != 0 && sent < to_send.size()) {
      const ssize_t n =
          ::send(fd.get(), to_send.data() + sent, std::min(piece, to_send.size() - sent), MSG_DONTWAIT | MSG_NOSIGNAL);
      if (n > 0) sent += static_cast<size_t>(n);
      if (sent == to_send.size()) ::shutdown(fd.get(), SHUT_WR);
    }
    if ((events & (POLLIN | POLLHUP | POLLERR)) != 0) {
      char buffer[16 * 1024];
      const ssize_t n = ::recv(fd.get(), buffer, sizeof buffer, MSG_DONTWAIT);
      if (n > 0) got.append(buffer, static_cast<size_t>(n));
      if (n == 0 || (n < 0 && errno != EAGAIN)) ended = true;
    }
  }
};

// Drives all until they have ended; false when nothing moved for ten seconds.
bool converse(std::vector<Client>& clients, std::mt19937& random) {
  std::vector<pollfd> polled;
  std::vector<Client*> who;
  while (true) {
    polled.clear();
    who.clear();
    for (Client& client : clients) {
      if (client.ended) continue;
      polled.push_back({.fd = client.fd.get(), .events = client.wanted(), .revents = 0});
      who.push_back(&client);
    }
    if (polled.empty()) return true;
    if (::poll(polled.data(), polled.size(), 10'000) <= 0) return false;
    for (size_t i = 0; i < polled.size(); ++i) {
      if (polled[i].revents != 0) who[i]->step(polled[i].revents, 1 + random() % 4000);
    }
  }
}

std::string random_bytes(std::mt19937& random, size_t size) {
  std::string bytes(size, '\0');
  for (char& c : bytes) c = static_cast<char>(random());
  return bytes;
}

class LoopOnEngine : public testing::TestWithParam<EngineKind> {};

TEST_P(LoopOnEngine, EchoesTenMebibytesToAThousandConnections) {
  constexpr size_t kClients = 1000;
  constexpr size_t kBytesEach = 10 * 1024 * 1024 / kClients;
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  const rlimit raised{.rlim_cur = limit.rlim_max, .rlim_max = limit.rlim_max};
  ::setrlimit(RLIMIT_NOFILE, &raised);
  ASSERT_GE(limit.rlim_max, 2 * kClients + 100) << "raise the hard limit of open files (ulimit -Hn)";

  Echo echo;
  const Server server(GetParam(), echo);
  ASSERT_TRUE(server.running());
  std::mt19937 random(7);
  std::vector<Client> clients;
  for (size_t i = 0; i < kClients; ++i) {
    clients.push_back({.fd = server.connect(), .to_send = random_bytes(random, kBytesEach), .got = {}});
  }
  ASSERT_TRUE(converse(clients, random));
  for (const Client& client : clients) ASSERT_TRUE(client.got == client.to_send);
  EXPECT_EQ(server.counters().accepted.get(), kClients);
}

// Queues of eight and two buffers: overflow, starvation and full queues are the ordinary case.
TEST_P(LoopOnEngine, EchoesWithTinyRings) {
  Echo echo;
  const Server server(GetParam(), echo, {.submission_entries = 8, .completion_entries = 8, .buffers = 2});
  ASSERT_TRUE(server.running());
  std::mt19937 random(8);
  std::vector<Client> clients;
  for (size_t i = 0; i < 100; ++i) {
    clients.push_back({.fd = server.connect(), .to_send = random_bytes(random, 20'000), .got = {}});
  }
  ASSERT_TRUE(converse(clients, random));
  for (const Client& client : clients) ASSERT_TRUE(client.got == client.to_send);
}

// The second request of each connection is refused; what the client sends of its body anyway must not destroy the
// answer, however much of it is there before the answer is.
class Refusing final : public Echo {
 public:
  size_t receive(Connection& connection, std::string_view input) override {
    if (input.starts_with("hello")) return Echo::receive(connection, input);
    connection.output() += "refused";
    connection.finish(Linger::Yes);
    return input.size();
  }
};

TEST_P(LoopOnEngine, ARefusalSurvivesTheBodyThatNobodyReads) {
  Refusing refusing;
  const Server server(GetParam(), refusing);
  ASSERT_TRUE(server.running());
  const std::string body(512 * 1024, 'x');
  for (int i = 0; i < 20; ++i) {
    base::Fd fd = server.connect();
    char hello[5];
    ASSERT_EQ(::send(fd.get(), "hello", 5, MSG_NOSIGNAL), 5);
    ASSERT_EQ(::recv(fd.get(), hello, 5, MSG_WAITALL), 5);
    // As much as the socket takes, without reading.
    ::send(fd.get(), body.data(), body.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    char answer[7] = {};
    EXPECT_EQ(::recv(fd.get(), answer, sizeof answer, MSG_WAITALL), 7) << "attempt " << i;
    EXPECT_EQ(std::string_view(answer, sizeof answer), "refused");
  }
}

INSTANTIATE_TEST_SUITE_P(Both, LoopOnEngine, testing::Values(EngineKind::IoUring, EngineKind::Epoll),
                         [](const auto& row) { return std::string(engine_name(row.param)); });

}  // namespace
}  // namespace kiln::core
