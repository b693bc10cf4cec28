// Gauges of the user's own, for autoscaling by custom metrics: POST /BumpMetric adds to one for a time. A gauge stays,
// at 0, when its bumps have ended, since an autoscaler takes an absent metric for a failure. Any thread may call.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace kiln::app {

class BumpedMetrics {
 public:
  using Duration = std::chrono::nanoseconds;
  using TimePoint = std::chrono::steady_clock::time_point;

  static constexpr size_t kNamesMax = 100;
  static constexpr size_t kNameBytesMax = 200;
  static constexpr size_t kBumpsMax = 1000;  // under way, of all names

  enum class Refusal : uint8_t { BadName, TooManyNames, TooManyBumps };

  // Nothing: it counts from now on. `time` > 0. Whether the name is somebody else's already is the caller's to know.
  std::optional<Refusal> add(std::string_view name, double delta, Duration time, TimePoint now);
  // Name and value, in the order in which the names came.
  [[nodiscard]] std::vector<std::pair<std::string, double>> list(TimePoint now);

 private:
  struct Bump {
    double delta;
    TimePoint ends;
  };
  struct Gauge {
    std::string name;
    std::vector<Bump> bumps;
  };

  void expire(TimePoint now);

  std::mutex mutex_;
  std::vector<Gauge> gauges_;
};

// [a-zA-Z_:][a-zA-Z0-9_:]*, and no longer than kNameBytesMax.
bool is_metric_name(std::string_view name);

}  // namespace kiln::app
