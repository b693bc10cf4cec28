#include "load/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numeric>
#include <utility>

namespace kiln::load {

namespace {

constexpr std::array<std::string_view, kFailures> kFailureNames = {
    "refused", "connect_timeout", "unreachable", "closed_early", "malformed", "timeout", "unsent", "cut_off"};

// More of the requests that were sent late than this, or of the client's time, is the client's fault.
constexpr double kLateShare = 0.01;
// Of a few requests the first, which wait for their connections to be made, are a large share.
constexpr uint64_t kLateMin = 5;
constexpr double kBusyShare = 0.9;

constexpr double kStartsApartMax = 1;     // seconds
constexpr double kFirstSeenApartMax = 1;  // seconds

PodReport& find_or_add(std::vector<PodReport>& pods, const PodReport& like) {
  for (PodReport& pod : pods) {
    if (pod.pod == like.pod && pod.node == like.node) return pod;
  }
  if (pods.size() >= kPodsMax && like.pod != kOtherPods) {
    PodReport others;
    others.pod = kOtherPods;
    others.first_seen = like.first_seen;
    return find_or_add(pods, others);
  }
  PodReport& added = pods.emplace_back();
  added.pod = like.pod;
  added.node = like.node;
  added.first_seen = like.first_seen;
  return added;
}

}  // namespace

std::string_view failure_name(Failure failure) { return kFailureNames[static_cast<size_t>(failure)]; }

std::string printable(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = c < 0x20 || c > 0x7e ? '?' : c;
  return out;
}

base::HdrHistogram latency_histogram() { return base::HdrHistogram(3'600'000'000); }

uint64_t Report::failed() const { return std::accumulate(failures.begin(), failures.end(), uint64_t{0}); }

uint64_t Report::unanswered() const { return failed() - failures[static_cast<size_t>(Failure::CutOff)]; }

uint64_t Report::errors() const {
  uint64_t sum = failed();
  for (const auto& [status, count] : statuses) sum += status >= 400 ? count : 0;
  return sum;
}

double Report::error_share() const { return due == 0 ? 0 : static_cast<double>(errors()) / static_cast<double>(due); }

double Report::skew() const {
  if (pods.empty()) return 0;
  double sum = 0, squares = 0;
  for (const PodReport& pod : pods) {
    const auto n = static_cast<double>(pod.answers);
    sum += n;
    squares += n * n;
  }
  const auto count = static_cast<double>(pods.size());
  const double mean = sum / count;
  return mean == 0 ? 0 : std::sqrt(std::max(0.0, squares / count - mean * mean)) / mean;
}

bool only_redirects(const Report& report) {
  return report.answers > 0 && std::ranges::all_of(report.statuses, [](const auto& status) {
    return status.first >= 300 && status.first < 400 && status.first != 304;
  });
}

std::string why_no_answer(const Report& report) {
  if (report.due == 0) return "it was interrupted before the first request";
  std::string kinds;
  for (size_t i = 0; i < kFailures; ++i) {
    if (report.failures[i] == 0) continue;
    kinds += fmt::format("{}{} {}", kinds.empty() ? "" : ", ", report.failures[i],
                         failure_name(static_cast<Failure>(i)));
  }
  return fmt::format("none of {} requests was answered ({}): is {} an HTTP/1.1 server?", report.due, kinds, report.url);
}

Verdict verdict(const Report& report) {
  const auto many = [&](uint64_t count) {
    return count > kLateMin && static_cast<double>(count) > kLateShare * static_cast<double>(report.due);
  };
  if (many(report.late_by_client) || many(report.late_for_descriptors)) return Verdict::Client;
  const uint64_t waited = report.late_for_connections + report.failures[static_cast<size_t>(Failure::Unsent)];
  if (!many(waited)) return Verdict::Kept;
  // A client that wants more CPU time than it gets reads the answers late: its connections are busy because it is.
  const double wanted = report.cpu_seconds + report.cpu_wait_seconds;
  const bool busy = wanted > kBusyShare * report.seconds_run() * report.threads;
  return busy ? Verdict::Client : Verdict::Connections;
}

void add(SecondReport& into, const SecondReport& part) {
  // Percentiles cannot be added up; the larger one is true of a part at least.
  into.p50_us = std::max(into.p50_us, part.p50_us);
  into.p99_us = std::max(into.p99_us, part.p99_us);
  into.due += part.due;
  into.sent += part.sent;
  into.answers += part.answers;
  into.errors += part.errors;
  for (const auto& [pod, answers] : part.pods) {
    const bool full = into.pods.size() >= kPodsMax && !into.pods.contains(pod);
    into.pods[full ? std::string(kOtherPods) : pod] += answers;
  }
}

base::Result<void> merge(Report& into, const Report& part) {
  const auto differ = [](std::string_view what, std::string_view a, std::string_view b) {
    return base::error(fmt::format("these are no parts of one run: {} '{}' and '{}'", what, a, b));
  };
  if (into.url != part.url) return differ("URL", into.url, part.url);
  // Older reports have no digests.
  const auto told_apart = [](const std::string& a, const std::string& b) { return !a.empty() && !b.empty() && a != b; };
  const bool same_times = !into.schedule_digest.empty() && into.schedule_digest == part.schedule_digest;
  if (!same_times && into.profile != part.profile) return differ("profile", into.profile, part.profile);
  if (into.arrivals != part.arrivals) return differ("arrivals", into.arrivals, part.arrivals);
  if (into.seed != part.seed) return differ("seed", std::to_string(into.seed), std::to_string(part.seed));
  if (told_apart(into.schedule_digest, part.schedule_digest)) {
    return base::error(fmt::format("these are no parts of one run: the profile '{}' meant other times in each, by the "
                                   "cost of a request or what is in the file", into.profile));
  }
  if (told_apart(into.request_digest, part.request_digest)) {
    return base::error("these are no parts of one run: their requests differ in method, header or body");
  }
  if (std::abs(into.started_at - part.started_at) > kStartsApartMax) {
    return base::error(fmt::format("these parts did not start together: {:.3f} and {:.3f} seconds since 1970",
                                   into.started_at, part.started_at));
  }
  for (const ShardReport& shard : part.shards) {
    for (const ShardReport& known : into.shards) {
      if (known.count != shard.count) {
        return base::error(fmt::format("shards of different schedules: {}/{} and {}/{}", known.index, known.count,
                                       shard.index, shard.count));
      }
      if (known.index == shard.index) {
        return base::error(fmt::format("shard {}/{} is there twice", shard.index, shard.count));
      }
    }
  }

  into.shards.insert(into.shards.end(), part.shards.begin(), part.shards.end());
  std::ranges::sort(into.shards, {}, &ShardReport::index);
  into.started_at = std::min(into.started_at, part.started_at);
  into.interrupted = into.interrupted || part.interrupted;
  into.threads += part.threads;
  into.connections_max += part.connections_max;
  add(into, part);
  return {};
}

void add(Report& into, const Report& part) {
  into.asked_seconds = std::max(into.asked_seconds, part.asked_seconds);
  into.seconds = std::max(into.seconds, part.seconds);
  into.due += part.due;
  into.sent += part.sent;
  into.answers += part.answers;
  into.answer_bytes += part.answer_bytes;
  into.connections += part.connections;
  into.late_for_connections += part.late_for_connections;
  into.late_for_connect += part.late_for_connect;
  into.late_for_descriptors += part.late_for_descriptors;
  into.late_by_client += part.late_by_client;
  for (const auto& [status, count] : part.statuses) into.statuses[status] += count;
  for (size_t i = 0; i < kFailures; ++i) into.failures[i] += part.failures[i];
  into.latency.add(part.latency);
  into.service.add(part.service);
  into.send_delay.add(part.send_delay);
  for (const PodReport& pod : part.pods) {
    PodReport& known = find_or_add(into.pods, pod);
    known.answers += pod.answers;
    known.errors += pod.errors;
    known.last_seen = std::max(known.last_seen, pod.last_seen);
    known.latency.add(pod.latency);
    // Who met the pod much later than another has begun to count when it was new no longer.
    const double later = pod.first_seen - known.first_seen;
    if (later < -kFirstSeenApartMax) known.early.reset();
    if (later <= kFirstSeenApartMax) known.early.add(pod.early);
    known.first_seen = std::min(known.first_seen, pod.first_seen);
  }
  std::ranges::stable_sort(into.pods, {}, &PodReport::first_seen);
  if (part.timeline.size() > into.timeline.size()) into.timeline.resize(part.timeline.size());
  for (size_t i = 0; i < part.timeline.size(); ++i) add(into.timeline[i], part.timeline[i]);
  into.cpu_seconds += part.cpu_seconds;
  into.cpu_wait_seconds += part.cpu_wait_seconds;
}

}  // namespace kiln::load
