#include "app/faults.h"

#include <algorithm>
#include <iterator>

#include "base/check.h"

namespace kiln::app {

std::string_view fault_name(FaultKind kind) {
  switch (kind) {
    case FaultKind::Unready: return "unready";
    case FaultKind::Unhealthy: return "unhealthy";
    case FaultKind::Hang: return "hang";
    case FaultKind::Latency: return "latency";
    case FaultKind::Errors: break;
  }
  return "errors";
}

std::optional<FaultKind> fault_named(std::string_view name) {
  const auto* const kind = std::ranges::find(kFaultKinds, name, fault_name);
  return kind == kFaultKinds.end() ? std::nullopt : std::optional(*kind);
}

std::optional<Faults::Fault> Faults::add(const FaultRequest& asked, TimePoint now) {
  CHECK(!asked.time || *asked.time > Duration(0));
  const std::lock_guard lock(mutex_);
  const auto active = std::ranges::count_if(faults_, [now](const Fault& fault) { return fault.ends > now; });
  if (static_cast<size_t>(active) >= kFaultsMax) return std::nullopt;
  const TimePoint ends = asked.time ? now + *asked.time : TimePoint::max();
  faults_.push_back({.id = next_id_++, .asked = asked, .ends = ends});
  count_.store(faults_.size(), std::memory_order_relaxed);
  return faults_.back();
}

std::optional<Faults::Fault> Faults::cancel(Id id, TimePoint now) {
  const std::lock_guard lock(mutex_);
  const auto at = std::ranges::find(faults_, id, &Fault::id);
  if (at == faults_.end() || at->ends <= now) return std::nullopt;
  Fault cancelled = *at;
  faults_.erase(at);
  count_.store(faults_.size(), std::memory_order_relaxed);
  changed_.notify_all();
  return cancelled;
}

std::vector<Faults::Fault> Faults::list(TimePoint now) const {
  const std::lock_guard lock(mutex_);
  std::vector<Fault> active;
  std::ranges::copy_if(faults_, std::back_inserter(active), [now](const Fault& fault) { return fault.ends > now; });
  return active;
}

std::vector<Faults::Fault> Faults::take_ended(TimePoint now) {
  const std::lock_guard lock(mutex_);
  const auto ended = std::ranges::stable_partition(faults_, [now](const Fault& fault) { return fault.ends > now; });
  std::vector<Fault> taken(ended.begin(), ended.end());
  faults_.erase(ended.begin(), ended.end());
  count_.store(faults_.size(), std::memory_order_relaxed);
  return taken;
}

Faults::TimePoint Faults::next_end() const {
  const std::lock_guard lock(mutex_);
  const auto next = std::ranges::min_element(faults_, {}, &Fault::ends);
  return next == faults_.end() ? TimePoint::max() : next->ends;
}

// Not after `now`: none of the kind is in force.
Faults::TimePoint Faults::end_of(FaultKind kind, TimePoint now) const {
  TimePoint end = now;
  for (const Fault& fault : faults_) {
    if (fault.asked.kind == kind) end = std::max(end, fault.ends);
  }
  return end;
}

bool Faults::is_active(FaultKind kind, TimePoint now) const {
  if (none()) return false;
  const std::lock_guard lock(mutex_);
  return end_of(kind, now) > now;
}

Faults::Duration Faults::latency(TimePoint now) const {
  if (none()) return {};
  const std::lock_guard lock(mutex_);
  Duration sum{};
  for (const Fault& fault : faults_) {
    if (fault.ends > now) sum += fault.asked.latency;
  }
  return sum;
}

std::optional<int> Faults::draw_error(TimePoint now) {
  if (none()) return std::nullopt;
  const std::lock_guard lock(mutex_);
  std::uniform_real_distribution<double> percent(0, 100);
  for (const Fault& fault : faults_) {
    const FaultRequest& asked = fault.asked;
    if (fault.ends > now && asked.percent > 0 && percent(random_) < asked.percent) return asked.status;
  }
  return std::nullopt;
}

void Faults::wait_out_hang() {
  std::unique_lock lock(mutex_);
  for (;;) {
    const TimePoint now = std::chrono::steady_clock::now();
    const TimePoint end = end_of(FaultKind::Hang, now);
    if (end <= now) return;
    changed_.wait_until(lock, end);
  }
}

}  // namespace kiln::app
