#include "core/loop.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/check.h"

namespace kiln::core {

namespace {

constexpr Duration kPauseMin = std::chrono::milliseconds(50);
constexpr Duration kPauseMax = std::chrono::seconds(1);
constexpr Duration kOversleptBy = std::chrono::milliseconds(200);
constexpr Duration kExpireAtLeastEvery = std::chrono::seconds(1);
constexpr size_t kStarvedATurn = 64;
constexpr size_t kSpareBuffersMax = 64;
constexpr size_t kBufferBytes = 4 * 1024;
constexpr size_t kSpareBufferBytesMax = 64 * 1024;

// Below this many open connections a listener at its cap accepts again.
uint32_t low_water(uint32_t connections_max) { return connections_max - std::max(connections_max / 20, 1U); }

}  // namespace

Loop::Loop(std::unique_ptr<Engine> engine, std::unique_ptr<Mailbox> mailbox, Protocol& protocol, LoopOptions options)
    : engine_(std::move(engine)),
      mailbox_(std::move(mailbox)),
      protocol_(protocol),
      options_(options),
      now_(engine_->now()),
      expired_at_(now_),
      wheel_(now_) {
  engine_->watch(mailbox_->eventfd(), {Operation::Wake, 0, 0});
}

Loop::~Loop() = default;

void Loop::run() {
  while (turn()) {
  }
}

bool Loop::turn() {
  const std::optional<Duration> limit = timeout();
  const TimePoint began = engine_->now();
  counters_.longest_turn_nanoseconds.raise_to(static_cast<uint64_t>((began - now_).count()));
  wake_due_ = limit ? std::optional(began + *limit) : std::nullopt;

  const bool drained = engine_->wait(limit, *this);
  arm_starved();
  expire(drained);
  run_scheduled();

  const bool listening = std::ranges::any_of(listening_, [](const Listening& l) { return l.fd.valid(); });
  return !draining_ || listening || counters_.open.get() > 0;
}

std::optional<Duration> Loop::timeout() const {
  if (!starved_.empty() || overslept_) return Duration::zero();
  std::optional<TimePoint> due = wheel_.next();
  if (!scheduled_.empty() && (!due || scheduled_.begin()->first < *due)) due = scheduled_.begin()->first;
  if (!due) return std::nullopt;
  return std::max(Duration::zero(), Duration(*due - engine_->now()));
}

void Loop::woke() {
  now_ = engine_->now();
  overslept_ = wake_due_ && now_ - *wake_due_ > kOversleptBy;
  counters_.turns.add();
  protocol_.turn_began(now_);
}

void Loop::complete(const Completion& completion) {
  const Token token = completion.token;
  switch (token.operation) {
    case Operation::Accept: return accepted(completion);
    case Operation::Wake:
      for (Mailbox::Letter& letter : mailbox_->take()) letter();
      if (!completion.more) engine_->watch(mailbox_->eventfd(), token);
      return;
    case Operation::Connect:
    case Operation::Receive:
    case Operation::Send: {
      CHECK(token.slot < connections_.size());
      Connection& connection = connections_[token.slot];
      if (connection.state() == Connection::State::Free || connection.generation() != token.generation) {
        return counters_.stale_completions.add();
      }
      return connection.complete(completion);
    }
    case Operation::Cancel: return;
  }
}

// --- Listening -------------------------------------------------------------------------------------------------------

uint32_t Loop::listen(base::Fd listener, uint32_t connections_max) {
  CHECK(listener.valid());
  CHECK(connections_max > 0);
  const auto index = static_cast<uint32_t>(listening_.size());
  Listening& listening = listening_.emplace_back();
  listening.fd = std::move(listener);
  listening.connections_max = connections_max;
  arm_accept(listening, index);
  return index;
}

void Loop::arm_accept(Listening& listening, uint32_t index) {
  if (listening.accepting || listening.pausing || listening.closing) return;
  if (listening.open >= listening.connections_max) return;
  // A stream goes on for a while after it was cancelled, with as many clients as wait in the backlog: where so many
  // have no place it is one accept each. Twice the room to begin one, so that the two do not alternate.
  listening.accepting = true;
  listening.streaming = room(listening) >= 2 * options_.stream_room_min;
  engine_->accept(listening.fd.get(), {Operation::Accept, 0, index},
                  listening.streaming ? Repeat::Stream : Repeat::Once);
}

uint32_t Loop::room(const Listening& listening) {
  return listening.connections_max - std::min(listening.open, listening.connections_max);
}

void Loop::accepted(const Completion& completion) {
  const uint32_t index = completion.token.slot;
  Listening& listening = listening_[index];
  if (!completion.more) listening.accepting = listening.cancelled = false;
  if (completion.result >= 0) {
    listening.pause = {};
    open_connection(completion.result, index);
  } else {
    accept_failed(listening, index, -completion.result);
  }
  if (listening.closing && !listening.accepting) return close_listener(listening);
  const bool enough = room(listening) == 0 || room(listening) < options_.stream_room_min;
  if (enough && listening.streaming && listening.accepting && !listening.cancelled) {
    listening.cancelled = true;
    engine_->cancel(listening.fd.get(), {Operation::Accept, 0, index});
  }
  arm_accept(listening, index);
}

void Loop::accept_failed(Listening& listening, uint32_t index, int error) {
  switch (error) {
    case ECANCELED: return;
    case ECONNABORTED:
    case EINTR:
    case EPROTO:
    case EPERM: return counters_.accept_errors.add();  // that client is gone; the next one may be fine
    default: break;
  }
  if (listening.closing) return;
  // EMFILE, ENFILE, ENOBUFS, ENOMEM: arming again at once fails at once, whether or not a client waits. Clients stay in
  // the backlog meanwhile.
  counters_.accept_errors.add();
  listening.pause = std::clamp(listening.pause * 2, kPauseMin, kPauseMax);
  listening.pausing = true;
  schedule(now_ + listening.pause, [this, index] {
    listening_[index].pausing = false;
    arm_accept(listening_[index], index);
  });
}

void Loop::open_connection(int fd, uint32_t listener) {
  Listening& listening = listening_[listener];
  // No listener takes the places of another.
  if (halted_ || room(listening) == 0 || counters_.open.get() >= options_.connections_max) {
    counters_.turned_away.add();
    engine_->close(fd);
    return;
  }
  const uint32_t slot = take_slot();
  ++listening.open;
  counters_.accepted.add();
  connections_[slot].open(fd, listener);
}

void Loop::connect(const SocketAddress& address, Duration timeout) {
  const int fd = halted_ ? -ECANCELED : engine_->new_socket(address.storage.ss_family);
  // Later, so that who tries again at once does not spin through a shortage.
  if (fd < 0) {
    schedule(now_ + kPauseMin, [this, error = -fd] { protocol_.connect_failed(error); });
    return;
  }
  connections_[take_slot()].connect(fd, address, timeout);
}

uint32_t Loop::take_slot() {
  counters_.open.add();
  if (free_slots_.empty()) {
    connections_.emplace_back(*this, static_cast<uint32_t>(connections_.size()));
    return static_cast<uint32_t>(connections_.size() - 1);
  }
  const uint32_t slot = free_slots_.back();
  free_slots_.pop_back();
  return slot;
}

void Loop::released(uint32_t slot, uint32_t listener) {
  wheel_.disarm(slot);
  holders_.set(connections_[slot].held(), 0);
  counters_.held_bytes.set(holders_.bytes());
  free_slots_.push_back(slot);
  counters_.open.set(counters_.open.get() - 1);
  if (listener == Connection::kNoListener) return;
  Listening& listening = listening_[listener];
  --listening.open;
  if (listening.open <= low_water(listening.connections_max)) arm_accept(listening, listener);
}

void Loop::close_listener(Listening& listening) { engine_->close(listening.fd.release()); }

void Loop::drain() {
  if (std::exchange(draining_, true)) return;
  for (uint32_t index = 0; index < listening_.size(); ++index) {
    Listening& listening = listening_[index];
    listening.closing = true;
    while (!halted_ && room(listening) > 0) {
      const int fd = engine_->accept_now(listening.fd.get());
      if (fd < 0) break;
      open_connection(fd, index);
    }
    // The shutdown ends the accept that is armed (EINVAL) and refuses new clients.
    engine_->shutdown(listening.fd.get(), SHUT_RDWR);
    if (!listening.accepting) close_listener(listening);
  }
}

void Loop::halt() {
  halted_ = true;
  drain();
  for_each_open([](Connection& connection) { connection.abort(); });
}

// --- Connections -----------------------------------------------------------------------------------------------------

Connection* Loop::find(ConnectionId id) {
  if (id.slot >= connections_.size()) return nullptr;
  Connection& connection = connections_[id.slot];
  if (connection.generation() != id.generation || connection.state() != Connection::State::Open) return nullptr;
  return &connection;
}

void Loop::for_each_open(const std::function<void(Connection&)>& visit) {
  for (Connection& connection : connections_) {
    if (connection.state() != Connection::State::Free && connection.state() != Connection::State::Closing) {
      visit(connection);
    }
  }
}

void Loop::lend_buffer(std::string& empty) {
  if (empty.capacity() >= kBufferBytes) return;
  if (spare_buffers_.empty()) {
    empty.reserve(kBufferBytes);
    return;
  }
  empty.swap(spare_buffers_.back());
  spare_buffers_.pop_back();
}

void Loop::take_back_buffer(std::string& empty) {
  CHECK(empty.empty());
  if (empty.capacity() >= kBufferBytes && empty.capacity() <= kSpareBufferBytesMax &&
      spare_buffers_.size() < kSpareBuffersMax) {
    spare_buffers_.push_back(std::move(empty));
  }
  std::string().swap(empty);
}

void Loop::account(Connection& connection) {
  holders_.set(connection.held(), connection.held_bytes());
  while (holders_.bytes() > options_.held_bytes_max) {
    Connection& victim = connections_[holders_.oldest()->slot];
    const size_t held = victim.held_bytes();  // nothing when it is closing: the kernel has the rest
    if (held > 0) {
      counters_.shed.add();
      victim.shed();
      if (victim.held_bytes() >= held) victim.give_up();
      holders_.set(victim.held(), 0);  // what it holds now is its last answer: that must have time to go out
    }
    holders_.set(victim.held(), victim.held_bytes());
  }
  counters_.held_bytes.set(holders_.bytes());
}

void Loop::arm_starved() {
  // A share of them a turn, from the head: buffers are back by now, and nobody waits for ever.
  for (size_t n = std::min(starved_.size(), kStarvedATurn); n > 0; --n) {
    const ConnectionId id = starved_.front();
    starved_.pop_front();
    Connection& connection = connections_[id.slot];
    if (connection.generation() == id.generation) connection.receive_again();
  }
}

// --- Time ------------------------------------------------------------------------------------------------------------

Loop::Appointment Loop::schedule(TimePoint when, Mailbox::Letter letter) {
  return scheduled_.emplace(std::max(when, now_), std::move(letter));  // behind all that is due already
}

void Loop::expire(bool drained) {
  // After a stall, what arrived meanwhile is drained first, by the turn that follows at once. A loop that never gets to
  // the end of its completions looks once a second all the same.
  if (overslept_ || (!drained && now_ - expired_at_ < kExpireAtLeastEvery)) return;
  expired_at_ = now_;
  wheel_.expire(now_, [this](uint32_t slot) { return connections_[slot].deadline_passed(now_); });
}

void Loop::run_scheduled() {
  if (scheduled_.empty() || scheduled_.begin()->first > now_) return;
  // What these letters schedule comes behind the last of them: it waits for the next turn even if it is due. One that
  // schedules itself into the past would keep completions and the mailbox from their turn for ever.
  const Appointment end = scheduled_.emplace(now_, nullptr);
  while (scheduled_.begin() != end) {
    Mailbox::Letter letter = std::move(scheduled_.begin()->second);
    scheduled_.erase(scheduled_.begin());
    letter();
  }
  scheduled_.erase(end);
}

}  // namespace kiln::core
