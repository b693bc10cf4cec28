// One connection, accepted or made: a slot in the loop's pool, at a fixed address. It keeps the promises of the socket:
// one receive and one send in flight, nothing reused before its last completion, closed by one procedure.
//
//   Connecting --made--> Open, or failed, late, abort(): Closing
//
//   Open --finish()--> Flushing --sent--> Lingering --end, silence, 30 s--> Closing --all completed--> Free
//     |                    |                                                  ^
//     +---- abort(), peer gone, write stalled --------------------------------+
//
// Closing is a join: shutdown(2) makes what is in flight complete; close(2) follows the last completion. Who is given
// up is reset: a plain close would leave his bytes, or ours, with the kernel for minutes, and him without a word.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/engine.h"
#include "core/holders.h"

namespace kiln::core {

class Loop;

// Valid for ever: the generation tells a reused slot from its former owner.
struct ConnectionId {
  uint32_t slot = 0;
  uint32_t generation = 0;

  friend bool operator==(const ConnectionId&, const ConnectionId&) = default;
};

// Lingering reads and drops what the peer still sends, so that the kernel does not answer it with a reset that would
// destroy our last response (RFC 9112 section 9.6). It is bounded in time, not in bytes: whoever sends without a look
// at what has come would otherwise never get to read why he was refused.
enum class Linger : uint8_t { No, Yes };

class Connection {
 public:
  static constexpr uint32_t kNoListener = UINT32_MAX;  // of a connection that Loop::connect() made

  Connection(Loop& loop, uint32_t slot) : loop_(loop), slot_(slot) { held_.slot = slot; }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // For protocols. ---------------------------------------------------------------------------------------------------

  [[nodiscard]] ConnectionId id() const { return {slot_, generation_}; }
  [[nodiscard]] int fd() const { return fd_; }
  [[nodiscard]] uint32_t listener() const { return listener_; }  // what Loop::listen() returned, or kNoListener
  // True when bytes have come that will be offered once the answer under way is sent.
  [[nodiscard]] bool has_input() const { return sending_now_ && !input_.empty(); }

  // Bytes appended here are sent when the current call of the protocol returns, or at resume().
  [[nodiscard]] std::string& output() { return output_; }

  // After answering outside a call of the loop: sends the output and offers kept input again.
  void resume();
  // No more input is offered; closes when the output is sent.
  void finish(Linger linger);
  // Closes without sending what is left.
  void abort();

  // At most one; a new one replaces it. TimerWheel::kNever: none. Ignored after finish().
  void set_deadline(TimePoint deadline);

  // For the loop. ----------------------------------------------------------------------------------------------------

  enum class State : uint8_t { Free, Connecting, Open, Flushing, Lingering, Closing };

  void open(int fd, uint32_t listener);
  void connect(int fd, const SocketAddress& address, Duration timeout);
  void complete(const Completion& completion);
  void receive_again();                      // after a receive that found no buffer
  TimePoint deadline_passed(TimePoint now);  // returns the deadline in force afterwards
  void shed();                               // gives up what it holds, and itself if need be
  void give_up();                            // resets
  [[nodiscard]] size_t held_bytes() const;
  [[nodiscard]] Holders::Link& held() { return held_; }
  [[nodiscard]] State state() const { return state_; }
  [[nodiscard]] uint32_t generation() const { return generation_; }

 private:
  void begin();
  void connected(const Completion& completion);
  void received(const Completion& completion);
  void sent(const Completion& completion);
  void offer(std::string_view fresh);
  void drop(size_t bytes);
  void stop_receiving();
  void proceed();
  void send_output();
  void send_chunk();
  void arm_receive();
  void linger();
  void extend_lingering();
  void connect_failed(int error);
  void close();
  void begin_closing();
  void free_when_idle();
  void enter(State state);
  void set_own_deadline(Duration from_now);
  [[nodiscard]] bool may_offer() const { return state_ == State::Open && !sending_now_; }
  [[nodiscard]] Token token(Operation operation) const { return {operation, generation_, slot_}; }

  Loop& loop_;
  std::string input_;                          // what the protocol has not taken yet
  std::string output_;                         // what it wrote since the last send
  std::string sending_;                        // the engine's while sending_now_
  TimePoint deadline_ = TimePoint::max();      // the protocol's
  TimePoint own_deadline_ = TimePoint::max();  // of a send, of lingering or of closing
  TimePoint linger_until_{};                   // in Lingering: whatever comes
  size_t dropped_bytes_ = 0;                   // in Flushing
  size_t sent_bytes_ = 0;  // of sending_
  Holders::Link held_;
  int fd_ = -1;
  uint32_t slot_;
  uint32_t generation_ = 0;
  uint32_t listener_ = 0;
  State state_ = State::Free;
  Linger linger_ = Linger::No;
  bool connecting_ = false;         // a connect is in flight
  bool receiving_ = false;          // a receive is in flight
  bool receive_cancelled_ = false;  // it has been asked to end
  bool lives_on_ = false;           // bytes have come before, so the next receive is a stream
  bool starved_ = false;            // it waits in the loop's queue for a buffer
  bool sending_now_ = false;        // a send is in flight
  bool input_ended_ = false;        // the peer has sent its end
  bool end_told_ = false;           // and the protocol knows
  bool in_protocol_ = false;        // a call of the protocol is under way
  bool aborted_ = false;            // abort() was called, inside one
};

}  // namespace kiln::core
