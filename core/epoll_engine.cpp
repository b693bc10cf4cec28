// The epoll engine: level-triggered readiness turned into completions. Interest is taken away lazily, when an event
// comes that nobody waits for, so that a receive that is armed again and again costs no epoll_ctl.
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <deque>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/fd.h"
#include "core/engine.h"

namespace kiln::core {

namespace {

constexpr size_t kReceiveBytes = 64 * 1024;
constexpr int kAcceptsAWait = 64;

struct Descriptor {
  enum class Reading : uint8_t { Nothing, Once, Stream, AcceptingOnce, Accepting, Watching };
  Reading reading = Reading::Nothing;
  bool sending = false;     // true while a send waits for room in the socket, or a connect for its peer
  bool connecting = false;  // that it is a connect
  uint32_t registered = 0;  // events epoll knows of; 0: not in the set
  Token read_token{};
  Token send_token{};
  std::span<const char> unsent{};
  size_t sent = 0;

  [[nodiscard]] uint32_t wanted() const {
    return (reading == Reading::Nothing ? 0U : static_cast<uint32_t>(EPOLLIN)) |
           (sending ? static_cast<uint32_t>(EPOLLOUT) : 0U);
  }
};

class EpollEngine final : public Engine {
 public:
  explicit EpollEngine(base::Fd epoll) : epoll_(std::move(epoll)), received_(kReceiveBytes) {}

  void accept(int listener, Token token, Repeat repeat) override {
    ::fcntl(listener, F_SETFL, ::fcntl(listener, F_GETFL) | O_NONBLOCK);
    read(listener, token,
         repeat == Repeat::Once ? Descriptor::Reading::AcceptingOnce : Descriptor::Reading::Accepting);
  }

  void connect(int fd, Token token, const SocketAddress& address) override {
    ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
    Descriptor& d = descriptor(fd);
    CHECK(!d.sending);
    d.sending = d.connecting = true;
    d.send_token = token;
    d.sent = 0;
    if (::connect(fd, address.get(), address.size) == 0) {
      finish_connect(d, 0);
    } else if (errno == EINPROGRESS) {
      register_interest(fd, d);
    } else {
      finish_connect(d, -errno);
    }
  }

  void receive(int fd, Token token, Repeat mode) override {
    read(fd, token, mode == Repeat::Once ? Descriptor::Reading::Once : Descriptor::Reading::Stream);
  }

  void watch(int eventfd, Token token) override { read(eventfd, token, Descriptor::Reading::Watching); }

  void send(int fd, Token token, std::span<const char> data) override {
    Descriptor& d = descriptor(fd);
    CHECK(!d.sending);
    d.sending = true;
    d.send_token = token;
    d.unsent = data;
    d.sent = 0;
    continue_send(fd, d);
    if (d.sending) register_interest(fd, d);
  }

  void cancel(int fd, Token token) override {
    Descriptor& d = descriptor(fd);
    if (d.reading != Descriptor::Reading::Nothing && d.read_token == token) {
      d.reading = Descriptor::Reading::Nothing;
      finished_.push_back({.token = token, .result = -ECANCELED});
    } else if (d.sending && d.send_token == token) {
      d.sending = d.connecting = false;
      finished_.push_back({.token = token, .result = d.sent > 0 ? static_cast<int>(d.sent) : -ECANCELED});
    }
  }

  void shutdown(int fd, int how) override { ::shutdown(fd, how); }
  void reset_at_close(int fd) override { set_reset_at_close(fd); }

  void close(int fd) override {
    Descriptor& d = descriptor(fd);
    CHECK(d.reading == Descriptor::Reading::Nothing);
    CHECK(!d.sending);
    d = {};  // closing takes it out of the epoll set
    ::close(fd);
  }

