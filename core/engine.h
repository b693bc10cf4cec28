// The narrow door to the kernel: operations go in, completions come out. Two engines stand behind it, io_uring and
// epoll, and a scripted one in tests; whoever uses it cannot tell which.
//
// The rules that every lifetime here follows from:
//   1. An operation is the engine's, with everything it names, until its completion with `more == false`.
//   2. A descriptor has at most one receive and one send in flight, and is closed only when it has none.
//   3. Completions are delivered inside wait() only, on the thread that opened the engine.
#pragma once

#include <sys/socket.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/counter.h"
#include "base/result.h"

namespace kiln::core {

using TimePoint = std::chrono::steady_clock::time_point;
using Duration = std::chrono::nanoseconds;

enum class Operation : uint8_t { Accept = 1, Receive, Send, Wake, Cancel, Connect };

// Names an operation and its owner. A slot's generation changes whenever the slot gets a new owner, so that a late
// completion is recognised as stale; neither a pointer nor a descriptor's number could do that.
struct Token {
  Operation operation;
  uint32_t generation;  // 24 bits
  uint32_t slot;

  static constexpr uint32_t kGenerationMask = 0xff'ffff;

  [[nodiscard]] constexpr uint64_t pack() const {
    return static_cast<uint64_t>(operation) << 56 | static_cast<uint64_t>(generation & kGenerationMask) << 32 | slot;
  }
  static constexpr Token unpack(uint64_t packed) {
    return {static_cast<Operation>(packed >> 56), static_cast<uint32_t>(packed >> 32) & kGenerationMask,
            static_cast<uint32_t>(packed)};
  }
  friend bool operator==(const Token&, const Token&) = default;
};

struct Completion {
  Token token;
  int result = 0;                // Accept: the descriptor; Receive and Send: bytes; Connect: 0; or a negative errno
  bool more = false;             // true: the operation stays armed and will complete again
  std::span<const char> data{};  // Receive with result > 0: the bytes, until complete() returns
};

class CompletionSink {
 public:
  virtual ~CompletionSink() = default;
  // The wait is over; completions may follow. Called once a wait(), first.
  virtual void woke() = 0;
  virtual void complete(const Completion& completion) = 0;
};

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t size = 0;

  [[nodiscard]] const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

// Of accepts and receives. Once: completes one time. Stream: completes again and again until it ends by itself or is
// cancelled; cheaper for a connection that lives on, dearer for one that is closed after a single request.
enum class Repeat : uint8_t { Once, Stream };

enum class EngineKind : uint8_t { IoUring, Epoll };
std::string_view engine_name(EngineKind kind);

struct EngineCounters {
  base::Counter waits;  // calls of wait()
  base::Counter completions;
  base::Counter receives_starved;  // receives that found no buffer and were armed again later
  base::Counter queue_full;        // operations that had to wait for room in the submission queue
  base::Counter queue_overflows;   // io_uring: completion queue overflows seen
};

class Engine {
 public:
  virtual ~Engine() = default;

  // New descriptors are close-on-exec. A stream may complete many times more after it was cancelled.
  virtual void accept(int listener, Token token, Repeat repeat) = 0;
  // accept4(2) at once, whatever is armed: a new descriptor, or a negative errno; -EAGAIN when nobody waits. From then
  // on the listener is non-blocking, so nothing is to be armed on it again.
  virtual int accept_now(int listener);
  // A new stream socket for connect(), or a negative errno.
  virtual int new_socket(int family);
  // Completes once. `address` is the engine's until then. Only where EngineOptions::connects is set.
  virtual void connect(int fd, Token token, const SocketAddress& address) = 0;
  virtual void receive(int fd, Token token, Repeat mode) = 0;
  // Completes once, with fewer bytes than `data` only if the peer is gone or the operation was cancelled. `data` is the
  // engine's until then.
  virtual void send(int fd, Token token, std::span<const char> data) = 0;
  // Completes whenever `eventfd` becomes readable; whoever is woken reads it.
  virtual void watch(int eventfd, Token token) = 0;
  // Asks an operation to end; its own completion says when it has (-ECANCELED unless it was faster).
  virtual void cancel(int fd, Token token) = 0;

  // shutdown(2) and close(2). Before close every operation on `fd` has completed.
  virtual void shutdown(int fd, int how) = 0;
  // From now on close() resets the connection, whatever is unread or unsent.
  virtual void reset_at_close(int fd) = 0;
  virtual void close(int fd) = 0;

  // Hands everything over, waits until something completes or `timeout` (nothing: for ever) is over, and delivers. A
  // signal may end the wait early.
  // Returns true when nothing more is known to be ready.
  virtual bool wait(std::optional<Duration> timeout, CompletionSink& sink) = 0;

  virtual TimePoint now() const { return std::chrono::steady_clock::now(); }
  [[nodiscard]] virtual EngineKind kind() const = 0;
  // Whether the kernel holds the engine's ring to the operations that are used here, for people: "in force", "refused:
  // why", or "none" where there is no ring.
  [[nodiscard]] virtual std::string restrictions() const { return "none"; }
  [[nodiscard]] const EngineCounters& counters() const { return counters_; }

 protected:
  EngineCounters counters_;
};

struct EngineOptions {
  unsigned submission_entries = 128;
  unsigned completion_entries = 2048;  // survivable when too small; 44 KiB of ring fit a 64 KiB RLIMIT_MEMLOCK
  unsigned buffers = 256;              // of 4 KiB each, a power of two: one batch of receives, not one a connection
  bool connects = false;               // true: connect() is used; a server's ring is held to less
};

[[nodiscard]] base::Result<std::unique_ptr<Engine>> open_io_uring(const EngineOptions& options);
[[nodiscard]] base::Result<std::unique_ptr<Engine>> open_epoll();

// Proves on a socket pair that bytes arrive, that they are the right ones, and that the end is seen. An error is a
// sentence for people.
[[nodiscard]] base::Result<void> self_test(Engine& engine);

// For engines: SO_LINGER of 0 seconds (socket(7)).
void set_reset_at_close(int fd);

enum class EngineRequest : uint8_t { Auto, IoUring, Epoll };

struct OpenedEngine {
  std::unique_ptr<Engine> engine;
  std::string reason;  // why this one, for people: "requested", "self-test passed", or why io_uring could not be had
};

// Auto proves io_uring and otherwise falls back to epoll with the reason; an explicit request never falls back. Call it
// on the thread that will use the engine.
[[nodiscard]] base::Result<OpenedEngine> open_engine(EngineRequest request, const EngineOptions& options);

// What stands in io_uring's way, from the errno of its set-up and the evidence on this system, and what to do.
[[nodiscard]] std::string explain_io_uring_error(int error);

}  // namespace kiln::core
