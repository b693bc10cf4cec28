// The receive buffers that a ring's kernel side picks from ("provided buffers", io_uring_register_buf_ring(3), group
// 0). The ring has as many entries as there are buffers, so it can never be over-filled.
#pragma once

#include <cstdint>
#include <span>

#include "core/ring.h"

struct io_uring_buf_ring;

namespace kiln::core {

class BufferRing {
 public:
  static constexpr size_t kBufferBytes = 4096;

  // `count` is a power of two. Before the ring is locked. Outlives the ring it is registered with.
  [[nodiscard]] static base::Result<BufferRing> open(Ring& ring, unsigned count);

  BufferRing(BufferRing&& other) noexcept;
  BufferRing& operator=(BufferRing&&) = delete;
  ~BufferRing();

  [[nodiscard]] std::span<const char> bytes(uint16_t id, size_t size) const;

  // Gives a buffer back; the kernel sees it after publish().
  void give_back(uint16_t id);
  void publish();

  [[nodiscard]] unsigned count() const { return count_; }

 private:
  BufferRing() = default;

  io_uring_buf_ring* entries_ = nullptr;  // and behind it, in the same mapping, the buffers
  char* buffers_ = nullptr;
  size_t mapped_bytes_ = 0;
  unsigned count_ = 0;
  uint16_t unpublished_ = 0;
};

}  // namespace kiln::core
