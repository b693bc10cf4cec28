#include "app/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

namespace kiln::app {

void RequestCounters::count(size_t route, http::Method method, int status, core::Duration took) {
  Route& r = by_route_[route];
  const auto* code = std::ranges::find(kCodes, status);
  const size_t code_index = code == kCodes.end() ? kCodes.size() - 1 : static_cast<size_t>(code - kCodes.begin());
  r.requests[static_cast<size_t>(method)][code_index].add();
  const double seconds = std::chrono::duration<double>(took).count();
  const auto* bucket = std::ranges::lower_bound(kBuckets, seconds);
  r.buckets[static_cast<size_t>(bucket - kBuckets.begin())].add();
  r.nanoseconds.add(static_cast<uint64_t>(took.count()));
  total_.add();
}

void MetricsText::family(std::string_view name, Type type, std::string_view help) {
  static constexpr std::string_view kTypes[] = {"counter", "gauge", "histogram"};
  name_ = name;
  fmt::format_to(std::back_inserter(text_), "# HELP {} {}\n# TYPE {} {}\n", name, help, name,
                 kTypes[static_cast<size_t>(type)]);
}

void MetricsText::sample(std::string_view labels, double value, std::string_view suffix) {
  fmt::format_to(std::back_inserter(text_), "{}{}{}{}{} {}\n", name_, suffix, labels.empty() ? "" : "{", labels,
                 labels.empty() ? "" : "}", value);
}

void MetricsText::sample(std::string_view labels, uint64_t value, std::string_view suffix) {
  fmt::format_to(std::back_inserter(text_), "{}{}{}{}{} {}\n", name_, suffix, labels.empty() ? "" : "{", labels,
                 labels.empty() ? "" : "}", value);
}

std::string MetricsText::label(std::string_view name, std::string_view value) {
  std::string out(name);
  out += "=\"";
  for (const char c : value) {
    if (c == '\\' || c == '"') out += '\\';
    if (c == '\n') {
      out += "\\n";
    } else {
      out += c;
    }
  }
  out += '"';
  return out;
}

}  // namespace kiln::app
