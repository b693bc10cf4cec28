// A loop driven at random: clients that come, speak, stop, reset and read slowly, an engine that is short of buffers,
// late with cancels and full of stale completions, a protocol that takes a part, answers later, finishes or aborts.
// Whatever happens, the rules of engine.h hold, every descriptor is closed exactly once, and every byte comes back in
// order.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/fake_engine.h"
#include "core/loop.h"

namespace kiln::core {
namespace {

using namespace std::chrono_literals;

constexpr int kListener = 1'000'000;
constexpr int kFirstClient = 1'000'001;
constexpr size_t kClientsMax = 20;

constexpr LoopOptions kOptions{
    .connections_max = 18,  // less than the clients that may come: some are turned away
    .input_bytes_max = 64,
    .send_bytes_max = 32,
    .send_timeout = 5s,
    .linger_timeout = 2s,
    .linger_time_max = 5s,
    .lingering_max = 3,
    .held_bytes_max = 9 * 4096,  // a buffer each for half of them
    .close_timeout = 2s,
};

class Dice {
 public:
  explicit Dice(uint64_t seed) : random_(seed) {}
  size_t below(size_t n) { return random_() % n; }
  bool one_in(size_t n) { return below(n) == 0; }

 private:
  std::mt19937_64 random_;
};

// What a connection was told and has told, beside what the engine saw of it.
struct Session {
  int fd = -1;
  std::string taken = {};     // by the protocol, in order
  std::string answered = {};  // written to the output
  bool finished = false;
  bool ended = false;  // input_ended() was called
};

// Echoes what it takes, now or later.
class RandomEcho final : public Protocol {
 public:
  explicit RandomEcho(Dice& dice) : dice_(dice) {}

  void turn_began(TimePoint) override {}

  void opened(Connection& connection) override {
    ++openings;
    const auto [at, is_new] = sessions.try_emplace(key(connection), Session{.fd = connection.fd()});
    EXPECT_TRUE(is_new) << "an id came back";
    if (!calm && dice_.one_in(50)) end(connection, at->second);
  }

  size_t receive(Connection& connection, std::string_view input) override {
    Session& s = session(connection);
    EXPECT_FALSE(s.finished) << "input after finish()";
    if (s.taken.size() > s.answered.size()) return 0;  // the answer to the last bytes comes first
    const size_t taken = calm ? input.size() : dice_.below(input.size() + 1);
    s.taken += input.substr(0, taken);
    if (calm || !dice_.one_in(4)) answer(connection, s);
    if (!calm && dice_.one_in(8)) connection.set_deadline(now() + std::chrono::milliseconds(dice_.below(3000)) - 1s);
    if (!calm && dice_.one_in(40)) end(connection, s);
    return taken;
  }

  void input_ended(Connection& connection) override {
    Session& s = session(connection);
    EXPECT_FALSE(std::exchange(s.ended, true)) << "the end was told twice";
    if (!calm && dice_.one_in(2)) end(connection, s);
  }

  void expired(Connection& connection) override {
    Session& s = session(connection);
    if (dice_.one_in(2)) answer(connection, s);
    if (dice_.one_in(4)) end(connection, s);
  }

  size_t held_bytes(const Connection& connection) const override {
    const Session& s = sessions.at(key(connection));
    return s.taken.size() - s.answered.size();
  }

  void shed(Connection& connection) override {
    Session& s = session(connection);
    if (dice_.one_in(2)) answer(connection, s);
    end(connection, s);
  }

  void closed(Connection& connection) override {
    ++closings;
    ids_gone.push_back(connection.id());
    EXPECT_EQ(sessions.erase(key(connection)), 1U) << "closed twice";
  }

  void answer(Connection& connection, Session& s) {
    connection.output() += s.taken.substr(s.answered.size());
    s.answered = s.taken;
  }

  static std::pair<uint32_t, uint32_t> key(const Connection& connection) {
    return {connection.id().slot, connection.id().generation};
  }

  bool calm = false;  // true: takes and answers everything at once
  size_t openings = 0;
  size_t closings = 0;
  std::map<std::pair<uint32_t, uint32_t>, Session> sessions;
  std::vector<ConnectionId> ids_gone;
  Loop* loop = nullptr;

 private:
  Session& session(const Connection& connection) { return sessions.at(key(connection)); }
  [[nodiscard]] TimePoint now() const { return loop->now(); }

  void end(Connection& connection, Session& s) {
    if (dice_.one_in(3)) return connection.abort();
    s.finished = true;
    connection.finish(dice_.one_in(2) ? Linger::Yes : Linger::No);
  }

  Dice& dice_;
};

class Driver {
 public:
  explicit Driver(uint64_t seed) : dice_(seed), protocol_(dice_) {
    auto owned = std::make_unique<FakeEngine>();
    engine_ = owned.get();
    auto mailbox = Mailbox::open();
    EXPECT_TRUE(mailbox);
    loop_ = std::make_unique<Loop>(std::move(owned), std::move(*mailbox), protocol_, kOptions);
    loop_->listen(base::Fd(kListener), kClientsMax);
    protocol_.loop = loop_.get();
  }

