#include "core/connection.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <string_view>

#include "core/test_stage.h"

namespace kiln::core {
namespace {

using namespace std::chrono_literals;
using State = Connection::State;

TEST(Connection, AnswersKeepsAliveAndAnswersAgain) {
  Stage stage;
  stage.connect();
  EXPECT_EQ(stage.client().receives, 1U);
  for (const std::string request : {"one\n", "two\n", "three\n"}) {
    stage.receives(request);
    EXPECT_EQ(stage.in_flight(), request);
    stage.sends();
  }
  EXPECT_EQ(stage.client().sent, "one\ntwo\nthree\n");
  EXPECT_EQ(stage.protocol.calls(), (Calls{"receive one\n", "receive two\n", "receive three\n"}));
  EXPECT_FALSE(stage.closed());
}

// --- Made by us ------------------------------------------------------------------------------------------------------

struct Dialling : Stage {
  static constexpr int kOurs = 1'000'002;

  Dialling() {
    engine->next_socket(kOurs);
    loop->connect(address, 3s);
  }

  SocketAddress address;
};

TEST(Connection, IsOpenedWhenItIsMade) {
  Dialling stage;
  EXPECT_EQ(stage.protocol.calls(), Calls{});
  stage.protocol.on_opened = [](Connection& connection) {
    EXPECT_EQ(connection.listener(), Connection::kNoListener);
    connection.output() += "hello\n";
  };
  stage.engine->connects(Dialling::kOurs, 0);
  stage.turn();
  EXPECT_EQ(stage.protocol.calls(), Calls{"opened"});
  EXPECT_EQ(stage.client(Dialling::kOurs).sending->copy, "hello\n");
  ASSERT_TRUE(stage.client(Dialling::kOurs).reading);
  stage.engine->sends(Dialling::kOurs);
  stage.pass(10s);  // the time for the connect is no time for what follows
  EXPECT_EQ(stage.protocol.calls(), Calls{});
  stage.engine->receive_ends(Dialling::kOurs, -ECONNRESET);
  stage.turn();
  EXPECT_EQ(stage.protocol.calls(), Calls{"closed"});
  EXPECT_TRUE(stage.closed(Dialling::kOurs));
  EXPECT_EQ(stage.loop->counters().open.get(), 0U);
}

TEST(Connection, IsToldOfAsFailedOnceAndClosed) {
  Dialling stage;
  stage.engine->connects(Dialling::kOurs, -ECONNREFUSED);
  stage.turn();
  EXPECT_EQ(stage.protocol.calls(), Calls{"connect failed " + std::to_string(ECONNREFUSED)});
  EXPECT_TRUE(stage.closed(Dialling::kOurs));
  EXPECT_EQ(stage.loop->counters().open.get(), 0U);
}

TEST(Connection, GivesUpAConnectThatTakesTooLong) {
  for (const int late : {-ECANCELED, 0}) {  // the cancel may come too late
    Dialling stage;
    stage.pass(3s);
    EXPECT_EQ(stage.protocol.calls(), Calls{"connect failed " + std::to_string(ETIMEDOUT)});
    ASSERT_TRUE(stage.client(Dialling::kOurs).connecting);
    EXPECT_TRUE(stage.client(Dialling::kOurs).connecting->cancelled);
    EXPECT_TRUE(stage.client(Dialling::kOurs).shutdowns.empty());
    EXPECT_FALSE(stage.closed(Dialling::kOurs));
    stage.engine->connects(Dialling::kOurs, late);
    stage.turn();
    EXPECT_EQ(stage.protocol.calls(), Calls{});
    EXPECT_TRUE(stage.closed(Dialling::kOurs));
  }
}

TEST(Connection, IsGivenUpByAHaltWhileItIsMade) {
  Dialling stage;
  stage.loop->halt();
  EXPECT_EQ(stage.protocol.calls(), Calls{"connect failed " + std::to_string(ECANCELED)});
  stage.engine->connects(Dialling::kOurs, -ECANCELED);
  stage.engine->accept_ends(Stage::kListener, -EINVAL);
  EXPECT_FALSE(stage.turn()) << "nothing is left to do";
  EXPECT_TRUE(stage.closed(Dialling::kOurs));
}

TEST(Connection, FailsALittleLaterWhereThereIsNoSocket) {
  Stage stage;
  stage.engine->next_socket(-EMFILE);
  const SocketAddress address;
  stage.loop->connect(address, 3s);
  stage.turn();
  EXPECT_EQ(stage.protocol.calls(), Calls{});
  stage.pass(100ms);
  EXPECT_EQ(stage.protocol.calls(), Calls{"connect failed " + std::to_string(EMFILE)});
}

// --- Made by others --------------------------------------------------------------------------------------------------

TEST(Connection, ReceivesOnceFirstAndAsAStreamFromThenOn) {
  Stage stage;
  stage.connect();
  EXPECT_EQ(stage.client().reading->mode, Repeat::Once);
  stage.receives("one\n");
  ASSERT_TRUE(stage.client().reading);
  EXPECT_EQ(stage.client().reading->mode, Repeat::Stream);
  stage.sends();
  stage.receives("two\n");
  EXPECT_EQ(stage.client().receives, 2U) << "a stream that goes on is not armed again";
  stage.sends();
  stage.engine->receives(Stage::kClient, "three\n", FakeEngine::Last::Yes);
  stage.turn();
  EXPECT_EQ(stage.client().receives, 3U) << "a stream that ended is";
}

TEST(Connection, KeepsAFirstReceiveThatBroughtNoBytesOnce) {
  Stage stage;
  stage.connect();
  stage.engine->receive_ends(Stage::kClient, -EINTR);
  stage.turn();
  ASSERT_TRUE(stage.client().reading);
  EXPECT_EQ(stage.client().reading->mode, Repeat::Once);
}

TEST(Connection, OffersWhatWasNotTakenAgainInFrontOfWhatArrives) {
  Stage stage;
  stage.connect();
  stage.receives("o");
  stage.receives("ne\ntw");
  EXPECT_EQ(stage.in_flight(), "one\n");
  EXPECT_EQ(stage.protocol.calls(), (Calls{"receive o", "receive one\ntw"}));
  stage.sends();
  EXPECT_EQ(stage.protocol.calls(), (Calls{"receive tw"})) << "and when the answer is sent";
  stage.receives("o\n");
  EXPECT_EQ(stage.protocol.calls(), (Calls{"receive two\n"}));
}

TEST(Connection, OffersNothingWhileAnAnswerIsBeingSent) {
  Stage stage;
  stage.connect();
  stage.receives("one\n");
  stage.receives("two\n");
  stage.receives("three\n");
  EXPECT_EQ(stage.protocol.calls(), (Calls{"receive one\n"}));
  EXPECT_EQ(stage.client().sends, 1U);
  stage.sends();
  EXPECT_EQ(stage.protocol.calls(), (Calls{"receive two\nthree\n"}));
  EXPECT_EQ(stage.in_flight(), "two\nthree\n") << "a batch of answers is one send";
}

TEST(Connection, GreetsBeforeTheFirstByte) {
  Stage stage;
  stage.protocol.on_opened = [](Connection& connection) { connection.output() += "hello\n"; };
  stage.connect();
  EXPECT_EQ(stage.in_flight(), "hello\n");
  EXPECT_EQ(stage.client().receives, 1U) << "the peer's end is seen meanwhile";
  stage.sends();
  EXPECT_EQ(stage.client().receives, 1U);
}

TEST(Connection, SendsALargeAnswerInPieces) {
  constexpr size_t kPiece = 100;
  for (const size_t size : {kPiece - 1, kPiece, kPiece + 1, 2 * kPiece, 2 * kPiece + 1}) {
    SCOPED_TRACE(size);
    Stage stage({.send_bytes_max = kPiece});
    std::string answer(size, 'x');
    for (size_t i = 0; i < size; ++i) answer[i] = static_cast<char>('a' + i % 26);
    stage.protocol.on_receive = [&](Connection& connection, std::string_view input) {
      if (!input.empty()) connection.output() = answer;
      return input.size();
    };
    stage.connect();
    stage.receives("?");
    unsigned pieces = 0;
    for (; stage.client().sending; ++pieces) {
      EXPECT_LE(stage.client().sending->data.size(), kPiece);
      stage.sends();
    }
    EXPECT_EQ(pieces, (size + kPiece - 1) / kPiece);
    EXPECT_EQ(stage.client().sent, answer);
  }
}

// Every result that ends a connection, and when its descriptor may be closed.
TEST(Connection, ClosesWhenThePeerIsGone) {
  enum class Of : uint8_t { Receive, Send };
  struct Row {
    const char* name;
    Of operation;
    int result;
  };
  const Row rows[] = {
      {"reset while receiving", Of::Receive, -ECONNRESET},
      {"time-out while receiving", Of::Receive, -ETIMEDOUT},
      {"unreachable while receiving", Of::Receive, -EHOSTUNREACH},
      {"an errno nobody knows", Of::Receive, -EXDEV},
      {"broken pipe while sending", Of::Send, -EPIPE},
      {"cancelled send", Of::Send, -ECANCELED},
      {"short send", Of::Send, 3},
      {"send of nothing", Of::Send, 0},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.name);
    Stage stage;
    stage.connect();
    stage.receives("one\n");
    stage.protocol.calls();
    if (row.operation == Of::Receive) {
      stage.engine->receive_ends(Stage::kClient, row.result);
    } else {
      stage.engine->send_ends(Stage::kClient, row.result);
    }
    stage.turn();
    EXPECT_EQ(stage.protocol.calls(), Calls{"closed"});
    EXPECT_EQ(stage.client().shutdowns, std::vector<int>{SHUT_RDWR});
    EXPECT_FALSE(stage.closed()) << "the other operation is still in flight";
    stage.engine->everything_ends(Stage::kClient, 0, -EPIPE);
    stage.turn();
    EXPECT_TRUE(stage.closed());
    EXPECT_EQ(stage.protocol.calls(), Calls{});
    EXPECT_EQ(stage.loop->counters().open.get(), 0U);
  }
}

TEST(Connection, ReceivesAgainAfterAnInterruption) {
  for (const int error : {EINTR, EAGAIN, ECANCELED}) {
    SCOPED_TRACE(error);
    Stage stage;
    stage.connect();
    stage.engine->receive_ends(Stage::kClient, -error);
    stage.turn();
    EXPECT_TRUE(stage.client().reading);
    EXPECT_EQ(stage.protocol.calls(), Calls{});
  }
}

TEST(Connection, WaitsItsTurnWhenThereIsNoBuffer) {
  Stage stage;
  stage.connect();
  stage.engine->receive_ends(Stage::kClient, -ENOBUFS);
  stage.turn();
  EXPECT_EQ(stage.client().receives, 2U) << "armed again when the batch is over";
  EXPECT_EQ(stage.protocol.calls(), Calls{});
  stage.receives("one\n");
  EXPECT_EQ(stage.in_flight(), "one\n");
}

TEST(Connection, ArmsStarvedReceivesFirstComeFirstServed) {
  constexpr unsigned kClients = 200;
  Stage stage;
  for (unsigned i = 0; i < kClients; ++i) stage.connect(Stage::kClient + static_cast<int>(i));
  for (unsigned i = 0; i < kClients; ++i) stage.engine->receive_ends(Stage::kClient + static_cast<int>(i), -ENOBUFS);
  unsigned armed = 0;
  for (int turns = 0; armed < kClients; ++turns) {
    ASSERT_LT(turns, 10);
    stage.turn();
    const unsigned before = armed;
    armed = 0;
    while (armed < kClients && stage.client(Stage::kClient + static_cast<int>(armed)).reading) ++armed;
    EXPECT_GT(armed, before);
    for (unsigned i = armed; i < kClients; ++i) {
      EXPECT_FALSE(stage.client(Stage::kClient + static_cast<int>(i)).reading) << "overtook " << armed << ": " << i;
    }
  }
  EXPECT_EQ(stage.loop->counters().open.get(), kClients);
}

TEST(Connection, AStarvedOneThatClosedIsNotArmedForItsSuccessor) {
  Stage stage;
  const ConnectionId first = stage.connect().id();
  stage.receives("one\n");
  stage.engine->receive_ends(Stage::kClient, -ENOBUFS);
  stage.engine->send_ends(Stage::kClient, -EPIPE);
  stage.engine->accepts(Stage::kListener, Stage::kClient);
  stage.turn();
  const Connection& second = stage.connect(Stage::kClient + 1);
  EXPECT_TRUE(stage.closed());
  EXPECT_EQ(first.slot, 0U);
  EXPECT_EQ(second.id().slot, 1U);
  EXPECT_EQ(stage.client().receives, 1U) << "the successor's own";
}

// --- Back-pressure ---------------------------------------------------------------------------------------------------

TEST(Connection, StopsReceivingBeyondItsLimitAndGoesOnWhenTheInputIsTaken) {
  constexpr size_t kMax = 100;
  for (const size_t kept : {kMax - 1, kMax, kMax + 1}) {
    SCOPED_TRACE(kept);
    Stage stage({.input_bytes_max = kMax});
    stage.connect();
    stage.receives("one\n");  // its answer is in flight
    stage.receives(std::string(kept - 1, 'x') + "\n");
    const bool stops = kept > kMax;
    EXPECT_EQ(stage.client().reading->cancelled, stops);
    if (!stops) continue;
    stage.engine->receives(Stage::kClient, "late\n");  // was faster than the cancel
    stage.engine->receive_ends(Stage::kClient, -ECANCELED);
    stage.turn();
    EXPECT_FALSE(stage.client().reading);
    stage.sends();
    EXPECT_TRUE(stage.client().reading) << "taken, so armed again";
    EXPECT_EQ(stage.in_flight(), std::string(kept - 1, 'x') + "\nlate\n");
  }
}

TEST(Connection, CancelsAReceiveOnlyOnce) {
  Stage stage({.input_bytes_max = 4});
  stage.connect();
  stage.receives("one\n");
  stage.receives("two two two\n");
  ASSERT_TRUE(stage.client().reading->cancelled);
  // The stream went on and finished by itself before the cancel reached it: its successor is not cancelled.
  stage.engine->receives(Stage::kClient, "three\n", FakeEngine::Last::Yes);
  stage.turn();
  EXPECT_FALSE(stage.client().reading);
  stage.sends();
  ASSERT_TRUE(stage.client().reading);
  EXPECT_FALSE(stage.client().reading->cancelled);
  stage.receives("four four four\n");
  EXPECT_TRUE(stage.client().reading->cancelled) << "until there is too much again";
}

TEST(Connection, ASuspendedPeerIsHeardAgainAfterADeferredAnswer) {
  Stage stage({.input_bytes_max = 4});
  stage.protocol.on_receive = [](Connection&, std::string_view) { return size_t{0}; };
  const ConnectionId id = stage.connect().id();
  stage.receives("too much\n");  // Once: nothing is in flight any more
  EXPECT_FALSE(stage.client().reading);
  stage.protocol.on_receive = ScriptedProtocol::echo_lines;
  stage.loop->find(id)->resume();
  EXPECT_EQ(stage.in_flight(), "too much\n");
  EXPECT_TRUE(stage.client().reading);
}

// --- Deferred answers ------------------------------------------------------------------------------------------------

TEST(Connection, AnswersLaterThroughItsId) {
  Stage stage;
  stage.protocol.on_receive = [](Connection&, std::string_view input) { return input.size(); };
  const ConnectionId id = stage.connect().id();
  stage.receives("question");
  EXPECT_FALSE(stage.client().sending);
  Connection* connection = stage.loop->find(id);
  ASSERT_NE(connection, nullptr);
  connection->output() += "answer";
  connection->resume();
  EXPECT_EQ(stage.in_flight(), "answer");
  stage.sends();
  EXPECT_EQ(stage.client().sent, "answer");
}

TEST(Connection, AnAnswerWrittenBeforeMoreInputIsNotLost) {
  Stage stage;
  const ConnectionId id = stage.connect().id();
  stage.receives("one\n");
  stage.sends();  // its buffer is spare now
  stage.loop->find(id)->output() += "news\n";
  stage.receives("two\n");
  EXPECT_EQ(stage.in_flight(), "news\ntwo\n");
}

TEST(Connection, IsNotFoundWhenItWasReplaced) {
  Stage stage;
  const ConnectionId first = stage.connect().id();
  stage.engine->receive_ends(Stage::kClient, -ECONNRESET);
  stage.turn();
  EXPECT_EQ(stage.loop->find(first), nullptr);
  const ConnectionId second = stage.connect().id();
  EXPECT_EQ(second.slot, first.slot) << "the slot comes back";
  EXPECT_NE(second.generation, first.generation) << "the id does not";
  EXPECT_EQ(stage.loop->find(first), nullptr);
  EXPECT_NE(stage.loop->find(second), nullptr);
  EXPECT_EQ(stage.loop->find({.slot = 77, .generation = 0}), nullptr);
}

TEST(Connection, IsNotFoundOnceItIsFinishing) {
  Stage stage;
  Connection& connection = stage.connect();
  stage.receives("one\n");
  connection.finish(Linger::No);
  EXPECT_EQ(connection.state(), State::Flushing);
  EXPECT_EQ(stage.loop->find(connection.id()), nullptr);
}

// --- The peer's end --------------------------------------------------------------------------------------------------

TEST(Connection, TellsTheEndOnceAndAfterTheInput) {
  Stage stage;
  stage.protocol.on_ended = [](Connection& connection) { connection.output() += "bye\n"; };
  stage.connect();
  stage.receives("one\n");
  stage.engine->receives(Stage::kClient, "two\nrest");
  stage.engine->receive_ends(Stage::kClient, 0);
  stage.turn();
  EXPECT_EQ(stage.protocol.calls(), (Calls{"receive one\n"})) << "not while an answer is being sent";
  stage.sends();
  EXPECT_EQ(stage.protocol.calls(), (Calls{"receive two\nrest"}));
  stage.sends();
  EXPECT_EQ(stage.protocol.calls(), (Calls{"receive rest", "ended"}));
  EXPECT_EQ(stage.in_flight(), "bye\n");
  stage.sends();
  const Calls later = stage.protocol.calls();
  EXPECT_EQ(std::ranges::count(later, "ended"), 0);
  EXPECT_FALSE(stage.client().reading) << "nothing can come any more";
}

TEST(Connection, AnswersAPeerThatOnlyStoppedSending) {
  Stage stage;
  stage.protocol.on_ended = [](Connection& connection) { connection.finish(Linger::Yes); };
  stage.connect();
  stage.engine->receives(Stage::kClient, "one\n");
  stage.turn();
  stage.engine->receive_ends(Stage::kClient, 0);
  stage.turn();
  EXPECT_EQ(stage.in_flight(), "one\n");
  stage.sends();
  EXPECT_TRUE(stage.closed()) << "there is nothing to linger for";
  EXPECT_EQ(stage.client().sent, "one\n");
}

TEST(Connection, ADeferredAnswerOutlivesThePeersEnd) {
  Stage stage;
  stage.protocol.on_receive = [](Connection&, std::string_view input) { return input.size(); };
  const ConnectionId id = stage.connect().id();
  stage.receives("question");
  stage.engine->receive_ends(Stage::kClient, 0);
  stage.turn();
  EXPECT_EQ(stage.protocol.calls(), (Calls{"receive question", "ended"}));
  Connection* connection = stage.loop->find(id);
  ASSERT_NE(connection, nullptr);
  connection->output() += "answer";
  connection->finish(Linger::No);
  connection->resume();
  stage.sends();
  EXPECT_EQ(stage.client().sent, "answer");
  EXPECT_TRUE(stage.closed());
}

// --- finish() --------------------------------------------------------------------------------------------------------

// Answers with `answer` and finishes at the first byte.
void finish_with(Stage& stage, std::string answer, Linger linger) {
  stage.protocol.on_receive = [answer = std::move(answer), linger](Connection& connection, std::string_view input) {
    connection.output() += answer;
    connection.finish(linger);
    return input.size();
  };
}

TEST(Connection, FinishesWithoutLingering) {
  Stage stage;
  finish_with(stage, "bye", Linger::No);
  stage.connect();
  stage.receives("?");
  EXPECT_FALSE(stage.closed()) << "the answer is not sent yet";
  stage.sends();
  EXPECT_EQ(stage.client().sent, "bye");
  EXPECT_TRUE(stage.closed());
  EXPECT_EQ(stage.client().shutdowns, std::vector<int>{}) << "nothing was in flight";
}

TEST(Connection, FinishesWithoutAnAnswer) {
  Stage stage;
  finish_with(stage, "", Linger::No);
  stage.connect();
  stage.receives("?");
  EXPECT_TRUE(stage.closed());
}

TEST(Connection, FinishesWhileOpening) {
  Stage stage;
  stage.protocol.on_opened = [](Connection& connection) { connection.finish(Linger::No); };
  stage.engine->accepts(Stage::kListener, Stage::kClient);
  stage.turn();
  EXPECT_EQ(stage.protocol.calls(), (Calls{"opened", "closed"}));
  EXPECT_TRUE(stage.closed());
  EXPECT_EQ(stage.client().receives, 0U);
}

TEST(Connection, OffersNoMoreInputAfterFinish) {
  Stage stage;
  stage.connect();
  stage.receives("one\n");
  finish_with(stage, "bye", Linger::No);
  stage.receives("two\n");
  stage.receives("three\n");
  stage.sends();
  EXPECT_EQ(stage.protocol.calls(), (Calls{"receive one\n", "receive two\nthree\n"}));
  stage.receives("four\n");
  EXPECT_EQ(stage.protocol.calls(), Calls{});
}

TEST(Connection, InputLivesUntilReceiveReturnsAlsoAfterFinish) {
  Stage stage;
  stage.connect();
  stage.receives("one\nkept kept kept kept kept ");  // longer than a string holds in itself
  stage.sends();
  std::string seen;
  stage.protocol.on_receive = [&](Connection& connection, std::string_view input) {
    connection.finish(Linger::No);
    seen = input;
    return size_t{0};
  };
  stage.receives("and fresh");
  EXPECT_EQ(seen, "kept kept kept kept kept and fresh");
}

struct Lingering {
  const char* name;
  std::function<void(Stage&)> end;
};

TEST(Connection, LingersUntilTheEndOrALimit) {
  const Lingering rows[] = {
      {"the peer's end",
       [](Stage& stage) {
         stage.engine->receive_ends(Stage::kClient, 0);
         stage.turn();
       }},
      {"the peer is gone",
       [](Stage& stage) {
         stage.engine->receive_ends(Stage::kClient, -ECONNRESET);
         stage.turn();
       }},
      {"nothing has come for a while",
       [](Stage& stage) {
         stage.pass(stage.loop->options().linger_timeout - TimerWheel::kTick - 1ns);
         EXPECT_TRUE(stage.client().shutdowns == std::vector<int>{SHUT_WR}) << "not before";
         stage.pass(1ns);
         EXPECT_TRUE(stage.client().resets);
       }},
      {"bytes have come all the time, but for too long",
       [](Stage& stage) {
         const TimePoint until = stage.engine->now() + stage.loop->options().linger_time_max;
         while (stage.engine->now() + 1s < until) {
           stage.receives(std::string(4096, 'x'));
           stage.pass(1s - TimerWheel::kTick);
           EXPECT_TRUE(stage.client().shutdowns == std::vector<int>{SHUT_WR}) << "not before";
         }
         stage.pass(until - stage.engine->now());
         EXPECT_TRUE(stage.client().resets);
       }},
      {"abort", [](Stage& stage) { stage.loop->for_each_open([](Connection& connection) { connection.abort(); }); }},
  };
  for (const Lingering& row : rows) {
    SCOPED_TRACE(row.name);
    Stage stage;
    finish_with(stage, "bye", Linger::Yes);
    stage.connect();
    stage.receives("?");
    EXPECT_EQ(stage.client().shutdowns, std::vector<int>{}) << "not before the answer is sent";
    stage.sends();
    ASSERT_EQ(stage.client().shutdowns, std::vector<int>{SHUT_WR});
    ASSERT_TRUE(stage.client().reading);
    stage.protocol.calls();
    row.end(stage);
    EXPECT_EQ(stage.protocol.calls(), Calls{"closed"}) << "and nothing was offered";
    if (stage.client().reading) {
      EXPECT_EQ(stage.client().shutdowns, (std::vector<int>{SHUT_WR, SHUT_RDWR}));
      stage.engine->everything_ends(Stage::kClient, 0, 0);
      stage.turn();
    }
    EXPECT_TRUE(stage.closed());
  }
}

// A stream may have brought much of a refused body before the answer is even handed over.
TEST(Connection, BytesThatComeBeforeTheAnswerIsSentDoNotCutIt) {
  Stage stage({.input_bytes_max = 100});
  stage.connect();
  stage.receives("one\n");
  stage.sends();
  finish_with(stage, "refused", Linger::Yes);
  for (int i = 0; i < 10; ++i) stage.engine->receives(Stage::kClient, std::string(100, 'x'));
  stage.turn();
  EXPECT_EQ(stage.in_flight(), "refused");
  EXPECT_EQ(stage.client().shutdowns, std::vector<int>{});
  stage.engine->receives(Stage::kClient, std::string(100, 'x'), FakeEngine::Last::Yes);
  stage.turn();
  EXPECT_FALSE(stage.client().reading) << "what ends is not armed again";
  stage.sends();
  EXPECT_EQ(stage.client().sent, "one\nrefused");
  EXPECT_EQ(stage.client().shutdowns, std::vector<int>{SHUT_WR});
  ASSERT_TRUE(stage.client().reading) << "lingering reads again";
}

TEST(Connection, AStalledReaderIsReset) {
  Stage stage;
  stage.connect();
  stage.receives("one\n");
  EXPECT_FALSE(stage.client().resets);
  stage.pass(stage.loop->options().send_timeout);
  EXPECT_TRUE(stage.client().resets);
  stage.engine->everything_ends(Stage::kClient, 0, -EPIPE);
  stage.turn();
  EXPECT_TRUE(stage.closed());
}

// --- What they hold together -----------------------------------------------------------------------------------------

// Three clients; the first two have long answers under way that nobody reads, the third comes last.
struct Holding : Stage {
  static constexpr size_t kAnswer = 10'000;
  static constexpr int kFirst = kClient, kSecond = kClient + 1, kThird = kClient + 2;

