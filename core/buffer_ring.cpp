#include "core/buffer_ring.h"

#include <liburing.h>
#include <sys/mman.h>

#include <cerrno>
#include <utility>

#include "base/check.h"

namespace kiln::core {

base::Result<BufferRing> BufferRing::open(Ring& ring, unsigned count) {
  CHECK(count > 0 && (count & (count - 1)) == 0);
  constexpr size_t kPage = 4096;
  const size_t ring_bytes = (count * sizeof(io_uring_buf) + kPage - 1) / kPage * kPage;

  BufferRing buffers;
  buffers.count_ = count;
  buffers.mapped_bytes_ = ring_bytes + count * kBufferBytes;
  void* memory = ::mmap(nullptr, buffers.mapped_bytes_, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_PRIVATE, -1, 0);
  if (memory == MAP_FAILED) return base::system_error("mapping receive buffers", errno);
  buffers.entries_ = static_cast<io_uring_buf_ring*>(memory);
  buffers.buffers_ = static_cast<char*>(memory) + ring_bytes;

  io_uring_buf_reg registration{};
  registration.ring_addr = reinterpret_cast<uint64_t>(memory);
  registration.ring_entries = count;
  const int error = io_uring_register_buf_ring(&ring.raw(), &registration, 0);
  if (error < 0) return base::system_error("registering the receive buffer ring", -error);

  io_uring_buf_ring_init(buffers.entries_);
  for (unsigned id = 0; id < count; ++id) buffers.give_back(static_cast<uint16_t>(id));
  buffers.publish();
  return buffers;
}

BufferRing::BufferRing(BufferRing&& other) noexcept
    : entries_(std::exchange(other.entries_, nullptr)),
      buffers_(other.buffers_),
      mapped_bytes_(other.mapped_bytes_),
      count_(other.count_),
      unpublished_(other.unpublished_) {}

BufferRing::~BufferRing() {
  if (entries_ != nullptr) ::munmap(entries_, mapped_bytes_);
}

std::span<const char> BufferRing::bytes(uint16_t id, size_t size) const {
  CHECK(id < count_);
  CHECK(size <= kBufferBytes);
  return {buffers_ + id * kBufferBytes, size};
}

void BufferRing::give_back(uint16_t id) {
  io_uring_buf_ring_add(entries_, buffers_ + id * kBufferBytes, kBufferBytes, id, io_uring_buf_ring_mask(count_),
                        unpublished_++);
}

void BufferRing::publish() {
  if (unpublished_ == 0) return;
  io_uring_buf_ring_advance(entries_, std::exchange(unpublished_, uint16_t{0}));
}

}  // namespace kiln::core
