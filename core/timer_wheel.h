// Deadlines of connections: a wheel of 1024 buckets, 100 ms each, with intrusive lists through the slots' links. Arming
// is O(1). A deadline that moves later is not touched: its bucket's visit puts it where it belongs by then.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <vector>

#include "core/engine.h"

namespace kiln::core {

class TimerWheel {
 public:
  static constexpr TimePoint kNever = TimePoint::max();
  static constexpr Duration kTick = std::chrono::milliseconds(100);

  explicit TimerWheel(TimePoint start) : start_(start) {}

  // Makes sure that `slot` is visited at `deadline` or earlier. kNever is ignored.
  void arm(uint32_t slot, TimePoint deadline) {
    // The usual case, a few times a request: the visit that is coming is early enough.
    if (slot < links_.size() && links_[slot].begins <= deadline) return;
    arm_earlier(slot, deadline);
  }
  void disarm(uint32_t slot);

  // Calls visit(slot) for every slot whose bucket has passed; it returns the slot's deadline in force (kNever: none),
  // for which the slot is armed again. A visit may arm and disarm any slot, its own too. What it arms for the past is
  // visited with the next bucket.
  template <class Visit>
  void expire(TimePoint now, Visit&& visit) {
    const int64_t until = tick_of(now);
    while (current_ < until && armed_ > 0) {
      // On to the next tick first: nothing can be put into the bucket that is being emptied, so that it becomes empty.
      const size_t bucket = bucket_of(current_++);
      while (heads_[bucket] != kNone) {
        const uint32_t slot = heads_[bucket];
        disarm(slot);
        arm(slot, visit(slot));
      }
    }
    current_ = std::max(current_, until);
  }

  // When the next bucket that holds anything will have passed.
  [[nodiscard]] std::optional<TimePoint> next() const;

 private:
  static constexpr size_t kBuckets = 1024;
  static constexpr uint32_t kNone = UINT32_MAX;

  struct Link {
    uint32_t previous = kNone;
    uint32_t next = kNone;
    int64_t tick = -1;          // -1: not armed
    TimePoint begins = kNever;  // the tick, as a time; not armed: later than any deadline but kNever
  };

  [[nodiscard]] int64_t tick_of(TimePoint time) const { return (time - start_) / kTick; }
  [[nodiscard]] static size_t bucket_of(int64_t tick) { return static_cast<size_t>(tick) % kBuckets; }
  void arm_earlier(uint32_t slot, TimePoint deadline);
  void link(uint32_t slot, int64_t tick);

  void set_occupied(size_t bucket, bool occupied);
  [[nodiscard]] TimePoint time_of(size_t bucket) const;  // when it will have passed

  TimePoint start_;
  int64_t current_ = 0;  // the first tick that has not passed
  size_t armed_ = 0;
  std::array<uint32_t, kBuckets> heads_ = [] {
    std::array<uint32_t, kBuckets> heads;
    heads.fill(kNone);
    return heads;
  }();
  std::array<uint64_t, kBuckets / 64> occupied_{};  // a bit a bucket: next() looks at 16 words, not at 1024 heads
  std::vector<Link> links_;                         // by slot
};

}  // namespace kiln::core
