// An engine without a kernel: it notes what it is asked for, the test says what completes, when and how, and time
// stands still until the test moves it. It holds its user to the rules of engine.h; whoever breaks one finds it in
// violations().
#pragma once

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/engine.h"

namespace kiln::core {

class FakeEngine final : public Engine {
 public:
  struct Armed {
    Token token{};
    Repeat mode = Repeat::Once;
    std::span<const char> data{};  // of a send
    std::string copy = {};         // of the same, when it was handed over
    bool cancelled = false;
    bool ending = false;  // its last completion is scripted already
  };

  // What is known of a descriptor since it was accepted or first used.
  struct Descriptor {
    bool open = true;
    std::optional<Armed> reading;  // a receive, or a listener's accept
    std::optional<Armed> sending;
    std::optional<Armed> connecting;
    std::vector<int> shutdowns;  // each with its `how`
    bool resets = false;         // true when close() is to be a reset
    std::deque<int> backlog;     // of a listener
    unsigned receives = 0;
    unsigned accepts = 0;
    unsigned sends = 0;
    std::string sent;  // the bytes of completed sends
  };

  // Script: what the next wait() delivers, in this order. -------------------------------------------------------------

  // An accept of the mode Once ends with its client.
  void accepts(int listener, int fd) {
    const auto& reading = descriptors_[listener].reading;
    finish_reading(listener, {.result = fd, .more = reading && reading->mode == Repeat::Stream});
  }
  void accept_ends(int listener, int result) { finish_reading(listener, {.result = result}); }
  // Somebody waits in the backlog, for accept_now() alone.
  void waits(int listener, int fd) { descriptors_[listener].backlog.push_back(fd); }

  // A receive of the mode Once ends with its bytes; a stream does when `last` says so.
  enum class Last : uint8_t { No, Yes };
  void receives(int fd, std::string bytes, Last last = Last::No) {
    const auto& reading = descriptors_[fd].reading;
    const bool more = reading && reading->mode == Repeat::Stream && last == Last::No;
    const int size = static_cast<int>(bytes.size());
    finish_reading(fd, {.result = size, .more = more, .bytes = std::move(bytes)});
  }
  void receive_ends(int fd, int result) { finish_reading(fd, {.result = result}); }

  void sends(int fd) { send_ends(fd, static_cast<int>(descriptors_[fd].sending ? sending_size(fd) : 0)); }
  void send_ends(int fd, int result) {
    auto& sending = descriptors_[fd].sending;
    if (!sending || sending->ending) return complain("scripted the end of a send that is not in flight", fd);
    sending->ending = true;
    script_.push_back({.fd = fd, .token = sending->token, .result = result});
  }

  // The end of a connect.
  void connects(int fd, int result) {
    auto& connecting = descriptors_[fd].connecting;
    if (!connecting || connecting->ending) return complain("scripted the end of a connect that is not in flight", fd);
    connecting->ending = true;
    script_.push_back({.fd = fd, .token = connecting->token, .result = result});
  }

  // As the kernel would after shutdown(2) or a cancel: whatever is in flight ends.
  void everything_ends(int fd, int receive_result, int send_result) {
    const Descriptor& d = descriptors_[fd];
    if (d.reading && !d.reading->ending) receive_ends(fd, receive_result);
    if (d.sending && !d.sending->ending) send_ends(fd, send_result);
  }

  // A completion from nowhere, such as one that comes after its slot has a new owner.
  void delivers(Token token, int result) { script_.push_back({.fd = -1, .token = token, .result = result}); }

  // Time passes outside of wait(), or inside the next one.
  void advance(Duration by) { now_ += by; }
  void pass_while_waiting(Duration time) { waiting_time_ += time; }

  // What wait() returns from now on.
  void leave_completions_behind(bool behind) { drained_ = !behind; }

  // Record.
  // ------------------------------------------------------------------------------------------------------------

  [[nodiscard]] const Descriptor& descriptor(int fd) { return descriptors_[fd]; }
  [[nodiscard]] const std::vector<int>& closed() const { return closed_; }  // in order
  [[nodiscard]] const std::vector<std::string>& violations() const { return violations_; }
  [[nodiscard]] std::optional<Duration> last_timeout() const { return last_timeout_; }

  // Engine.
  // ------------------------------------------------------------------------------------------------------------

  void accept(int listener, Token token, Repeat repeat) override {
    ++descriptors_[listener].accepts;
    arm(listener, descriptors_[listener].reading, {.token = token, .mode = repeat}, "accept");
  }

  int accept_now(int listener) override {
    Descriptor& d = used(listener, "accept");
    if (d.backlog.empty()) return -EAGAIN;
    const int fd = d.backlog.front();
    d.backlog.pop_front();
    descriptors_[fd] = {};
    return fd;
  }

  // The number that next_socket() was told of, or what it is by itself.
  int new_socket(int /*family*/) override { return next_socket_; }
  void next_socket(int fd) { next_socket_ = fd; }

  void connect(int fd, Token token, const SocketAddress& /*address*/) override {
    descriptors_[fd] = {};
    arm(fd, descriptors_[fd].connecting, {.token = token}, "connect");
  }

