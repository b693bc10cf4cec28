// Companions of the tests of loop and connection: a protocol that says what is called and does what it is told, and a
// loop over a fake engine with one listener.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/fake_engine.h"
#include "core/loop.h"

namespace kiln::core {

// Answers every line with the same line; what is incomplete stays. A hook that is set replaces that.
class ScriptedProtocol final : public Protocol {
 public:
  using Hook = std::function<void(Connection&)>;

  std::function<size_t(Connection&, std::string_view)> on_receive = echo_lines;
  Hook on_opened, on_ended, on_expired, on_closed, on_shed;
  size_t kept_bytes = 0;  // what it says to keep for each connection

  static size_t echo_lines(Connection& connection, std::string_view input) {
    const size_t taken = input.rfind('\n') + 1;
    connection.output() += input.substr(0, taken);
    return taken;
  }

  // What was called since the last look.
  std::vector<std::string> calls() { return std::exchange(calls_, {}); }

  void turn_began(TimePoint) override {}
  void opened(Connection& connection) override { call("opened", on_opened, connection); }
  size_t receive(Connection& connection, std::string_view input) override {
    calls_.push_back("receive " + std::string(input));
    return on_receive(connection, input);
  }
  void connect_failed(int error) override { calls_.push_back("connect failed " + std::to_string(error)); }
  void input_ended(Connection& connection) override { call("ended", on_ended, connection); }
  void expired(Connection& connection) override { call("expired", on_expired, connection); }
  size_t held_bytes(const Connection&) const override { return kept_bytes; }
  void shed(Connection& connection) override {
    call("shed", on_shed, connection);
    if (!on_shed) connection.abort();
  }
  void closed(Connection& connection) override { call("closed", on_closed, connection); }

 private:
  void call(const char* name, const Hook& hook, Connection& connection) {
    calls_.emplace_back(name);
    if (hook) hook(connection);
  }

  std::vector<std::string> calls_;
};

using Calls = std::vector<std::string>;

// Descriptors are numbers that nothing else has: the fake engine closes none.
struct Stage {
  static constexpr int kListener = 1'000'000;
  static constexpr int kClient = 1'000'001;

  explicit Stage(LoopOptions options = {}, uint32_t connections_max = 1000) {
    auto owned = std::make_unique<FakeEngine>();
    engine = owned.get();
    auto mailbox = Mailbox::open();
    EXPECT_TRUE(mailbox);
    loop = std::make_unique<Loop>(std::move(owned), std::move(*mailbox), protocol, options);
    loop->listen(base::Fd(kListener), connections_max);
  }

  ~Stage() {
    EXPECT_EQ(engine->violations(), Calls{});
    // A test may end in the middle; what its connections would still do is not its subject.
    loop.reset();
  }

  // A client is accepted; its protocol calls so far are forgotten.
  Connection& connect(int fd = kClient) {
    Connection* found = nullptr;
    engine->accepts(kListener, fd);
    turn();
    loop->for_each_open([&](Connection& connection) {
      if (connection.fd() == fd) found = &connection;
    });
    EXPECT_NE(found, nullptr);
    protocol.calls();
    return *found;
  }

  bool turn() { return loop->turn(); }

  // The script is delivered.
  void receives(std::string bytes) {
    engine->receives(kClient, std::move(bytes));
    turn();
  }
  void sends() {
    engine->sends(kClient);
    turn();
  }

  // Time passes and the loop looks. A bucket of the wheel is visited once it has passed, a tick late at most.
  void pass(Duration time) {
    engine->advance(time + TimerWheel::kTick);
    turn();
  }

  const FakeEngine::Descriptor& client(int fd = kClient) { return engine->descriptor(fd); }
  const FakeEngine::Descriptor& listener() { return engine->descriptor(kListener); }

  // What the send in flight would put on the wire; empty when there is none.
  std::string in_flight() { return client().sending ? client().sending->copy : std::string(); }

  // True when it was closed, whoever has its number now.
  bool closed(int fd = kClient) { return std::ranges::count(engine->closed(), fd) == 1; }

  FakeEngine* engine = nullptr;
  ScriptedProtocol protocol;
  std::unique_ptr<Loop> loop;
};

}  // namespace kiln::core