  void step() {
    for (size_t n = dice_.below(4); n > 0; --n) act();
    if (dice_.one_in(20)) engine_->leave_completions_behind(dice_.one_in(2));
    turn();
  }

  // Everything that is in flight completes well, nothing new comes: what was taken must have been answered.
  void settle() {
    protocol_.calm = true;
    for (int round = 0; round < 100; ++round) {
      for (const int fd : clients_) complete_well(fd);
      resume_all();
      turn();
    }
    for (const auto& [id, s] : protocol_.sessions) {
      if (s.finished) continue;
      ++settled_;
      const std::string& fed = fed_.at(s.fd);
      EXPECT_TRUE(s.taken == fed) << "of " << fed.size() << " bytes " << s.taken.size() << " were offered";
      EXPECT_TRUE(engine_->descriptor(s.fd).sent == fed) << "not every answer was sent";
    }
    protocol_.calm = false;
  }

  [[nodiscard]] uint64_t sheds() const { return loop_->counters().shed.get(); }

  // Halts and lets the kernel's part end.
  void finish() {
    loop_->halt();
    bool goes_on = true;
    for (int round = 0; goes_on && round < 100; ++round) {
      for (const int fd : clients_) engine_->everything_ends(fd, 0, -EPIPE);
      if (round == 0 && engine_->descriptor(kListener).reading) engine_->everything_ends(kListener, -EINVAL, 0);
      goes_on = turn();
    }
    EXPECT_FALSE(goes_on);
    EXPECT_TRUE(clients_.empty());
    EXPECT_TRUE(protocol_.sessions.empty());
    EXPECT_EQ(protocol_.openings, protocol_.closings);
    const LoopCounters& counters = loop_->counters();
    EXPECT_EQ(counters.accepted.get(), protocol_.openings);
    EXPECT_EQ(counters.open.get(), 0U);
    EXPECT_EQ(counters.stale_completions.get(), stale_);
    EXPECT_EQ(accepted_, counters.accepted.get() + counters.turned_away.get());
    EXPECT_EQ(closes_seen_, accepted_ + 1) << "each descriptor once, and the listener";
    // The dice have not missed what this is about.
    EXPECT_GT(accepted_, 100U);
    EXPECT_GT(settled_, 10U);
    EXPECT_GT(stale_, 0U);
    EXPECT_GT(counters.turned_away.get(), 0U);
    EXPECT_GT(counters.forced_closes.get(), 0U);
    EXPECT_GT(bytes_echoed_, 10'000U);
  }

 private:
  bool turn() {
    const bool goes_on = loop_->turn();
    look_at_closed();
    EXPECT_EQ(engine_->violations(), std::vector<std::string>{});
    return goes_on;
  }

  // What went out is a part of what came in, from its beginning.
  void look_at_closed() {
    for (; closes_seen_ < engine_->closed().size(); ++closes_seen_) {
      const int fd = engine_->closed()[closes_seen_];
      if (fd == kListener) continue;
      EXPECT_EQ(clients_.erase(fd), 1U) << "closed twice";
      const std::string& sent = engine_->descriptor(fd).sent;
      EXPECT_TRUE(fed_.at(fd).starts_with(sent)) << "bytes that nobody sent, or in another order";
      bytes_echoed_ += sent.size();
    }
  }

  void act() {
    if (dice_.one_in(6)) return connect();
    if (dice_.one_in(12)) return pass_time();
    if (dice_.one_in(60)) return deliver_stale();
    if (dice_.one_in(200)) return loop_->post([this] { resume_all(); });
    if (dice_.one_in(10)) return resume_all();
    if (clients_.empty()) return;
    auto at = clients_.begin();
    std::advance(at, static_cast<std::ptrdiff_t>(dice_.below(clients_.size())));
    happen(*at);
  }

  void connect() {
    const auto& accept = engine_->descriptor(kListener).reading;
    if (!accept || accept->ending) return;
    if (accept->cancelled && dice_.one_in(2)) return engine_->accept_ends(kListener, -ECANCELED);
    if (dice_.one_in(30)) return engine_->accept_ends(kListener, dice_.one_in(2) ? -EMFILE : -ECONNABORTED);
    // The lowest number that is free, as the kernel does.
    int fd = kFirstClient;
    while (clients_.contains(fd)) ++fd;
    if (clients_.size() >= kClientsMax) return;
    clients_.insert(fd);
    fed_[fd].clear();
    ++accepted_;
    if (dice_.one_in(10)) return engine_->accept_ends(kListener, fd);
    engine_->accepts(kListener, fd);
  }

  void pass_time() {
    const Duration time = std::chrono::milliseconds(dice_.below(dice_.one_in(30) ? 20'000 : 400));
    if (dice_.one_in(2)) return engine_->advance(time);
    engine_->pass_while_waiting(time);
  }

  void deliver_stale() {
    if (protocol_.ids_gone.empty()) return;
    const ConnectionId id = protocol_.ids_gone[dice_.below(protocol_.ids_gone.size())];
    // Closing, it may still be the slot's owner.
    if (loop_->counters().open.get() != protocol_.sessions.size()) return;
    const auto operation = dice_.one_in(2) ? Operation::Receive : Operation::Send;
    engine_->delivers({operation, id.generation, id.slot}, dice_.one_in(2) ? -ECANCELED : 7);
    ++stale_;
  }

  void resume_all() {
    for (auto& [id, s] : protocol_.sessions) {
      Connection* connection = loop_->find({.slot = id.first, .generation = id.second});
      // Calm, also those that kept a part: the protocol wants it by now, and says so.
      const bool owes = s.answered.size() < s.taken.size() || protocol_.calm;
      if (connection != nullptr && owes) resumable_.push_back(connection->id());
    }
    for (const ConnectionId id : std::exchange(resumable_, {})) {
      Connection* connection = loop_->find(id);
      if (connection == nullptr) continue;
      protocol_.answer(*connection, protocol_.sessions.at({id.slot, id.generation}));
      connection->resume();
    }
  }

  // One thing happens to a client.
  void happen(int fd) {
    const FakeEngine::Descriptor& d = engine_->descriptor(fd);
    if (dice_.one_in(2) && d.sending && !d.sending->ending) return send_ends(fd, d);
    if (!d.reading || d.reading->ending) return;
    if (shut(d) && dice_.one_in(2)) return engine_->receive_ends(fd, 0);
    if (d.reading->cancelled && dice_.one_in(2)) return engine_->receive_ends(fd, -ECANCELED);
    switch (dice_.below(40)) {
      case 0: return engine_->receive_ends(fd, 0);
      case 1: return engine_->receive_ends(fd, -ECONNRESET);
      case 2:
      case 3: return engine_->receive_ends(fd, -ENOBUFS);
      case 4: return engine_->receive_ends(fd, -EINTR);
      default: return feed(fd);
    }
  }

  void feed(int fd) {
    std::string bytes(1 + dice_.below(dice_.one_in(10) ? 200 : 20), '\0');
    for (char& c : bytes) c = static_cast<char>('a' + dice_.below(26));
    fed_[fd] += bytes;
    engine_->receives(fd, std::move(bytes), dice_.one_in(10) ? FakeEngine::Last::Yes : FakeEngine::Last::No);
  }

  void send_ends(int fd, const FakeEngine::Descriptor& d) {
    const auto size = static_cast<int>(d.sending->data.size());
    if (d.sending->cancelled || shut(d)) {
      if (dice_.one_in(4)) return;  // not yet
      return engine_->send_ends(fd, dice_.one_in(2) ? -EPIPE : static_cast<int>(dice_.below(d.sending->data.size())));
    }
    if (dice_.one_in(60)) return engine_->send_ends(fd, dice_.one_in(2) ? -ECONNRESET : size / 2);
    engine_->sends(fd);
  }

  void complete_well(int fd) {
    const FakeEngine::Descriptor& d = engine_->descriptor(fd);
    if (d.sending && !d.sending->ending) {
      if (shut(d)) {
        engine_->send_ends(fd, -EPIPE);
      } else {
        engine_->sends(fd);
      }
    }
    if (!d.reading || d.reading->ending) return;
    if (d.reading->cancelled) return engine_->receive_ends(fd, -ECANCELED);
    if (!d.shutdowns.empty()) engine_->receive_ends(fd, 0);
  }

  static bool shut(const FakeEngine::Descriptor& d) { return std::ranges::count(d.shutdowns, SHUT_RDWR) > 0; }

  Dice dice_;
  RandomEcho protocol_;
  FakeEngine* engine_ = nullptr;
  std::unique_ptr<Loop> loop_;
  std::set<int> clients_;           // accepted, or about to be, and not closed
  std::map<int, std::string> fed_;  // since it was accepted
  std::vector<ConnectionId> resumable_;
  size_t closes_seen_ = 0;
  uint64_t accepted_ = 0;
  uint64_t stale_ = 0;
  size_t settled_ = 0;
  size_t bytes_echoed_ = 0;
};

TEST(LoopAtRandom, KeepsItsPromises) {
  uint64_t sheds = 0;
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    SCOPED_TRACE(seed);
    Driver driver(seed);
    for (int step = 1; step <= 20'000; ++step) {
      driver.step();
      if (step % 500 == 0) driver.settle();
      ASSERT_FALSE(testing::Test::HasFailure()) << "at step " << step;
    }
    driver.finish();
    sheds += driver.sheds();
  }
  EXPECT_GT(sheds, 0U);
}

}  // namespace
}  // namespace kiln::core
