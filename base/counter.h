// A number that one thread counts up and any thread may read: no lock prefix on the hot path.
#pragma once

#include <atomic>
#include <cstdint>

namespace kiln::base {

class Counter {
 public:
  void add(uint64_t n = 1) { value_.store(value_.load(std::memory_order_relaxed) + n, std::memory_order_relaxed); }
  void set(uint64_t n) { value_.store(n, std::memory_order_relaxed); }
  void raise_to(uint64_t n) {
    if (n > value_.load(std::memory_order_relaxed)) set(n);
  }
  [[nodiscard]] uint64_t get() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

}  // namespace kiln::base
