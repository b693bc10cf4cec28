#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <iterator>

#include "load/report.h"

namespace kiln::load {

namespace {

namespace dom = simdjson::dom;

// Other readers of the file may know later versions; this one knows its own.
constexpr uint64_t kSchema = 1;

// All texts of a report are printable ASCII: printable() saw to that.
std::string json_text(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + '"';
}

// [[value, count], …] beside the figures that people read.
std::string to_json(const base::HdrHistogram& histogram) {
  std::string out = fmt::format(R"({{"p50":{},"p90":{},"p99":{},"p99_9":{},"max":{},"mean":{:.3f},"counts":[)",
                                histogram.value_at_percentile(50), histogram.value_at_percentile(90),
                                histogram.value_at_percentile(99), histogram.value_at_percentile(99.9),
                                histogram.max(), histogram.mean());
  bool first = true;
  for (const auto& [lowest, highest, count] : histogram.recorded()) {
    fmt::format_to(std::back_inserter(out), "{}[{},{}]", first ? "" : ",", lowest, count);
    first = false;
  }
  return out + "]}";
}

std::string counts_of_pods(const SecondReport& second) {
  std::string out = "{";
  for (const auto& [pod, answers] : second.pods) {
    fmt::format_to(std::back_inserter(out), "{}{}:{}", out.size() == 1 ? "" : ",", json_text(pod), answers);
  }
  return out + "}";
}

}  // namespace

std::string to_json_line(const SecondReport& second, uint64_t index) {
  return fmt::format(
      R"({{"second":{},"due":{},"sent":{},"answers":{},"errors":{},"p50_us":{},"p99_us":{},"pods":{}}})", index,
      second.due, second.sent, second.answers, second.errors, second.p50_us, second.p99_us, counts_of_pods(second));
}

std::string to_json(const Report& report) {
  std::string out;
  auto to = std::back_inserter(out);
  static constexpr std::string_view kVerdicts[] = {"kept", "client", "connections"};
  fmt::format_to(to, R"({{"schema":{},"url":{},"profile":{},"arrivals":{},"seed":{},)"
                 R"("schedule_digest":{},"request_digest":{},"shards":[)",
                 kSchema, json_text(report.url), json_text(report.profile), json_text(report.arrivals), report.seed,
                 json_text(report.schedule_digest), json_text(report.request_digest));
  for (size_t i = 0; i < report.shards.size(); ++i) {
    fmt::format_to(to, R"({}{{"index":{},"count":{}}})", i == 0 ? "" : ",", report.shards[i].index,
                   report.shards[i].count);
  }
  fmt::format_to(to,
                 R"(],"started_at":{:.6f},"planned_seconds":{:.6f},"asked_seconds":{:.6f},"seconds":{:.6f},)"
                 R"("interrupted":{},)",
                 report.started_at, report.planned_seconds, report.asked_seconds, report.seconds, report.interrupted);
  fmt::format_to(to,
                 R"("due":{},"sent":{},"answers":{},"answer_bytes":{},"errors":{},"error_share":{:.6f},)"
                 R"("connections":{},"late_for_connections":{},"late_for_connect":{},"late_for_descriptors":{},)"
                 R"("late_by_client":{},"verdict":"{}","statuses":{{)",
                 report.due, report.sent, report.answers, report.answer_bytes, report.errors(), report.error_share(),
                 report.connections, report.late_for_connections, report.late_for_connect,
                 report.late_for_descriptors, report.late_by_client,
                 kVerdicts[static_cast<size_t>(verdict(report))]);
  bool first = true;
  for (const auto& [status, count] : report.statuses) {
    fmt::format_to(to, R"({}"{}":{})", first ? "" : ",", status, count);
    first = false;
  }
  fmt::format_to(to, R"(}},"failures":{{)");
  for (size_t i = 0; i < kFailures; ++i) {
    fmt::format_to(to, R"({}"{}":{})", i == 0 ? "" : ",", failure_name(static_cast<Failure>(i)), report.failures[i]);
  }
  fmt::format_to(to, R"(}},"latency_us":{},"service_us":{},"send_delay_us":{},"skew":{:.6f},"pods":[)",
                 to_json(report.latency), to_json(report.service), to_json(report.send_delay), report.skew());
  for (size_t i = 0; i < report.pods.size(); ++i) {
    const PodReport& pod = report.pods[i];
    fmt::format_to(to,
                   R"({}{{"pod":{},"node":{},"answers":{},"errors":{},"first_seen":{:.6f},"last_seen":{:.6f},)"
                   R"("latency_us":{},"early_us":{}}})",
                   i == 0 ? "" : ",", json_text(pod.pod), json_text(pod.node), pod.answers, pod.errors, pod.first_seen,
                   pod.last_seen, to_json(pod.latency), to_json(pod.early));
  }
  fmt::format_to(to, R"(],"timeline":[)");
  for (size_t i = 0; i < report.timeline.size(); ++i) {
    fmt::format_to(to, "{}{}", i == 0 ? "" : ",", to_json_line(report.timeline[i], i));
  }
  fmt::format_to(to,
                 R"(],"client":{{"threads":{},"connections_max":{},"cpu_seconds":{:.6f},"cpu_wait_seconds":{:.6f}}}}})",
                 report.threads, report.connections_max, report.cpu_seconds, report.cpu_wait_seconds);
  return out;
}

namespace {

// Reads what to_json() wrote. simdjson throws where something is missing or of another type; from_json() catches.
void read(dom::element from, base::HdrHistogram& into) {
  for (const dom::array pair : from["counts"].get_array()) {
    into.record(pair.at(0).get_uint64().value(), pair.at(1).get_uint64().value());
  }
}

// A file is anybody's to write.
std::string text(dom::element from, std::string_view key) { return printable(from[key].get_string().value()); }
uint64_t number(dom::element from, std::string_view key) { return from[key].get_uint64().value(); }
double real(dom::element from, std::string_view key) { return from[key].get_double().value(); }

// Of members that have come since schema 1 was first written.
bool has(dom::element from, std::string_view key) { return from[key].error() != simdjson::NO_SUCH_FIELD; }
uint64_t number_or(dom::element from, std::string_view key, uint64_t otherwise) {
  return has(from, key) ? number(from, key) : otherwise;
}
double real_or(dom::element from, std::string_view key, double otherwise) {
  return has(from, key) ? real(from, key) : otherwise;
}

SecondReport second_of(dom::element from) {
  SecondReport second;
  second.due = number(from, "due");
  second.sent = number(from, "sent");
  second.answers = number(from, "answers");
  second.errors = number(from, "errors");
  second.p50_us = static_cast<uint32_t>(number(from, "p50_us"));
  second.p99_us = static_cast<uint32_t>(number(from, "p99_us"));
  for (const auto& [pod, answers] : from["pods"].get_object()) {
    second.pods[printable(pod)] += answers.get_uint64().value();
  }
  return second;
}

PodReport pod_of(dom::element from) {
  PodReport pod;
  pod.pod = text(from, "pod");
  pod.node = text(from, "node");
  pod.answers = number(from, "answers");
  pod.errors = number(from, "errors");
  pod.first_seen = real(from, "first_seen");
  pod.last_seen = real(from, "last_seen");
  read(from["latency_us"].value(), pod.latency);
  read(from["early_us"].value(), pod.early);
  return pod;
}

Report report_of(dom::element from) {
  Report report;
  report.url = text(from, "url");
  report.profile = text(from, "profile");
  report.arrivals = text(from, "arrivals");
  report.seed = number(from, "seed");
  if (has(from, "schedule_digest")) report.schedule_digest = text(from, "schedule_digest");
  if (has(from, "request_digest")) report.request_digest = text(from, "request_digest");
  for (const dom::element shard : from["shards"].get_array()) {
    report.shards.push_back({.index = static_cast<uint32_t>(number(shard, "index")),
                             .count = static_cast<uint32_t>(number(shard, "count"))});
  }
  report.started_at = real(from, "started_at");
  report.planned_seconds = real(from, "planned_seconds");
  report.seconds = real(from, "seconds");
  report.interrupted = from["interrupted"].get_bool().value();
  const double asked = report.interrupted ? std::min(report.seconds, report.planned_seconds) : report.planned_seconds;
  report.asked_seconds = real_or(from, "asked_seconds", asked);
  report.due = number(from, "due");
  report.sent = number(from, "sent");
  report.answers = number(from, "answers");
  report.answer_bytes = number(from, "answer_bytes");
  report.connections = number(from, "connections");
  report.late_for_connections = number(from, "late_for_connections");
  report.late_for_connect = number_or(from, "late_for_connect", 0);
  report.late_for_descriptors = number_or(from, "late_for_descriptors", 0);
  report.late_by_client = number(from, "late_by_client");
  for (const auto& [status, count] : from["statuses"].get_object()) {
    report.statuses[std::stoi(std::string(status))] = count.get_uint64().value();
  }
  for (size_t i = 0; i < kFailures; ++i) {
    report.failures[i] = number(from["failures"].value(), failure_name(static_cast<Failure>(i)));
  }
  read(from["latency_us"].value(), report.latency);
  read(from["service_us"].value(), report.service);
  read(from["send_delay_us"].value(), report.send_delay);
  for (const dom::element pod : from["pods"].get_array()) report.pods.push_back(pod_of(pod));
  for (const dom::element second : from["timeline"].get_array()) report.timeline.push_back(second_of(second));
  const dom::element client = from["client"].value();
  report.threads = static_cast<uint32_t>(number(client, "threads"));
  report.connections_max = static_cast<uint32_t>(number(client, "connections_max"));
  report.cpu_seconds = real(client, "cpu_seconds");
  report.cpu_wait_seconds = real_or(client, "cpu_wait_seconds", 0);
  return report;
}

std::string_view what_is_wrong(simdjson::error_code error) {
  switch (error) {
    case simdjson::NO_SUCH_FIELD: return "a member is missing";
    case simdjson::INCORRECT_TYPE:
    case simdjson::NUMBER_OUT_OF_RANGE:
    case simdjson::INDEX_OUT_OF_BOUNDS: return "a member is of another type";
    default: return "it is no JSON";
  }
}

}  // namespace

base::Result<Report> from_json(std::string_view json) {
  dom::parser parser;
  const simdjson::padded_string padded(json);
  try {
    const dom::element root = parser.parse(padded).value();
    if (const uint64_t schema = number(root, "schema"); schema != kSchema) {
      return base::error(fmt::format("a report of schema {}; this kiln reads schema {}", schema, kSchema));
    }
    Report report = report_of(root);
    if (report.shards.empty()) return base::error("no report of kiln load: it is of no shard");
    return report;
  } catch (const simdjson::simdjson_error& error) {
    return base::error("no report of kiln load: " + std::string(what_is_wrong(error.error())));
  } catch (const std::exception&) {
    return base::error("no report of kiln load: a status is no number");
  }
}

}  // namespace kiln::load
