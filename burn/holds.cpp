#include "burn/holds.h"

#include <algorithm>

#include "base/check.h"

namespace kiln::burn {

std::optional<Holds::Hold> Holds::add(double millicores, Duration time, TimePoint now) {
  CHECK(millicores > 0);
  CHECK(time > Duration(0));
  CHECK(time <= kTimeMax);
  const std::lock_guard lock(mutex_);
  expire(now);
  if (holds_.size() >= kHoldsMax) return std::nullopt;
  holds_.push_back({.id = next_id_++,
                    .millicores = millicores,
                    .time = time,
                    .ends = now + std::chrono::duration_cast<TimePoint::duration>(time),
                    .achieved = {}});
  changed();
  return holds_.back();
}

bool Holds::cancel(Id id, TimePoint now) {
  const std::lock_guard lock(mutex_);
  expire(now);
  if (std::erase_if(holds_, [id](const Hold& hold) { return hold.id == id; }) == 0) return false;
  changed();
  return true;
}

std::vector<Holds::Hold> Holds::list(TimePoint now) {
  const std::lock_guard lock(mutex_);
  expire(now);
  std::vector<Hold> all = holds_;
  if (const auto share = share_achieved()) {
    for (Hold& hold : all) hold.achieved = hold.millicores * *share;
  }
  return all;
}

double Holds::target(TimePoint now) {
  if (now.time_since_epoch().count() >= next_end_.load(std::memory_order_relaxed)) {
    const std::lock_guard lock(mutex_);
    expire(now);
  }
  return target_.load(std::memory_order_relaxed);
}

void Holds::observe(Duration outside, TimePoint now) {
  const std::lock_guard lock(mutex_);
  expire(now);
  observations_[observed_++ % kWindow] = {now, outside};
}

std::optional<double> Holds::achieved() const {
  const std::lock_guard lock(mutex_);
  const auto share = share_achieved();
  return share ? std::optional(*share * target_.load(std::memory_order_relaxed)) : std::nullopt;
}

// Of the target. More than all of it when what others spend does not fit inside.
std::optional<double> Holds::share_achieved() const {
  const double target = target_.load(std::memory_order_relaxed);
  if (observed_ < 2 || target <= 0) return std::nullopt;
  const Observation& last = observations_[(observed_ - 1) % kWindow];
  const Observation& first = observations_[observed_ <= kWindow ? 0 : observed_ % kWindow];
  const double elapsed = std::chrono::duration<double>(last.at - first.at).count();
  if (elapsed <= 0) return std::nullopt;
  return std::chrono::duration<double, std::milli>(last.outside - first.outside).count() / elapsed / target;
}

void Holds::expire(TimePoint now) {
  if (std::erase_if(holds_, [now](const Hold& hold) { return hold.ends <= now; }) > 0) changed();
}

void Holds::changed() {
  double total = 0;
  TimePoint next = TimePoint::max();
  for (const Hold& hold : holds_) {
    total += hold.millicores;
    next = std::min(next, hold.ends);
  }
  observed_ = 0;
  target_.store(total, std::memory_order_relaxed);
  next_end_.store(next.time_since_epoch().count(), std::memory_order_relaxed);
  version_.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace kiln::burn
