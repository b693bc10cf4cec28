// How often a value fell between given bounds: one thread observes, any thread reads.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/counter.h"

namespace kiln::base {

template <size_t n>
class Histogram {
 public:
  // `bounds` rise; each is the largest value of its bucket.
  explicit constexpr Histogram(const std::array<double, n>& bounds) : bounds_(bounds) {}

  void observe(double value) {
    const auto at = std::ranges::lower_bound(bounds_, value) - bounds_.begin();
    buckets_[static_cast<size_t>(at)].add();
    sum_.store(sum_.load(std::memory_order_relaxed) + value, std::memory_order_relaxed);
  }

  [[nodiscard]] const std::array<double, n>& bounds() const { return bounds_; }
  // Not cumulative; the last, at index n, is of everything larger.
  [[nodiscard]] uint64_t bucket(size_t index) const { return buckets_[index].get(); }
  [[nodiscard]] double sum() const { return sum_.load(std::memory_order_relaxed); }

 private:
  const std::array<double, n> bounds_;
  std::array<Counter, n + 1> buckets_;
  std::atomic<double> sum_{0};
};

}  // namespace kiln::base
