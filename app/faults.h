// What is broken on purpose (--faults), each for a time, so that somebody can watch Kubernetes react. Several faults of
// a kind are in force side by side: latencies add up, and each share of errors is drawn for itself. Any thread.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <random>
#include <string_view>
#include <vector>

namespace kiln::app {

// Those that last. A crash does not.
enum class FaultKind : uint8_t { Unready, Unhealthy, Hang, Latency, Errors };
inline constexpr std::array kFaultKinds{FaultKind::Unready, FaultKind::Unhealthy, FaultKind::Hang, FaultKind::Latency,
                                        FaultKind::Errors};

// As in the route: "unready".
std::string_view fault_name(FaultKind kind);
std::optional<FaultKind> fault_named(std::string_view name);

struct FaultRequest {
  FaultKind kind = FaultKind::Unready;
  std::optional<std::chrono::nanoseconds> time{};  // more than 0; nothing: as long as the process lives
  std::chrono::nanoseconds latency{};              // of Latency
  double percent = 0;                              // of Errors: of the requests, more than 0, at most 100
  int status = 503;                                // of Errors
};

class Faults {
 public:
  using Duration = std::chrono::nanoseconds;
  using TimePoint = std::chrono::steady_clock::time_point;
  using Id = uint64_t;

  static constexpr size_t kFaultsMax = 100;

  struct Fault {
    Id id = 0;
    FaultRequest asked;
    TimePoint ends;  // TimePoint::max() for ever
  };

  // Nothing when kFaultsMax are in force already.
  std::optional<Fault> add(const FaultRequest& asked, TimePoint now);
  // What has ended by that; nothing when there is none of that id (any more).
  std::optional<Fault> cancel(Id id, TimePoint now);
  // By rising id. What has ended is not in it.
  [[nodiscard]] std::vector<Fault> list(TimePoint now) const;
  // Takes out what has ended: each fault is told once, to whoever asks first.
  std::vector<Fault> take_ended(TimePoint now);
  // When the next one ends; TimePoint::max(): none does.
  [[nodiscard]] TimePoint next_end() const;

  // Cheap while there are no faults.
  [[nodiscard]] bool is_active(FaultKind kind, TimePoint now) const;
  [[nodiscard]] Duration latency(TimePoint now) const;
  // The status that this request is answered with, if it is to fail. The draws of a process are always the same.
  [[nodiscard]] std::optional<int> draw_error(TimePoint now);

  // Blocks the calling thread while a hang is in force.
  void wait_out_hang();

 private:
  [[nodiscard]] bool none() const { return count_.load(std::memory_order_relaxed) == 0; }
  // The lock is held.
  [[nodiscard]] TimePoint end_of(FaultKind kind, TimePoint now) const;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Fault> faults_;  // by rising id, and those that nobody has taken out
  std::atomic<size_t> count_{0};
  Id next_id_ = 1;
  std::mt19937_64 random_;
};

}  // namespace kiln::app
