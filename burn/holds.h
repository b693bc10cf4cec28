// The CPU that somebody wants held, for how long, and how much of it is. Holds add up to one target; the burners
// (burn/burner.h) follow it. Any thread.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <optional>
#include <vector>

namespace kiln::burn {

class Holds {
 public:
  using Duration = std::chrono::nanoseconds;
  using TimePoint = std::chrono::steady_clock::time_point;
  using Id = uint64_t;

  static constexpr size_t kHoldsMax = 100;
  static constexpr Duration kTimeMax = std::chrono::hours(24);

  struct Hold {
    Id id = 0;
    double millicores = 0;
    Duration time{};
    TimePoint ends;
    std::optional<double> achieved;  // millicores over the last 15 s, or since the holds last changed; nothing yet
  };

  // `millicores` > 0, 0 < `time` <= kTimeMax. Nothing when there are kHoldsMax already. Whoever adds or cancels wakes
  // the burners.
  std::optional<Hold> add(double millicores, Duration time, TimePoint now);
  // False when there is none of that id (any more).
  bool cancel(Id id, TimePoint now);
  // By rising id. What has ended is not in it.
  [[nodiscard]] std::vector<Hold> list(TimePoint now);

  // The sum of all holds that have not ended, in millicores.
  [[nodiscard]] double target(TimePoint now);
  // Changes whenever the target does.
  [[nodiscard]] uint64_t version() const { return version_.load(std::memory_order_relaxed); }

  // Once a second: CPU time spent for nobody's budget so far, which is what a hold fills up to its target.
  void observe(Duration outside, TimePoint now);
  // Millicores achieved by all holds together, as in Hold.
  [[nodiscard]] std::optional<double> achieved() const;

 private:
  static constexpr size_t kWindow = 16;  // observations for 15 seconds
  struct Observation {
    TimePoint at;
    Duration outside;
  };

  void expire(TimePoint now);
  void changed();
  [[nodiscard]] std::optional<double> share_achieved() const;

  mutable std::mutex mutex_;
  std::vector<Hold> holds_;  // by rising id
  Id next_id_ = 1;
  std::array<Observation, kWindow> observations_{};
  size_t observed_ = 0;  // since the last change
  std::atomic<double> target_{0};
  std::atomic<uint64_t> version_{0};
  std::atomic<TimePoint::rep> next_end_{TimePoint::max().time_since_epoch().count()};
};

}  // namespace kiln::burn
