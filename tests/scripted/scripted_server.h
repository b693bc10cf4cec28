// The real server, app::Worker with all below it, on a kernel and with clients that do what a script says, and with
// somebody who watches: each request is answered once, in order, with its own bytes; nothing follows a last answer; no
// connection ends without a reason; the rules of core/engine.h hold; in the end everything is given back.
//
// A script is text, a letter an event. An event that cannot happen now does not. What a letter leaves open (how many
// bytes, which malformed request) follows from how many events came before, so that a script always does the same.
//
//   0-9  whom the next letters are about; 8 and 9 come through the admin listener
//   c    the client connects; C: and the stream of accepts ends, as after an overflow of the completion queue
//   e    accepting fails for want of descriptors; E: for that client only; V: it ends, as it was asked to
//
//   g h  the client writes GET, HEAD; q: with Connection: close; b B: of HTTP/1.0, without and with keep-alive
//   p k  POST with a length, in chunks; l: a longer one; w: with Expect: 100-continue
//   o    GET of a large answer; n: of what is not there, or not for everybody
//   x X  what must be refused: malformed, too large
//   f F  it sends its end: now, cutting what has not arrived; behind all that it wrote
//   r    it resets the connection, which is noticed by whatever completes next
//
//   i    a receive completes with one byte; j: with some; a: with all there is; A: the same, and the stream ends
//   N    a receive finds no buffer; I, G, K: it ends with EINTR, EAGAIN, ECANCELED
//   s    a send completes; S: cut short; Z: with ETIMEDOUT
//   *    the client is gone and all that is in flight fails
//
//   t    a turn of the loop; , . ; time passes: 60 ms, 700 ms, 4 s; ':' 3 s more than the next wait was meant to take
//   ~    a completion comes for a former owner of a slot; @: a letter from another thread
//   ^    the submission queue is full: what is begun from now on stays undone until the next '^'
//   &    completions are left behind at the end of a turn, until the next '&'
//   %    every answer is to be the last; !: drain; #: halt
//   L    a fault delays each answer by 60 ms, until the next 'L'
//   $    everything that can complete does, nothing new comes: then every request must have been answered
//
// A script that begins with '+' has the sizes of production; otherwise buffers and pieces are tiny.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "app/worker.h"
#include "core/fake_engine.h"
#include "tests/fuzz/response_check.h"

namespace kiln::scripted {

inline constexpr std::string_view kLetters = "0123456789cCeEVghqbBpklwonxXfFriajANIGKsSZ*t,.;:~@^&%!#$L";

// Where a connection stands when something happens to it, as far as it can be seen from outside.
enum class Place : uint8_t { New, Idle, Arriving, Answering, LastAnswer, Lingering, Closing };
inline constexpr size_t kPlaces = 7;

// Why a connection ended.
enum class Reason : uint8_t {
  LastAnswer,
  ClientEnded,
  Reset,
  SendFailed,
  SendStalled,
  Shed,
  Idle,
  TurnedAway,
  Drained,
  Halted
};
inline constexpr size_t kReasons = 10;

struct Counts {
  uint64_t events = 0;  // that could happen
  uint64_t turns = 0;
  uint64_t connections = 0;
  uint64_t answers = 0;
  uint64_t refusals = 0;
  uint64_t timeouts = 0;  // 408
  uint64_t sheds = 0;     // 503: too much is held
  uint64_t continues = 0;
  uint64_t starved = 0;
  uint64_t interrupted = 0;    // EINTR, EAGAIN, ECANCELED that nobody asked for
  uint64_t late_cancels = 0;   // bytes, or a client, after a cancel
  uint64_t streams_ended = 0;  // with bytes or a client
  uint64_t short_sends = 0;
  uint64_t held_back = 0;  // completions that a full queue made wait
  uint64_t stale = 0;
  uint64_t out_of_descriptors = 0;
  uint64_t latencies = 0;
  uint64_t settled = 0;  // times that everything was answered
  std::array<uint64_t, kPlaces> resets{}, ends{}, cut_sends{}, halts{}, drains{};
  std::array<uint64_t, kReasons> closes{};

  void add(const Counts& other);
  [[nodiscard]] std::string text() const;
};

class ScriptedServer {
 public:
  explicit ScriptedServer(bool production_sizes);
  ~ScriptedServer();

  void play(char letter);
  // Drains or halts, unless that was done, and lets all of it end. The last call.
  void end(bool by_halt);

  [[nodiscard]] const Counts& counts() const { return counts_; }
  // Of all that was seen; the same after the same script.
  [[nodiscard]] uint64_t digest() const { return digest_; }
  [[nodiscard]] const std::string& played() const { return played_; }