  bool wait(std::optional<Duration> timeout, CompletionSink& sink) override {
    counters_.waits.add();
    timespec until{};
    const timespec* until_at = nullptr;
    if (!finished_.empty()) timeout = Duration::zero();
    if (timeout) {
      const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(*timeout);
      until.tv_sec = seconds.count();
      until.tv_nsec = (*timeout - seconds).count();
      until_at = &until;
    }
    std::array<epoll_event, 256> events;
    const int ready = wait_for(events, until_at);
    sink.woke();
    // Sends that finish while the sink is called are delivered in the same wait: their answers are gone already. Not
    // for ever, though: who has pipelined a thousand requests would have them all answered before others are heard.
    size_t budget = finished_.size() + 2 * static_cast<size_t>(std::max(ready, 0));
    deliver_finished(sink, budget);
    for (int i = 0; i < ready; ++i) {
      deliver(events[static_cast<size_t>(i)], sink);
      deliver_finished(sink, budget);
    }
    return ready < static_cast<int>(events.size()) && finished_.empty();
  }

  [[nodiscard]] EngineKind kind() const override { return EngineKind::Epoll; }

 private:
  int wait_for(std::span<epoll_event> events, const timespec* until) {
    if (until == nullptr || (until->tv_sec == 0 && until->tv_nsec == 0)) {
      return ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), until == nullptr ? -1 : 0);
    }
    // Exact to the timer's slack; Linux 5.11, and some sandboxes refuse what they do not know.
    const int ready = ::epoll_pwait2(epoll_.get(), events.data(), static_cast<int>(events.size()), until, nullptr);
    if (ready >= 0 || errno == EINTR) return ready;
    const long milliseconds = until->tv_sec * 1000 + (until->tv_nsec + 999'999) / 1'000'000;
    return ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()),
                        static_cast<int>(std::min(milliseconds, 60'000L)));
  }

  Descriptor& descriptor(int fd) {
    CHECK(fd >= 0);
    const auto index = static_cast<size_t>(fd);
    if (index >= descriptors_.size()) descriptors_.resize(index + 1);
    return descriptors_[index];
  }

  void read(int fd, Token token, Descriptor::Reading reading) {
    Descriptor& d = descriptor(fd);
    CHECK(d.reading == Descriptor::Reading::Nothing);
    d.reading = reading;
    d.read_token = token;
    register_interest(fd, d);
  }

  void register_interest(int fd, Descriptor& d) {
    const uint32_t events = d.registered | d.wanted();
    if (events != d.registered) set_interest(fd, d, events);
  }

  void set_interest(int fd, Descriptor& d, uint32_t events) {
    const int change = events == 0 ? EPOLL_CTL_DEL : d.registered == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
    epoll_event event{};
    event.events = events;
    event.data.fd = fd;
    if (::epoll_ctl(epoll_.get(), change, fd, &event) == 0) {
      d.registered = events;
      return;
    }
    // ENOMEM or ENOSPC (fs.epoll.max_user_watches): the operations end with that error.
    fail(d, -errno);
  }

  void fail(Descriptor& d, int error) {
    if (std::exchange(d.reading, Descriptor::Reading::Nothing) != Descriptor::Reading::Nothing) {
      finished_.push_back({.token = d.read_token, .result = error});
    }
    d.connecting = false;
    if (std::exchange(d.sending, false)) finished_.push_back({.token = d.send_token, .result = error});
  }

  void deliver_finished(CompletionSink& sink, size_t& budget) {
    for (; budget > 0 && !finished_.empty(); --budget) {
      const Completion completion = finished_.front();
      finished_.pop_front();
      counters_.completions.add();
      sink.complete(completion);
    }
  }

  void deliver(const epoll_event& event, CompletionSink& sink) {
    const int fd = event.data.fd;
    constexpr uint32_t kTrouble = EPOLLERR | EPOLLHUP;  // reported without being asked for
    if ((event.events & (EPOLLOUT | kTrouble)) != 0 && descriptor(fd).sending) continue_send(fd, descriptor(fd));
    if ((event.events & (EPOLLIN | kTrouble)) != 0) deliver_readable(fd, sink);

    // The sink may have closed the descriptor, and a new one may have its number already: look afresh.
    Descriptor& d = descriptor(fd);
    if (d.registered == 0) return;
    const uint32_t wanted = d.wanted();
    if ((event.events & ~wanted & (EPOLLIN | EPOLLOUT)) != 0 || ((event.events & kTrouble) != 0 && wanted == 0)) {
      set_interest(fd, d, wanted);
    }
  }

  void deliver_readable(int fd, CompletionSink& sink) {
    switch (descriptor(fd).reading) {
      case Descriptor::Reading::Nothing: return;
      case Descriptor::Reading::AcceptingOnce:
      case Descriptor::Reading::Accepting: return deliver_accepted(fd, sink);
      case Descriptor::Reading::Watching:
        counters_.completions.add();
        return sink.complete({.token = descriptor(fd).read_token, .result = EPOLLIN, .more = true});
      case Descriptor::Reading::Once:
      case Descriptor::Reading::Stream: return deliver_received(fd, sink);
    }
  }

  void deliver_received(int fd, CompletionSink& sink) {
    const ssize_t got = ::recv(fd, received_.data(), received_.size(), MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    Descriptor& d = descriptor(fd);
    const bool more = got > 0 && d.reading == Descriptor::Reading::Stream;
    if (!more) d.reading = Descriptor::Reading::Nothing;
    counters_.completions.add();
    sink.complete({.token = d.read_token,
                   .result = got < 0 ? -errno : static_cast<int>(got),
                   .more = more,
                   .data = {received_.data(), got < 0 ? 0 : static_cast<size_t>(got)}});
  }

  void deliver_accepted(int listener, CompletionSink& sink) {
    const Token token = descriptor(listener).read_token;
    // The sink may cancel or arm again in between, so the state is looked at every time.
    const auto is_accepting = [&] {
      const Descriptor::Reading reading = descriptor(listener).reading;
      return reading == Descriptor::Reading::AcceptingOnce || reading == Descriptor::Reading::Accepting;
    };
    for (int i = 0; i < kAcceptsAWait && is_accepting(); ++i) {
      const int fd = ::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (fd < 0 && errno == EAGAIN) return;
      const int result = fd < 0 ? -errno : fd;
      Descriptor& d = descriptor(listener);
      const bool more = result >= 0 && d.reading == Descriptor::Reading::Accepting;
      if (!more) d.reading = Descriptor::Reading::Nothing;
      counters_.completions.add();
      sink.complete({.token = token, .result = result, .more = more});
    }
  }

  void finish_connect(Descriptor& d, int result) {
    d.sending = d.connecting = false;
    finished_.push_back({.token = d.send_token, .result = result});
  }

  void continue_send(int fd, Descriptor& d) {
    if (d.connecting) {  // connect(2): writable, or in trouble, when it is decided
      int error = 0;
      socklen_t size = sizeof error;
      ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
      return finish_connect(d, -error);
    }
    while (!d.unsent.empty()) {
      const ssize_t put = ::send(fd, d.unsent.data(), d.unsent.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (put < 0 && errno == EINTR) continue;
      if (put < 0 && errno == EAGAIN) return;
      if (put < 0) {
        d.sending = false;
        finished_.push_back({.token = d.send_token, .result = d.sent > 0 ? static_cast<int>(d.sent) : -errno});
        return;
      }
      d.sent += static_cast<size_t>(put);
      d.unsent = d.unsent.subspan(static_cast<size_t>(put));
    }
    d.sending = false;
    finished_.push_back({.token = d.send_token, .result = static_cast<int>(d.sent)});
  }

  base::Fd epoll_;
  std::deque<Descriptor> descriptors_;  // by number; a deque, so that growing moves none
  std::deque<Completion> finished_;     // without data
  std::vector<char> received_;
};

}  // namespace

base::Result<std::unique_ptr<Engine>> open_epoll() {
  base::Fd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll.valid()) return base::system_error("epoll_create1", errno);
  return std::make_unique<EpollEngine>(std::move(epoll));
}

}  // namespace kiln::core
