// The event loop: one thread, one engine, a pool of connections, deadlines, and a mailbox for other threads.
//
// One turn: wait for completions (everything queued is handed over by the same call), dispatch them, arm receives that
// found no buffer, then expire deadlines. Deadlines come after I/O, and not in a turn that has overslept or left
// completions behind: a process that was throttled or stopped must not drop the clients whose bytes are already there.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/counter.h"
#include "base/fd.h"
#include "core/connection.h"
#include "core/engine.h"
#include "core/holders.h"
#include "core/mailbox.h"
#include "core/protocol.h"
#include "core/timer_wheel.h"

namespace kiln::core {

struct LoopOptions {
  uint32_t connections_max = 16384;                  // of all listeners
  uint32_t stream_room_min = 1024;                   // places left below which clients are accepted one by one
  size_t input_bytes_max = 64 * 1024;                // kept for a connection before its receives stop
  size_t send_bytes_max = 256 * 1024;                // handed to the kernel at once
  Duration send_timeout = std::chrono::seconds(30);  // for each such piece
  Duration linger_timeout = std::chrono::seconds(2);    // without a byte
  Duration linger_time_max = std::chrono::seconds(30);  // in all
  uint32_t lingering_max = 1024;                        // connections; more are closed at once
  size_t held_bytes_max = 32 * 1024 * 1024;             // of all connections; then who has held for longest is shed
  Duration close_timeout = std::chrono::seconds(2);  // for the last completions, before they are cancelled
};

struct LoopCounters {
  base::Counter turns;
  base::Counter longest_turn_nanoseconds;
  base::Counter accepted;
  base::Counter open;  // connections now
  base::Counter accept_errors;
  base::Counter stale_completions;
  base::Counter forced_closes;
  base::Counter turned_away;  // accepted after a halt, or past the cap by a stream; closed at once
  base::Counter lingering;    // connections now
  base::Counter held_bytes;   // now: input kept, answers not sent, and what the protocol keeps
  base::Counter shed;         // connections that had to give up what they held
};

class Loop final : public CompletionSink {
 public:
  // On the thread that will run it. `protocol` outlives the loop.
  Loop(std::unique_ptr<Engine> engine, std::unique_ptr<Mailbox> mailbox, Protocol& protocol, LoopOptions options);
  ~Loop() override;

  // Accepts on `listener` while fewer than `connections_max` of its connections are open. Returns its index.
  uint32_t listen(base::Fd listener, uint32_t connections_max);

  // Makes a connection; opened() or connect_failed() of the protocol follows, the latter with ETIMEDOUT after
  // `timeout`. `address` outlives the loop. The loop's thread.
  void connect(const SocketAddress& address, Duration timeout);

  void run();   // until drained or halted
  bool turn();  // one turn; false when there is nothing left to do

  // Any thread: `letter` runs on the loop's thread.
  void post(Mailbox::Letter letter) { mailbox_->post(std::move(letter)); }

  // The loop's thread, all of the following. -------------------------------------------------------------------------

  // `letter` runs at the end of the first turn from `when` on, unless that is called off before; one that such a letter
  // schedules runs in a later turn.
  using Appointment = std::multimap<TimePoint, Mailbox::Letter>::iterator;
  Appointment schedule(TimePoint when, Mailbox::Letter letter);
  void call_off(Appointment appointment) { scheduled_.erase(appointment); }
  // Stops listening; what waits in the backlog is accepted first. run() ends when the last connection is gone.
  void drain();
  // Also closes every connection, whatever it is doing, and those that are still accepted.
  void halt();

  [[nodiscard]] Connection* find(ConnectionId id);  // nothing unless it is open
  void for_each_open(const std::function<void(Connection&)>& visit);
  [[nodiscard]] TimePoint now() const { return now_; }  // when this turn began
  [[nodiscard]] const LoopOptions& options() const { return options_; }
  [[nodiscard]] const LoopCounters& counters() const { return counters_; }                     // any thread
  [[nodiscard]] const EngineCounters& engine_counters() const { return engine_->counters(); }  // any thread
  [[nodiscard]] Engine& engine() { return *engine_; }

  // For connections. -------------------------------------------------------------------------------------------------

  [[nodiscard]] Protocol& protocol() { return protocol_; }
  [[nodiscard]] TimerWheel& wheel() { return wheel_; }
  void lend_buffer(std::string& empty);       // an empty string gets room
  void take_back_buffer(std::string& empty);  // and loses it
  void drop_spare_buffers() { std::vector<std::string>().swap(spare_buffers_); }
  void queue_starved(ConnectionId id) { starved_.push_back(id); }
  void released(uint32_t slot, uint32_t listener);
  // What it holds may have changed. Not from inside a call of the protocol; others may be shed, and it itself.
  void account(Connection& connection);
  void count_forced_close() { counters_.forced_closes.add(); }
  [[nodiscard]] bool draining() const { return draining_; }
  [[nodiscard]] bool may_linger() const { return counters_.lingering.get() < options_.lingering_max; }
  void count_lingering(int change) {
    counters_.lingering.set(counters_.lingering.get() + static_cast<uint64_t>(int64_t{change}));
  }

  void woke() override;
  void complete(const Completion& completion) override;

 private:
  struct Listening {
    base::Fd fd;
    uint32_t connections_max = 0;
    uint32_t open = 0;
    Duration pause{};        // how long the last shortage was waited out
    bool accepting = false;  // an accept is in flight
    bool streaming = false;  // that accept is a stream
    bool cancelled = false;  // it has been asked to end
    bool pausing = false;    // waiting out a shortage
    bool closing = false;    // shut down
  };

  void accepted(const Completion& completion);
  void accept_failed(Listening& listening, uint32_t index, int error);
  void arm_accept(Listening& listening, uint32_t index);
  [[nodiscard]] static uint32_t room(const Listening& listening);
  void open_connection(int fd, uint32_t listener);
  uint32_t take_slot();
  void close_listener(Listening& listening);
  void arm_starved();
  void expire(bool drained);
  void run_scheduled();
  [[nodiscard]] std::optional<Duration> timeout() const;

  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Mailbox> mailbox_;
  Protocol& protocol_;
  const LoopOptions options_;
  LoopCounters counters_;
  TimePoint now_;
  TimePoint expired_at_;               // the last turn in which deadlines were looked at
  std::optional<TimePoint> wake_due_;  // when the wait under way ends at the latest
  bool overslept_ = false;             // the last wait ended long after that
  bool draining_ = false;
  bool halted_ = false;
  TimerWheel wheel_;
  std::multimap<TimePoint, Mailbox::Letter> scheduled_;
  std::deque<Listening> listening_;
  std::deque<Connection> connections_;  // grows by slots, never moves one
  std::vector<uint32_t> free_slots_;
  std::deque<ConnectionId> starved_;
  std::vector<std::string> spare_buffers_;
  Holders holders_;
};

}  // namespace kiln::core