  void receive(int fd, Token token, Repeat mode) override {
    ++descriptors_[fd].receives;
    arm(fd, descriptors_[fd].reading, {.token = token, .mode = mode}, "receive");
  }

  void send(int fd, Token token, std::span<const char> data) override {
    ++descriptors_[fd].sends;
    if (data.empty()) complain("send of nothing", fd);
    arm(fd, descriptors_[fd].sending, {.token = token, .data = data, .copy = {data.begin(), data.end()}}, "send");
  }

  void watch(int eventfd, Token token) override { watched_ = {eventfd, token}; }

  void cancel(int fd, Token token) override {
    Descriptor& d = used(fd, "cancel");
    if (d.reading && d.reading->token == token) d.reading->cancelled = true;
    if (d.sending && d.sending->token == token) d.sending->cancelled = true;
    if (d.connecting && d.connecting->token == token) d.connecting->cancelled = true;
  }

  void shutdown(int fd, int how) override { used(fd, "shutdown").shutdowns.push_back(how); }

  void reset_at_close(int fd) override { used(fd, "reset").resets = true; }

  void close(int fd) override {
    Descriptor& d = used(fd, "close");
    if (d.reading) complain("close with a receive or accept in flight", fd);
    if (d.sending) complain("close with a send in flight", fd);
    if (d.connecting) complain("close with a connect in flight", fd);
    d.open = false;
    closed_.push_back(fd);
  }

  bool wait(std::optional<Duration> timeout, CompletionSink& sink) override {
    counters_.waits.add();
    last_timeout_ = timeout;
    pollfd bell{.fd = watched_.first, .events = POLLIN, .revents = 0};
    const bool rings = ::poll(&bell, 1, 0) == 1;
    now_ += std::exchange(waiting_time_, Duration::zero());
    sink.woke();
    if (rings) sink.complete({.token = watched_.second, .result = POLLIN, .more = true});
    // What the sink causes to be scripted meanwhile belongs to the next wait.
    for (size_t n = script_.size(); n > 0; --n) {
      Scripted scripted = std::move(script_.front());
      script_.pop_front();
      deliver(scripted, sink);
    }
    return drained_;
  }

  [[nodiscard]] TimePoint now() const override { return now_; }
  [[nodiscard]] EngineKind kind() const override { return EngineKind::Epoll; }

 private:
  struct Scripted {
    int fd = -1;
    Token token{};
    int result = 0;
    bool more = false;
    std::string bytes = {};
  };

  void complain(const std::string& what, int fd) { violations_.push_back(what + ", descriptor " + std::to_string(fd)); }

  Descriptor& used(int fd, const char* by) {
    Descriptor& d = descriptors_[fd];
    if (!d.open) complain(std::string(by) + " after close", fd);
    return d;
  }

  void arm(int fd, std::optional<Armed>& place, Armed armed, const char* by) {
    used(fd, by);
    if (place) complain(std::string(by) + " with one in flight already", fd);
    place = std::move(armed);
  }

  [[nodiscard]] size_t sending_size(int fd) { return descriptors_[fd].sending->data.size(); }

  void finish_reading(int fd, Scripted scripted) {
    auto& reading = descriptors_[fd].reading;
    if (!reading || reading->ending) return complain("scripted a completion for nothing in flight", fd);
    reading->ending = !scripted.more;
    scripted.fd = fd;
    scripted.token = reading->token;
    script_.push_back(std::move(scripted));
  }

  void deliver(Scripted& scripted, CompletionSink& sink) {
    counters_.completions.add();
    if (scripted.fd >= 0) take_note(scripted);
    sink.complete({.token = scripted.token, .result = scripted.result, .more = scripted.more, .data = scripted.bytes});
    // Whoever still looks at the bytes afterwards sees these.
    std::ranges::fill(scripted.bytes, '!');
  }

  void take_note(const Scripted& scripted) {
    Descriptor& d = descriptors_[scripted.fd];
    switch (scripted.token.operation) {
      case Operation::Accept:
        if (scripted.result >= 0) descriptors_[scripted.result] = {};
        [[fallthrough]];
      case Operation::Receive:
        if (!scripted.more) d.reading.reset();
        return;
      case Operation::Send: {
        const Armed& send = *d.sending;
        if (!std::ranges::equal(send.data, send.copy)) complain("bytes of a send changed in flight", scripted.fd);
        if (scripted.result > 0) d.sent += send.copy.substr(0, static_cast<size_t>(scripted.result));
        d.sending.reset();
        return;
      }
      case Operation::Connect: return d.connecting.reset();
      default: return;
    }
  }

  TimePoint now_{std::chrono::hours(1)};  // like a machine that has been up for a while
  Duration waiting_time_{};
  bool drained_ = true;
  std::optional<Duration> last_timeout_;
  std::pair<int, Token> watched_{-1, {}};
  std::map<int, Descriptor> descriptors_;
  std::deque<Scripted> script_;
  std::vector<int> closed_;
  std::vector<std::string> violations_;
  int next_socket_ = -EMFILE;
};

}  // namespace kiln::core
