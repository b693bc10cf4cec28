// What a run of the load generator found: plain figures that several threads, machines or pods can add up. Nothing here
// knows sockets or clocks.
//
// Two latencies stand side by side. `latency` counts from the moment a request was due by its schedule, `service` from
// the moment it was sent. While a server stands still the requests that should have been sent wait as well; only the
// first figure knows of them (coordinated omission).
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/hdr_histogram.h"
#include "base/result.h"

namespace kiln::load {

// Why a request has no answer.
enum class Failure : uint8_t {
  Refused,         // nobody listens
  ConnectTimeout,  // no connection in time
  Unreachable,     // no connection, for another reason
  Closed,          // the connection ended before the answer did
  Malformed,       // what came is no answer (RFC 9112)
  Timeout,         // no answer in time
  Unsent,          // the run ended before there was a connection for it
  CutOff,          // the run was interrupted before there was an answer
};
inline constexpr size_t kFailures = 8;
std::string_view failure_name(Failure failure);  // "refused", …, as in JSON

// Microseconds, up to an hour.
base::HdrHistogram latency_histogram();

// Who answered, by the X-Pod-Name and X-Node-Name of the answers.
struct PodReport {
  std::string pod;
  std::string node;
  uint64_t answers = 0;
  uint64_t errors = 0;  // of them, with a status of 400 or more
  double first_seen = 0;  // seconds since the start
  double last_seen = 0;
  base::HdrHistogram latency = latency_histogram();
  base::HdrHistogram early = latency_histogram();  // the part of its first kEarlySeconds
};
inline constexpr double kEarlySeconds = 5;
// Names are the server's to choose: those beyond so many are counted together, under the last. The longest name of
// Kubernetes is that of a DNS subdomain (RFC 1123): 253 characters.
inline constexpr size_t kPodsMax = 250;
inline constexpr size_t kNameCharactersMax = 253;
inline constexpr std::string_view kOtherPods = "(others)";

// One second of the schedule.
struct SecondReport {
  uint64_t due = 0;
  uint64_t sent = 0;
  uint64_t answers = 0;
  uint64_t errors = 0;  // failures, and answers with a status of 400 or more
  uint32_t p50_us = 0;  // of answers in this second, from the moment they were due
  uint32_t p99_us = 0;
  std::map<std::string, uint64_t> pods;  // answers of each
};

// A part of one schedule.
struct ShardReport {
  uint32_t index = 0;
  uint32_t count = 1;
};

// Names, URLs and profiles as they stand in reports: what is no printable ASCII becomes '?'. Servers choose names.
std::string printable(std::string_view text);

// Three figures, with the unit that suits: "950 us", "1.25 ms", "12.3 ms", "1.50 s".
std::string time_text(double us);

struct Report {
  // What was asked.
  std::string url;
  std::string profile;
  std::string arrivals;  // "uniform" or "poisson"
  uint64_t seed = 1;
  // Of the whole schedule and of the request as it is sent, so that parts of different runs are told apart; empty in
  // reports of earlier versions.
  std::string schedule_digest, request_digest;
  std::vector<ShardReport> shards;  // that are added up here
  double started_at = 0;            // seconds since 1970
  double planned_seconds = 0;
  double asked_seconds = 0;  // of those, until it was interrupted
  double seconds = 0;        // until the last answer
  bool interrupted = false;

  // What came of it.
  uint64_t due = 0;
  uint64_t sent = 0;
  uint64_t answers = 0;
  uint64_t answer_bytes = 0;
  uint64_t connections = 0;            // made
  // Sent more than a millisecond late, because
  uint64_t late_for_connections = 0;  // every connection was busy
  uint64_t late_for_connect = 0;      // its connection was being made
  uint64_t late_for_descriptors = 0;  // this machine gave no descriptor or port for another
  uint64_t late_by_client = 0;        // the client saw too late that it was due
  std::map<int, uint64_t> statuses;
  std::array<uint64_t, kFailures> failures{};
  base::HdrHistogram latency = latency_histogram();
  base::HdrHistogram service = latency_histogram();
  base::HdrHistogram send_delay = latency_histogram();  // sent after it was due
  std::vector<PodReport> pods;                          // by first_seen
  std::vector<SecondReport> timeline;

  // The client itself.
  uint32_t threads = 1;
  uint32_t connections_max = 0;
  double cpu_seconds = 0;       // of its threads
  double cpu_wait_seconds = 0;  // that they could have used and did not get; 0 where the kernel does not count it

  // What rates are over: a server that stops answering does not make the time shorter.
  [[nodiscard]] double seconds_run() const { return std::max(seconds, asked_seconds); }
  [[nodiscard]] uint64_t errors() const;
  [[nodiscard]] uint64_t failed() const;      // requests without an answer
  [[nodiscard]] uint64_t unanswered() const;  // the same, but for what an interruption cut off
  [[nodiscard]] double error_share() const;  // of what was due
  // The coefficient of variation of the pods' answers: 0 when all have answered as often.
  [[nodiscard]] double skew() const;
};

// True when every answer was a redirect, which is not followed.
bool only_redirects(const Report& report);
// For people, of a report without any answer.
std::string why_no_answer(const Report& report);

// What the client itself stood in the way of.
enum class Verdict : uint8_t { Kept, Client, Connections };
Verdict verdict(const Report& report);

// Adds what was measured at the same time by another thread.
void add(SecondReport& into, const SecondReport& part);
void add(Report& into, const Report& part);

// Adds another part of the same run. An error when it is none: another URL, schedule or request, a shard that is there
// already, or a start more than a second away.
[[nodiscard]] base::Result<void> merge(Report& into, const Report& part);

// docs/load.md has the schema.
std::string to_json(const Report& report);
std::string to_json_line(const SecondReport& second, uint64_t index);
[[nodiscard]] base::Result<Report> from_json(std::string_view json);
std::string to_text(const Report& report);

// A condition that fails a run: "p99>200ms", "errors>0.1%", "rate<95%".
class Gate {
 public:
  // pN (any percentile), max, mean with a duration, where what was not answered counts as slower than all that was, but
  // not in the mean; errors with a number or a share of what was due; rate, of answers,
  // with a number a second or a share of what was due.
  [[nodiscard]] static base::Result<Gate> parse(std::string_view text);

  // What was measured, when the condition is met and the run therefore fails; else nothing. A latency that is not known
  // fails either way, and a report of no request none.
  [[nodiscard]] std::optional<std::string> fails(const Report& report) const;

 private:
  enum class Figure : uint8_t { Percentile, Mean, Errors, ErrorShare, Rate, RateShare };

  std::string text_;
  Figure figure_ = Figure::Percentile;
  double percentile_ = 100;
  bool above_ = true;  // true: a figure above the limit fails; false: one below
  double limit_ = 0;   // microseconds, requests, requests a second, or a share of 1
};

}  // namespace kiln::load
