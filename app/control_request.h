// What control routes are asked for: small JSON objects such as {"millicores":300,"seconds":60}, and the forms of
// Kubernetes' resource-consumer (test/images/resource-consumer). Text in, values within their limits or a refusal out.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>

#include "app/faults.h"
#include "http/request.h"

namespace kiln::app {

struct Problem {
  int status;
  std::string detail;  // names the value and the limit
};

// How much somebody may ask for: more than 0.
struct AmountLimit {
  std::string_view name;  // of the member or parameter
  double max;
  std::string_view reason;  // ends the sentence "at most MAX", ", which is …"
};

struct HoldRequest {
  double amount = 0;
  std::chrono::nanoseconds time{};  // more than 0, at most a day
};

// 400 when the body is no JSON, with the position where that is known; 422 when it is not this object. Members that
// are unknown or given twice are refused: a misspelt one shall not be a default.
std::expected<HoldRequest, Problem> parse_hold(std::string_view body, const AmountLimit& limit);

// The same of a fault: {"seconds":30}, with "ms" for a latency, "percent" and perhaps "status" for errors.
std::expected<FaultRequest, Problem> parse_fault(FaultKind kind, std::string_view body);
// A crash is asked for with nothing, or with {}.
std::expected<void, Problem> parse_crash(std::string_view body);

// `limit.name` and durationSec, whole numbers, from the query or the form in the body. All refusals are 400 and begin
// with the words of resource-consumer.
std::expected<HoldRequest, Problem> parse_consume(const http::Request& request, const AmountLimit& limit);

// An id as we write it: "1", not "01" nor "%31".
std::optional<uint64_t> parse_id(std::string_view text);

// One sentence when all holds together ask for more than there is, else empty. A worker burns one core at most.
std::string hold_warning(double asked_millicores, std::optional<double> limit_millicores, size_t workers);

struct BumpRequest {
  std::string metric;  // not looked at
  double delta = 0;    // finite
  std::chrono::nanoseconds time{};
};
std::expected<BumpRequest, Problem> parse_bump(const http::Request& request);

}  // namespace kiln::app