  explicit Holding(size_t held_bytes_max) : Stage({.held_bytes_max = held_bytes_max}) {
    protocol.on_receive = [](Connection& connection, std::string_view input) {
      connection.output() += std::string(kAnswer, 'a');
      return input.size();
    };
    for (const int fd : {kFirst, kSecond, kThird}) connect(fd);
  }

  void asks(int fd) {
    engine->receives(fd, "?");
    turn();
  }
};

TEST(Connection, WhoHasHeldForLongestIsShed) {
  Holding stage(2 * Holding::kAnswer + 2000);
  stage.asks(Holding::kFirst);
  stage.asks(Holding::kSecond);
  EXPECT_GE(stage.loop->counters().held_bytes.get(), 2 * Holding::kAnswer);
  EXPECT_EQ(stage.loop->counters().shed.get(), 0U);
  stage.asks(Holding::kThird);
  EXPECT_EQ(stage.loop->counters().shed.get(), 1U);
  EXPECT_TRUE(stage.client(Holding::kFirst).resets);
  EXPECT_FALSE(stage.client(Holding::kSecond).resets);
  stage.engine->everything_ends(Holding::kFirst, 0, -EPIPE);
  stage.engine->sends(Holding::kSecond);
  stage.engine->sends(Holding::kThird);
  stage.turn();
  EXPECT_TRUE(stage.closed(Holding::kFirst));
  EXPECT_EQ(stage.loop->counters().held_bytes.get(), 0U);
}

TEST(Connection, WhoseAnswersGoOutIsNotAtTheFront) {
  Holding stage(2 * Holding::kAnswer + 2000);
  stage.asks(Holding::kFirst);
  stage.asks(Holding::kSecond);
  stage.engine->sends(Holding::kFirst);
  stage.turn();
  stage.asks(Holding::kFirst);
  stage.asks(Holding::kThird);
  EXPECT_TRUE(stage.client(Holding::kSecond).resets);
  EXPECT_FALSE(stage.client(Holding::kFirst).resets);
}

TEST(Connection, ExactlyTheLimitMayBeHeld) {
  for (const size_t less : {0U, 1U}) {
    Stage stage({.held_bytes_max = 5000 - less});
    stage.protocol.on_receive = [](Connection&, std::string_view input) { return input.size(); };
    stage.connect();
    stage.protocol.kept_bytes = 5000;
    stage.receives("?");
    EXPECT_EQ(stage.loop->counters().shed.get(), less);
    EXPECT_EQ(stage.client().resets, less == 1);
  }
}

TEST(Connection, TheProtocolMayAnswerInsteadOfHolding) {
  Stage stage({.held_bytes_max = 8000});
  stage.protocol.on_receive = [](Connection&, std::string_view input) { return input.size(); };
  stage.protocol.on_shed = [&](Connection& connection) {
    stage.protocol.kept_bytes = 0;
    connection.output() += "sorry";
    connection.finish(Linger::Yes);
  };
  stage.connect();
  stage.protocol.kept_bytes = 9000;
  stage.receives("?");
  EXPECT_EQ(stage.in_flight(), "sorry");
  EXPECT_FALSE(stage.client().resets);
  stage.sends();
  EXPECT_EQ(stage.client().shutdowns, std::vector<int>{SHUT_WR});
}

TEST(Connection, EachThatGivesWayHasTimeToTellItsClient) {
  Stage stage({.held_bytes_max = 19'000});
  stage.protocol.on_shed = [](Connection& connection) {
    connection.output() += "sorry";
    connection.finish(Linger::Yes);
  };
  constexpr int kFirst = Stage::kClient, kSecond = kFirst + 1, kThird = kFirst + 2;
  for (const int fd : {kFirst, kSecond, kThird}) stage.connect(fd);
  // Both keep more than a buffer's worth; one jump past the cap needs what both hold.
  stage.protocol.on_receive = [](Connection&, std::string_view) { return size_t{0}; };
  for (const int fd : {kFirst, kSecond}) {
    stage.engine->receives(fd, std::string(9000, 'x'));
    stage.turn();
  }
  stage.protocol.on_receive = [](Connection& connection, std::string_view input) {
    connection.output() += std::string(11'000, 'a');
    return input.size();
  };
  stage.engine->receives(kThird, "?");
  stage.turn();
  EXPECT_EQ(stage.loop->counters().shed.get(), 2U);
  for (const int fd : {kFirst, kSecond}) {
    EXPECT_FALSE(stage.client(fd).resets);
    ASSERT_TRUE(stage.client(fd).sending);
    EXPECT_EQ(stage.client(fd).sending->copy, "sorry");
  }
}

TEST(Connection, WhoGivesNothingUpIsReset) {
  Stage stage({.held_bytes_max = 8000});
  stage.protocol.on_receive = [](Connection&, std::string_view input) { return input.size(); };
  stage.protocol.on_shed = [](Connection& connection) { connection.output() += "no"; };
  stage.connect();
  stage.protocol.kept_bytes = 9000;
  stage.receives("?");
  EXPECT_TRUE(stage.client().resets);
  stage.engine->everything_ends(Stage::kClient, 0, -EPIPE);
  stage.turn();
  EXPECT_TRUE(stage.closed());
}

TEST(Connection, OnlySoManyLinger) {
  Stage stage({.lingering_max = 1});
  finish_with(stage, "bye", Linger::Yes);
  stage.connect();
  stage.receives("?");
  stage.sends();
  EXPECT_EQ(stage.loop->counters().lingering.get(), 1U);
  constexpr int kSecond = Stage::kClient + 1;
  stage.connect(kSecond);
  stage.engine->receives(kSecond, "?");
  stage.turn();
  stage.engine->sends(kSecond);
  stage.turn();
  EXPECT_TRUE(stage.closed(kSecond));
  EXPECT_EQ(stage.client(kSecond).sent, "bye");
  stage.engine->receive_ends(Stage::kClient, 0);
  stage.turn();
  EXPECT_EQ(stage.loop->counters().lingering.get(), 0U);
}

TEST(Connection, LingeringReadsAlsoWhenTooMuchInputWasKept) {
  Stage stage({.input_bytes_max = 4});
  Connection& connection = stage.connect();
  stage.receives("one\n");
  stage.engine->receives(Stage::kClient, "more than four", FakeEngine::Last::Yes);
  stage.turn();
  ASSERT_FALSE(stage.client().reading);
  connection.finish(Linger::Yes);
  stage.sends();
  EXPECT_EQ(stage.client().shutdowns, std::vector<int>{SHUT_WR});
  EXPECT_TRUE(stage.client().reading);
}

TEST(Connection, LingeringHearsAStarvedReceiveAgain) {
  Stage stage;
  finish_with(stage, "bye", Linger::Yes);
  stage.connect();
  stage.receives("?");
  stage.sends();
  stage.engine->receive_ends(Stage::kClient, -ENOBUFS);
  stage.turn();
  ASSERT_TRUE(stage.client().reading);
  stage.engine->receive_ends(Stage::kClient, 0);
  stage.turn();
  EXPECT_TRUE(stage.closed());
}

// --- abort() ---------------------------------------------------------------------------------------------------------

TEST(Connection, AbortsInsideEveryCallOfTheProtocol) {
  const ScriptedProtocol::Hook abort = [](Connection& connection) {
    connection.output() += "never sent";
    connection.abort();
    EXPECT_NE(connection.state(), State::Closing) << "not under the protocol's feet";
  };
  struct Row {
    const char* name;
    std::function<void(Stage&)> provoke;
  };
  const Row rows[] = {
      {"opened",
       [&](Stage& stage) {
         stage.protocol.on_opened = abort;
         stage.engine->accepts(Stage::kListener, Stage::kClient);
         stage.turn();
       }},
      {"receive",
       [&](Stage& stage) {
         stage.protocol.on_receive = [&](Connection& connection, std::string_view) {
           abort(connection);
           return size_t{0};
         };
         stage.connect();
         stage.receives("?");
       }},
      {"ended",
       [&](Stage& stage) {
         stage.protocol.on_ended = abort;
         stage.connect();
         stage.engine->receive_ends(Stage::kClient, 0);
         stage.turn();
       }},
      {"expired",
       [&](Stage& stage) {
         stage.protocol.on_expired = abort;
         stage.connect().set_deadline(stage.loop->now());
         stage.pass(0s);
         stage.engine->everything_ends(Stage::kClient, 0, 0);
         stage.turn();
       }},
      {"outside",
       [&](Stage& stage) {
         Connection& connection = stage.connect();
         connection.output() += "never sent";
         connection.abort();
         stage.engine->everything_ends(Stage::kClient, 0, 0);
         stage.turn();
       }},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.name);
    Stage stage;
    row.provoke(stage);
    EXPECT_TRUE(stage.closed());
    EXPECT_EQ(stage.client().sends, 0U);
    const Calls calls = stage.protocol.calls();
    ASSERT_FALSE(calls.empty());
    EXPECT_EQ(calls.back(), "closed");
  }
}

TEST(Connection, AbortCutsAnAnswerThatIsBeingSent) {
  Stage stage;
  Connection& connection = stage.connect();
  stage.receives("one\n");
  connection.abort();
  EXPECT_EQ(stage.client().shutdowns, std::vector<int>{SHUT_RDWR});
  stage.engine->everything_ends(Stage::kClient, 0, 2);
  stage.turn();
  EXPECT_TRUE(stage.closed());
}

TEST(Connection, EndingTwiceIsEndingOnce) {
  Stage stage;
  Connection& connection = stage.connect();
  stage.receives("one\n");
  stage.protocol.on_closed = [](Connection& c) {
    c.abort();
    c.finish(Linger::Yes);
    c.set_deadline(TimePoint{});
    c.output() += "too late";
    c.resume();
  };
  connection.finish(Linger::No);
  connection.finish(Linger::Yes);
  connection.abort();
  connection.abort();
  stage.engine->everything_ends(Stage::kClient, 0, 4);
  stage.turn();
  EXPECT_TRUE(stage.closed());
  EXPECT_EQ(stage.protocol.calls(), (Calls{"receive one\n", "closed"}));
  EXPECT_EQ(stage.client().sends, 1U);
  // The slot's next owner inherits nothing.
  stage.protocol.on_closed = {};
  stage.connect();
  stage.receives("one\n");
  stage.sends();
  stage.pass(1h);
  EXPECT_EQ(stage.protocol.calls(), (Calls{"receive one\n"}));
}

// --- Closing is a join -----------------------------------------------------------------------------------------------

TEST(Connection, ClosesOnlyAfterItsLastCompletion) {
  enum class First : uint8_t { Receive, Send };
  for (const First first : {First::Receive, First::Send}) {
    SCOPED_TRACE(static_cast<int>(first));
    Stage stage;
    Connection& connection = stage.connect();
    stage.receives("one\n");
    connection.abort();
    EXPECT_EQ(stage.protocol.calls(), (Calls{"receive one\n", "closed"}));
    stage.engine->receives(Stage::kClient, "bytes that nobody wants\n");
    stage.turn();
    EXPECT_FALSE(stage.closed());
    if (first == First::Receive) stage.engine->receive_ends(Stage::kClient, 0);
    if (first == First::Send) stage.engine->send_ends(Stage::kClient, -EPIPE);
    stage.turn();
    EXPECT_FALSE(stage.closed());
    EXPECT_EQ(connection.state(), State::Closing);
    stage.engine->everything_ends(Stage::kClient, 0, -EPIPE);
    stage.turn();
    EXPECT_TRUE(stage.closed());
    EXPECT_EQ(connection.state(), State::Free);
    EXPECT_EQ(stage.protocol.calls(), Calls{});
  }
}

TEST(Connection, CancelsWhatShutdownDidNotEnd) {
  Stage stage;
  Connection& connection = stage.connect();
  stage.receives("one\n");
  connection.abort();
  stage.pass(stage.loop->options().close_timeout - TimerWheel::kTick - 1ns);
  EXPECT_FALSE(stage.client().reading->cancelled);
  EXPECT_EQ(stage.loop->counters().forced_closes.get(), 0U);
  stage.pass(1ns);
  EXPECT_TRUE(stage.client().reading->cancelled);
  EXPECT_TRUE(stage.client().sending->cancelled);
  EXPECT_EQ(stage.loop->counters().forced_closes.get(), 1U);
  EXPECT_FALSE(stage.closed()) << "the cancel is not the end";
  stage.pass(stage.loop->options().close_timeout);
  EXPECT_EQ(stage.loop->counters().forced_closes.get(), 2U) << "and asked again";
  stage.engine->everything_ends(Stage::kClient, -ECANCELED, -ECANCELED);
  stage.turn();
  EXPECT_TRUE(stage.closed());
}

TEST(Connection, CountsStaleCompletions) {
  Stage stage;
  const ConnectionId first = stage.connect().id();
  stage.engine->receive_ends(Stage::kClient, -ECONNRESET);
  stage.turn();
  const Token late{Operation::Receive, first.generation, first.slot};
  stage.engine->delivers(late, 5);
  stage.turn();
  EXPECT_EQ(stage.loop->counters().stale_completions.get(), 1U) << "of a free slot";
  stage.connect();
  stage.engine->delivers(late, 5);
  stage.engine->delivers({Operation::Send, first.generation, first.slot}, -EPIPE);
  stage.turn();
  EXPECT_EQ(stage.loop->counters().stale_completions.get(), 3U) << "of another owner";
  EXPECT_EQ(stage.protocol.calls(), Calls{});
  EXPECT_EQ(stage.loop->counters().open.get(), 1U);
}

TEST(Connection, GenerationsWrapWhereTokensDo) {
  const Token token{Operation::Send, Token::kGenerationMask, UINT32_MAX};
  EXPECT_EQ(Token::unpack(token.pack()), token);
  const Token wrapped{Operation::Send, Token::kGenerationMask + 1, 7};
  EXPECT_EQ(Token::unpack(wrapped.pack()), (Token{Operation::Send, 0, 7}));
}

// --- Deadlines -------------------------------------------------------------------------------------------------------

TEST(Connection, TellsThatItsDeadlineHasPassed) {
  Stage stage;
  Connection& connection = stage.connect();
  connection.set_deadline(stage.loop->now() + 10s);
  connection.set_deadline(stage.loop->now() + 5s);  // replaces it
  stage.pass(5s - TimerWheel::kTick - 1ns);
  EXPECT_EQ(stage.protocol.calls(), Calls{});
  stage.pass(1ns);
  EXPECT_EQ(stage.protocol.calls(), Calls{"expired"});
  stage.pass(1h);
  EXPECT_EQ(stage.protocol.calls(), Calls{}) << "once";
}

TEST(Connection, ADeadlineMovesLaterAndGoesAway) {
  Stage stage;
  Connection& connection = stage.connect();
  connection.set_deadline(stage.loop->now() + 1s);
  connection.set_deadline(stage.loop->now() + 10s);
  stage.pass(9s);
  EXPECT_EQ(stage.protocol.calls(), Calls{});
  stage.pass(1s);
  EXPECT_EQ(stage.protocol.calls(), Calls{"expired"});
  connection.set_deadline(stage.loop->now() + 1s);
  connection.set_deadline(TimerWheel::kNever);
  stage.pass(1h);
  EXPECT_EQ(stage.protocol.calls(), Calls{});
}

TEST(Connection, AnAnswerAtTheDeadlineIsSent) {
  Stage stage;
  stage.protocol.on_expired = [](Connection& connection) {
    connection.output() += "too slow";
    connection.finish(Linger::Yes);
  };
  stage.connect().set_deadline(stage.loop->now());
  stage.pass(0s);
  EXPECT_EQ(stage.in_flight(), "too slow");
  stage.sends();
  EXPECT_EQ(stage.client().shutdowns, std::vector<int>{SHUT_WR});
}

// A deadline that is set while one expires, and is in the past already, comes a tick later instead of at once for ever.
TEST(Connection, ADeadlineInThePastExpiresAgainALittleLater) {
  Stage stage;
  stage.protocol.on_expired = [&](Connection& connection) { connection.set_deadline(stage.loop->now() - 1s); };
  stage.connect().set_deadline(stage.loop->now());
  stage.pass(0s);
  EXPECT_EQ(stage.protocol.calls().size(), 1U);
  stage.pass(0s);
  EXPECT_EQ(stage.protocol.calls().size(), 1U);
}

TEST(Connection, ADeadlineOfAFinishedConnectionIsIgnored) {
  Stage stage;
  stage.protocol.on_receive = [&](Connection& connection, std::string_view input) {
    connection.output() += "bye";
    connection.finish(Linger::No);
    connection.set_deadline(stage.loop->now());
    return input.size();
  };
  stage.connect();
  stage.receives("?");
  stage.pass(1s);
  stage.pass(1s);
  EXPECT_EQ(stage.protocol.calls(), (Calls{"receive ?"}));
  stage.engine->advance(0s);
  stage.turn();
  EXPECT_GT(stage.engine->last_timeout(), Duration(1s)) << "the loop sleeps until the send's deadline";
}

// Nobody is blamed for input that is not offered because of an answer that is still being sent.
TEST(Connection, ADeadlineWaitsForTheSendInFlight) {
  Stage stage;
  Connection& connection = stage.connect();
  stage.receives("one\n");
  connection.set_deadline(stage.loop->now() + 1s);
  stage.pass(5s);
  EXPECT_EQ(stage.protocol.calls(), (Calls{"receive one\n"}));
  stage.turn();
  EXPECT_GT(stage.engine->last_timeout(), Duration(1s)) << "the loop sleeps until the send's deadline";
  stage.receives("two\n");
  stage.sends();
  EXPECT_EQ(stage.protocol.calls(), (Calls{"receive two\n"})) << "what came meanwhile is offered first";
  stage.sends();
  stage.pass(0s);
  EXPECT_EQ(stage.protocol.calls(), (Calls{"expired"}));
}

TEST(Connection, AStalledSendEndsIt) {
  Stage stage({.send_bytes_max = 4});
  stage.connect();
  stage.receives("one two three\n");
  // Each piece has the whole time.
  stage.pass(stage.loop->options().send_timeout - TimerWheel::kTick - 1ns);
  stage.sends();
  stage.pass(stage.loop->options().send_timeout - TimerWheel::kTick - 1ns);
  stage.protocol.calls();
  EXPECT_EQ(stage.client().shutdowns, std::vector<int>{});
  stage.pass(1ns);
  EXPECT_EQ(stage.client().shutdowns, std::vector<int>{SHUT_RDWR});
  EXPECT_EQ(stage.protocol.calls(), Calls{"closed"});
  stage.engine->everything_ends(Stage::kClient, 0, 1);
  stage.turn();
  EXPECT_TRUE(stage.closed());
}

TEST(Connection, ASendInTimeTakesItsDeadlineAway) {
  Stage stage;
  stage.connect();
  stage.receives("one\n");
  stage.sends();
  stage.pass(1h);
  EXPECT_EQ(stage.client().shutdowns, std::vector<int>{});
  EXPECT_EQ(stage.loop->counters().open.get(), 1U);
}

}  // namespace
}  // namespace kiln::core
