// Counting requests, and saying it in Prometheus' text format 0.0.4. By hand: a worker counts without locks or
// allocations, and the format is a page of code.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/counter.h"
#include "core/engine.h"
#include "http/request.h"

namespace kiln::app {

// A worker's counters: it alone writes, anyone reads.
class RequestCounters {
 public:
  static constexpr size_t kMethods = static_cast<size_t>(http::Method::Other) + 1;
  static constexpr std::array<int, 27> kCodes{200, 201, 202, 204, 400, 401, 403, 404, 405, 408, 409, 411, 413, 414,
                                              415, 417, 422, 429, 431, 499, 500, 501, 502, 503, 504, 505, 0};
  static constexpr std::array<double, 14> kBuckets{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
                                                   0.1,    0.25,  0.5,    1,     2.5,  5,     10};

  // `routes` includes the two labels that are no routes: "unmatched" and "invalid".
  explicit RequestCounters(size_t routes) : by_route_(routes) {}

  void count(size_t route, http::Method method, int status, core::Duration took);

  [[nodiscard]] uint64_t requests() const { return total_.get(); }

  struct Route {
    std::array<std::array<base::Counter, kCodes.size()>, kMethods> requests;
    std::array<base::Counter, kBuckets.size() + 1> buckets;  // not cumulative; the last is everything slower
    base::Counter nanoseconds;
  };
  [[nodiscard]] const Route& route(size_t index) const { return by_route_[index]; }

 private:
  base::Counter total_;
  std::vector<Route> by_route_;
};

// Builds the text. A family is named once, its samples follow.
class MetricsText {
 public:
  enum class Type : uint8_t { Counter, Gauge, Histogram };

  void family(std::string_view name, Type type, std::string_view help);
  // `labels` without braces, empty for none; made of label().
  void sample(std::string_view labels, double value, std::string_view suffix = {});
  void sample(std::string_view labels, uint64_t value, std::string_view suffix = {});
  // name="value", the value escaped.
  static std::string label(std::string_view name, std::string_view value);

  [[nodiscard]] const std::string& text() const { return text_; }

 private:
  std::string text_;
  std::string name_;
};

}  // namespace kiln::app
