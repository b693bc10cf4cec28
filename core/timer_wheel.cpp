#include "core/timer_wheel.h"

#include <bit>

namespace kiln::core {

void TimerWheel::arm_earlier(uint32_t slot, TimePoint deadline) {
  if (deadline == kNever) return;
  if (slot >= links_.size()) links_.resize(slot + 1);
  // Beyond the wheel's horizon the last bucket is early enough: its visit arms again.
  // One less than there are: during a visit the bucket behind `current_` is not free yet.
  const int64_t horizon = current_ + static_cast<int64_t>(kBuckets) - 2;
  const int64_t tick = std::clamp(tick_of(deadline), current_, horizon);
  const int64_t armed_at = links_[slot].tick;
  if (armed_at >= 0 && armed_at <= tick) return;
  if (armed_at >= 0) disarm(slot);
  link(slot, tick);
}

void TimerWheel::link(uint32_t slot, int64_t tick) {
  uint32_t& head = heads_[bucket_of(tick)];
  links_[slot] = {.previous = kNone, .next = head, .tick = tick, .begins = start_ + tick * kTick};
  if (head != kNone) links_[head].previous = slot;
  head = slot;
  set_occupied(bucket_of(tick), true);
  ++armed_;
}

void TimerWheel::disarm(uint32_t slot) {
  if (slot >= links_.size() || links_[slot].tick < 0) return;
  const Link gone = links_[slot];
  if (gone.previous != kNone) {
    links_[gone.previous].next = gone.next;
  } else {
    heads_[bucket_of(gone.tick)] = gone.next;
    if (gone.next == kNone) set_occupied(bucket_of(gone.tick), false);
  }
  if (gone.next != kNone) links_[gone.next].previous = gone.previous;
  links_[slot] = {};
  --armed_;
}

void TimerWheel::set_occupied(size_t bucket, bool occupied) {
  const uint64_t bit = uint64_t{1} << (bucket % 64);
  uint64_t& word = occupied_[bucket / 64];
  word = occupied ? word | bit : word & ~bit;
}

std::optional<TimePoint> TimerWheel::next() const {
  if (armed_ == 0) return std::nullopt;
  const size_t first = bucket_of(current_);
  // The first word is looked at twice: its upper part first, what wraps around to its lower part last.
  uint64_t word = occupied_[first / 64] & (~uint64_t{0} << (first % 64));
  for (size_t i = first / 64; word == 0;) {
    i = (i + 1) % occupied_.size();
    word = occupied_[i];
    if (word != 0) return time_of(i * 64 + static_cast<size_t>(std::countr_zero(word)));
  }
  return time_of(first / 64 * 64 + static_cast<size_t>(std::countr_zero(word)));
}

TimePoint TimerWheel::time_of(size_t bucket) const {
  const auto ahead = static_cast<int64_t>((bucket + kBuckets - bucket_of(current_)) % kBuckets);
  return start_ + (current_ + ahead + 1) * kTick;
}

}  // namespace kiln::core