 private:
  // What a client asks, and what it may be told.
  struct Message {
    size_t begins = 0, ends = 0;  // in the client's stream
    size_t stops = 0;             // where the client waits for 100 Continue; 0: nowhere
    core::TimePoint began{};      // when its first byte had arrived
    std::string id = {};          // X-Request-Id
    int status = 200;
    bool head = false;
    bool checks_body = false;
    std::string body = {};  // then
    bool closes = false;    // true: the answer must be the last
    bool refused = false;   // true: it is no proper request, and may be refused before it is whole
    bool cut = false;       // true: its end never comes
  };

  struct Client {
    int fd = -1;
    uint32_t listener = 0;
    uint64_t serial = 0;
    bool accepted = false;
    std::string stream = {};  // all that it writes
    size_t on_the_way = 0;    // bytes of it that completions were scripted for
    size_t arrived = 0;       // bytes that the server was given
    bool ended = false;       // it writes no more
    bool end_on_the_way = false, end_arrived = false;
    bool reset = false;        // it is gone
    bool reset_told = false;   // and a completion says so
    bool send_failed = false;  // the same of a send
    std::deque<Message> messages = {};
    size_t answered = 0;         // of them
    bool continued = false;      // the current one was told to go on
    bool told_to_close = false;  // the last answer was seen
    std::string unread = {};     // handed to the engine, and not a whole answer yet
    size_t sends_seen = 0;
    size_t bytes_handed = 0;
    core::TimePoint opened{}, quiet_since{};  // since the last byte arrived
    core::TimePoint send_began{};
    size_t arrived_at_drain = 0;
    bool judged = false;                           // why it ends is known
    unsigned receives_begun = 0, sends_begun = 0;  // before the queue was full
    core::Token token{};                           // of one of its operations
  };

  bool happen(char letter);
  bool connect(char letter);
  bool accept_ends(char letter);
  bool write(char letter);
  void write_message(std::string_view bytes, Message message);
  bool write_echo(char letter);
  bool write_bad(char letter);
  bool end_stream(char letter);
  bool reset();
  bool receive(char letter);
  bool receive_fails(char letter);
  bool send_ends(char letter);
  bool all_fails();
  bool deliver_stale();
  bool toggle_full_queue();
  bool toggle_latency();
  void turn();
  bool settle();
  bool settle_client();
  void check_settled(const Client& client);

  void look(Client& client);
  void read_answers(Client& client);
  void check_answer(Client& client, const Message& message, const fuzz::ResponseSeen& seen);
  void judge_end(Client& client);
  void look_at_closed();
  [[nodiscard]] Place place_of(const Client& client);
  [[nodiscard]] bool is_undone(const Client& client, const core::FakeEngine::Armed& armed);
  [[nodiscard]] bool all_whole_answered(const Client& client, size_t arrived) const;

  [[nodiscard]] Client& client() { return clients_[current_]; }
  [[nodiscard]] bool has_begun(const Client& c) { return c.fd >= 0 && c.accepted; }
  // A number below `n` that follows from how far the script is.
  [[nodiscard]] size_t some(size_t n) const;
  void note(uint64_t value) { digest_ = (digest_ ^ value) * 0x100000001b3; }
  void require(bool holds, const char* what, const Client* about = nullptr);

  app::Pod pod_;
  core::FakeEngine* engine_ = nullptr;
  std::unique_ptr<app::Worker> worker_;
  app::WorkerView view_;
  uint64_t sheds_before_ = 0;  // this turn
  uint64_t turned_away_seen_ = 0;  // of those that the loop counts
  std::array<Client, 10> clients_{};
  size_t current_ = 0;
  uint64_t next_serial_ = 1;
  std::string played_;
  Counts counts_;
  uint64_t digest_ = 0xcbf29ce484222325;
  std::vector<core::Token> gone_;  // of connections that are no more
  size_t closes_seen_ = 0;
  size_t listeners_closed_ = 0;
  uint64_t letters_posted_ = 0, letters_read_ = 0;
  size_t requests_max_;
  bool full_queue_ = false;
  bool leaves_behind_ = false;
  std::optional<app::Faults::Id> latency_;  // the fault in force
  core::TimePoint late_until_{};            // answers may be, after one that was
  bool announced_ = false, draining_ = false, halted_ = false;
  bool goes_on_ = true;
};

// The whole of a script and its end.
Counts run_script(std::string_view script);

// From now on an abort, ours or the server's, prints what the running server has played and how to see it again.
void explain_aborts(std::string_view how_to_repeat);

}  // namespace kiln::scripted
