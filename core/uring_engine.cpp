// The io_uring engine. Receives take their buffer from the ring when data arrives, so that an idle connection holds
// none, and give it back as soon as the sink has seen the bytes.
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <deque>
#include <string>
#include <utility>

#include "base/check.h"
#include "core/buffer_ring.h"
#include "core/engine.h"
#include "core/ring.h"

namespace kiln::core {

namespace {

class UringEngine final : public Engine {
 public:
  UringEngine(BufferRing buffers, Ring ring) : buffers_(std::move(buffers)), ring_(std::move(ring)) {}

  void accept(int listener, Token token, Repeat repeat) override {
    issue({.kind = repeat == Repeat::Once ? Submission::Kind::Accept : Submission::Kind::AcceptStream,
           .fd = listener,
           .user_data = token.pack()});
  }

  void connect(int fd, Token token, const SocketAddress& address) override {
    issue({.kind = Submission::Kind::Connect, .fd = fd, .user_data = token.pack(), .address = &address});
  }

  void receive(int fd, Token token, Repeat mode) override {
    issue({.kind = mode == Repeat::Once ? Submission::Kind::Receive : Submission::Kind::ReceiveStream,
           .fd = fd,
           .user_data = token.pack(),
           .poll_first = !(token == non_empty_)});
  }

  void send(int fd, Token token, std::span<const char> data) override {
    issue({.kind = Submission::Kind::Send, .fd = fd, .user_data = token.pack(), .data = data});
  }

  void watch(int eventfd, Token token) override {
    issue({.kind = Submission::Kind::Watch, .fd = eventfd, .user_data = token.pack()});
  }

  void cancel(int /*fd*/, Token token) override {
    const uint64_t target = token.pack();
    const auto here = std::ranges::find(waiting_, target, &Submission::user_data);
    if (here != waiting_.end()) {  // the kernel has never seen it
      waiting_.erase(here);
      cancelled_here_.push_back(token);
      return;
    }
    issue({.kind = Submission::Kind::Cancel, .user_data = Token{Operation::Cancel, 0, 0}.pack(), .target = target});
  }

  void shutdown(int fd, int how) override { ::shutdown(fd, how); }
  void reset_at_close(int fd) override { set_reset_at_close(fd); }
  void close(int fd) override { ::close(fd); }

  bool wait(std::optional<Duration> timeout, CompletionSink& sink) override {
    counters_.waits.add();
    submit_waiting();
    if (!cancelled_here_.empty() || !waiting_.empty()) timeout = Duration::zero();
    ring_.enter(timeout);
    sink.woke();
    if (ring_.overflowed()) counters_.queue_overflows.add();

    deliver_cancelled(sink);
    // What is there now and no more: a full submission queue is handed over meanwhile, and who has pipelined a thousand
    // requests would have them all answered before anybody else is heard.
    for (size_t left = ring_.ready(); left > 0;) {
      const auto batch = ring_.reap(std::span(reaped_).first(std::min(left, reaped_.size())));
      left -= batch.size();
      counters_.completions.add(batch.size());
      for (const RingCompletion& completion : batch) deliver(completion, sink);
      buffers_.publish();
    }
    return ring_.ready() == 0 && !ring_.work_pending() && waiting_.empty();
  }

  [[nodiscard]] EngineKind kind() const override { return EngineKind::IoUring; }

  [[nodiscard]] std::string restrictions() const override {
    return ring_.restrictions() ? "in force" : "refused: " + ring_.restrictions().error().what;
  }

 private:
  void issue(const Submission& submission) {
    if (waiting_.empty() && ring_.push(submission)) return;
    counters_.queue_full.add();
    waiting_.push_back(submission);
  }

  void submit_waiting() {
    while (!waiting_.empty() && ring_.push(waiting_.front())) waiting_.pop_front();
  }

  void deliver_cancelled(CompletionSink& sink) {
    for (size_t n = cancelled_here_.size(); n > 0; --n) {
      const Token token = cancelled_here_.front();
      cancelled_here_.pop_front();
      sink.complete({.token = token, .result = -ECANCELED});
    }
  }

  void deliver(const RingCompletion& completion, CompletionSink& sink) {
    const Token token = Token::unpack(completion.user_data);
    if (token.operation == Operation::Cancel) return;
    Completion out{.token = token, .result = completion.result, .more = completion.more()};
    const std::optional<uint16_t> buffer = completion.buffer();
    if (token.operation == Operation::Receive) {
      if (out.result == -ENOBUFS) counters_.receives_starved.add();
      if (out.result > 0) {
        CHECK(buffer.has_value());
        out.data = buffers_.bytes(*buffer, static_cast<size_t>(out.result));
      }
      if (completion.non_empty()) non_empty_ = token;
    }
    sink.complete(out);
    non_empty_.reset();
    // Only bytes come in a buffer; some kernels set the flag on errors as well, with nothing behind it.
    if (buffer && out.result > 0) buffers_.give_back(*buffer);
  }

  std::array<RingCompletion, 256> reaped_{};
  std::deque<Submission> waiting_;  // for room in the submission queue
  std::deque<Token> cancelled_here_;
  std::optional<Token> non_empty_;  // the receive being delivered, when its socket is known to hold more
  BufferRing buffers_;              // outlives the ring that fills it
  Ring ring_;
};

}  // namespace

base::Result<std::unique_ptr<Engine>> open_io_uring(const EngineOptions& options) {
  auto ring = Ring::open(options.submission_entries, options.completion_entries);
  if (!ring) return std::unexpected(std::move(ring.error()));
  auto buffers = BufferRing::open(*ring, options.buffers);
  if (!buffers) return std::unexpected(std::move(buffers.error()));
  const auto use = options.connects ? Ring::Use::ServeAndConnect : Ring::Use::Serve;
  if (auto enabled = ring->lock_and_enable(use); !enabled) return std::unexpected(std::move(enabled.error()));
  return std::make_unique<UringEngine>(std::move(*buffers), std::move(*ring));
}

}  // namespace kiln::core
