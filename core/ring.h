// One io_uring: submission and completion queue, nothing of what they mean. This file's source and buffer_ring.cpp are
// the only ones that know liburing.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "core/engine.h"

struct io_uring;

namespace kiln::core {

// A submission, before it is an SQE.
struct Submission {
  enum class Kind : uint8_t { Accept, AcceptStream, Receive, ReceiveStream, Send, Watch, Cancel, Connect };
  Kind kind;
  int fd = -1;
  uint64_t user_data = 0;
  uint64_t target = 0;                     // Cancel: user_data of the operation
  std::span<const char> data{};            // Send
  const SocketAddress* address = nullptr;  // Connect
  bool poll_first = true;                  // Receive*: false when data is known to wait
};

// A completion, copied out of the queue.
struct RingCompletion {
  uint64_t user_data;
  int32_t result;
  uint32_t flags;

  [[nodiscard]] bool more() const;       // the operation stays armed
  [[nodiscard]] bool non_empty() const;  // the socket has more to read, or its end
  [[nodiscard]] std::optional<uint16_t> buffer() const;
};

// Opened shut: open() makes a ring that takes no submission yet, what it needs is registered with it, and
// lock_and_enable() lets it begin with nothing but the operations above.
class Ring {
 public:
  // Needs Linux 6.1's feature level (SINGLE_ISSUER, DEFER_TASKRUN); steps down in size on ENOMEM, since newer kernels
  // charge rings to RLIMIT_MEMLOCK, for all processes of a user together. Error::code is the errno.
  [[nodiscard]] static base::Result<Ring> open(unsigned submission_entries, unsigned completion_entries);

  Ring(Ring&&) noexcept;
  Ring& operator=(Ring&&) = delete;
  ~Ring();

  enum class Use : uint8_t { Serve, ServeAndConnect };

  // Takes away, for good, every operation and registration that this use has no need of, and opens the ring to the
  // calling thread, which owns it from here on. An error when the ring cannot be opened; a kernel that refuses the
  // restrictions alone leaves an unrestricted ring behind, and restrictions() tells why.
  [[nodiscard]] base::Result<void> lock_and_enable(Use use);
  [[nodiscard]] const base::Result<void>& restrictions() const { return restrictions_; }

  // False when the queue is full and the kernel takes nothing now: the kernel's weather, not our mistake.
  [[nodiscard]] bool push(const Submission& submission);

  // Submits everything and waits for one completion, at most `timeout` (nothing: for ever).
  // Returns 0 or a negative errno; -ETIME and -EINTR are ordinary. Look at the queue whatever it returns.
  int enter(std::optional<Duration> timeout);

  // How many completions are there to be reaped.
  [[nodiscard]] size_t ready() const;
  // Copies completions out and frees their places.
  std::span<const RingCompletion> reap(std::span<RingCompletion> into);

  [[nodiscard]] bool work_pending() const;  // the kernel has completions to post that need an enter
  [[nodiscard]] bool overflowed() const;
  [[nodiscard]] io_uring& raw() { return *ring_; }

 private:
  explicit Ring(std::unique_ptr<io_uring> ring);
  void register_descriptor();
  void give_back_descriptor();
  int submit_and_wait(unsigned wanted, std::optional<Duration> timeout);

  std::unique_ptr<io_uring> ring_;
  std::optional<unsigned> registered_;  // the index under which this thread has registered the ring's descriptor
  bool quiet_wait_ = false;             // true when waiting need not count as iowait (Linux 6.15)
  base::Result<void> restrictions_;
};

}  // namespace kiln::core
