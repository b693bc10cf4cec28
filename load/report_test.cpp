#include "load/report.h"

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

namespace kiln::load {
namespace {

// A part of a run: `answers` of them from each pod, each `latency_us` after it was due.
Report part(uint32_t index, uint32_t count, const std::vector<std::string>& pods, uint64_t answers,
            uint64_t latency_us) {
  Report report;
  report.url = "http://kiln/load?ms=5";
  report.profile = "20@10s";
  report.arrivals = "uniform";
  report.shards = {{.index = index, .count = count}};
  report.started_at = 1'700'000'000;
  report.planned_seconds = 10;
  report.asked_seconds = 10;
  report.seconds = 10;
  report.connections_max = 10;
  SecondReport& second = report.timeline.emplace_back();
  for (const std::string& name : pods) {
    PodReport& pod = report.pods.emplace_back();
    pod.pod = name;
    pod.node = "node of " + name;
    pod.answers = answers;
    pod.first_seen = 1 + index;
    pod.last_seen = 9 + index;
    pod.latency.record(latency_us, answers);
    report.latency.record(latency_us, answers);
    report.service.record(latency_us / 2, answers);
    report.send_delay.record(3, answers);
    report.due += answers;
    report.sent += answers;
    report.answers += answers;
    report.statuses[200] += answers;
    second.pods[name] = answers;
  }
  second.due = second.sent = second.answers = report.answers;
  second.p99_us = static_cast<uint32_t>(latency_us);
  return report;
}

TEST(Report, AddsPartsAndNeverAveragesPercentiles) {
  Report whole = part(0, 2, {"a", "b"}, 99, 1000);
  const auto merged = merge(whole, part(1, 2, {"b", "c"}, 1, 800'000));
  ASSERT_TRUE(merged) << merged.error().what;
  EXPECT_EQ(whole.answers, 200U);
  EXPECT_EQ(whole.shards.size(), 2U);
  EXPECT_EQ(whole.latency.count(), 200U);
  EXPECT_NEAR(static_cast<double>(whole.latency.value_at_percentile(99)), 1000, 1);
  EXPECT_NEAR(static_cast<double>(whole.latency.value_at_percentile(99.5)), 800'000, 1000);
  ASSERT_EQ(whole.pods.size(), 3U);
  EXPECT_EQ(whole.pods[0].pod, "a");
  EXPECT_EQ(whole.pods[1].answers, 100U);
  EXPECT_EQ(whole.pods[1].first_seen, 1);
  EXPECT_EQ(whole.pods[1].last_seen, 10);
  EXPECT_EQ(whole.timeline[0].answers, 200U);
  EXPECT_EQ(whole.timeline[0].pods.at("b"), 100U);
  EXPECT_EQ(whole.connections_max, 20U);
}

TEST(Report, RefusesWhatIsNoPartOfTheSameRun) {
  struct Row {
    const char* says;
    void (*change)(Report&);
  };
  const Row rows[] = {
      {"URL", [](Report& r) { r.url = "http://other/"; }},
      {"profile", [](Report& r) { r.profile = "21@10s"; }},
      {"arrivals", [](Report& r) { r.arrivals = "poisson"; }},
      {"seed", [](Report& r) { r.seed = 2; }},
      {"start together", [](Report& r) { r.started_at += 1.5; }},
      {"different schedules", [](Report& r) { r.shards[0].count = 3; }},
      {"there twice", [](Report& r) { r.shards[0].index = 0; }},
  };
  for (const Row& row : rows) {
    Report whole = part(0, 2, {"a"}, 10, 1000);
    Report other = part(1, 2, {"a"}, 10, 1000);
    row.change(other);
    const auto merged = merge(whole, other);
    ASSERT_FALSE(merged) << row.says;
    EXPECT_NE(merged.error().what.find(row.says), std::string::npos) << merged.error().what;
    EXPECT_EQ(whole.answers, 10U) << "nothing was added";
  }
}

TEST(Report, ComparesWhatWasSentAndWhenByDigests) {
  struct Row {
    const char* refused;  // nothing: it is not
    void (*change)(Report&);
  };
  const Row rows[] = {
      {nullptr, [](Report&) {}},
      {nullptr, [](Report& r) { r.profile = "./20@10s.csv"; }},
      {"other times", [](Report& r) { r.schedule_digest = "3"; }},
      {"method, header or body", [](Report& r) { r.request_digest = "3"; }},
      {nullptr, [](Report& r) { r.schedule_digest = r.request_digest = ""; }},
      {"profile", [](Report& r) { r.schedule_digest = "", r.profile = "21@10s"; }},
  };
  for (const Row& row : rows) {
    Report whole = part(0, 2, {"a"}, 10, 1000);
    Report other = part(1, 2, {"a"}, 10, 1000);
    for (Report* report : {&whole, &other}) {
      report->schedule_digest = "1";
      report->request_digest = "2";
    }
    row.change(other);
    const auto merged = merge(whole, *from_json(to_json(other)));
    if (row.refused == nullptr) {
      EXPECT_TRUE(merged) << merged.error().what;
    } else {
      ASSERT_FALSE(merged) << row.refused;
      EXPECT_NE(merged.error().what.find(row.refused), std::string::npos) << merged.error().what;
    }
  }
}

// Threads and shards meet a pod one after the other.
TEST(Report, WhatCameEarlyIsCountedSinceThePodWasFirstSeen) {
  struct Row {
    double first, second;
    uint64_t early;
  };
  for (const Row row : {Row{0, 6, 1}, Row{6, 0, 2}, Row{0, 0.5, 3}, Row{0.5, 0, 3}}) {
    Report whole = part(0, 2, {"a"}, 1, 1000);
    whole.pods[0].first_seen = row.first;
    whole.pods[0].early.record(1000, 1);
    Report other = part(1, 2, {"a"}, 2, 1000);
    other.pods[0].first_seen = row.second;
    other.pods[0].early.record(1000, 2);
    add(whole, other);
    EXPECT_EQ(whole.pods[0].early.count(), row.early) << row.first << " and " << row.second;
    EXPECT_EQ(whole.pods[0].first_seen, 0);
  }
}

TEST(Report, IsTheSameAfterItWasReadBack) {
  Report report = part(1, 3, {"kiln-\"1\"\\", "b"}, 7, 12'345);
  report.failures[static_cast<size_t>(Failure::Timeout)] = 3;
  report.due += 3;
  report.interrupted = true;
  report.statuses[503] = 2;
  report.cpu_seconds = 0.25;
  const std::string json = to_json(report);
  const auto back = from_json(json);
  ASSERT_TRUE(back) << back.error().what;
  EXPECT_EQ(to_json(*back), json);
  EXPECT_EQ(back->errors(), 5U);
  EXPECT_EQ(back->pods[0].pod, "kiln-\"1\"\\");
}

TEST(Report, SaysWhatIsNoReport) {
  struct Row {
    const char* text;
    const char* says;
  };
  for (const Row& row : {Row{"", "no JSON"}, Row{"{", "no JSON"}, Row{"kiln: failed", "no JSON"},
                         Row{"[]", "another type"}, Row{"{}", "missing"}, Row{R"({"schema":2})", "schema 2"},
                         Row{R"({"schema":1,"url":5})", "another type"}, Row{"null", "another type"}}) {
    const auto report = from_json(row.text);
    ASSERT_FALSE(report) << row.text;
    EXPECT_NE(report.error().what.find(row.says), std::string::npos) << row.text << ": " << report.error().what;
  }
}

// What is read may be nonsense, but nothing that can be done with it falls over.
void use(const std::string& json) {
  auto report = from_json(json);
  if (!report) return;
  EXPECT_FALSE(to_text(*report).empty());
  EXPECT_FALSE(to_json(*report).empty());
  for (const char* gate : {"p99>1ms", "errors>0.1%", "rate<95%"}) {
    static_cast<void>(Gate::parse(gate)->fails(*report));
  }
  static_cast<void>(merge(*report, part(1, 2, {"b"}, 1, 2000)));
}

TEST(Report, ADamagedFileIsRefusedOrReadAsItIs) {
  const std::string good = to_json(part(0, 2, {"a"}, 99, 1000));
  for (size_t size = 0; size < good.size(); ++size) EXPECT_FALSE(from_json(good.substr(0, size))) << size;
  for (size_t at = 0; at < good.size(); ++at) {
    for (const char c : {'9', '-', '"', ']'}) {
      std::string damaged = good;
      damaged[at] = c;
      use(damaged);
    }
  }
}

TEST(Report, AnyNumberInAFileIsRefusedOrReadAsItIs) {
  const std::string good = to_json(part(0, 2, {"a"}, 99, 1000));
  const auto is_number = [](char c) { return (c >= '0' && c <= '9') || c == '.'; };
  for (size_t at = 0; at < good.size();) {
    size_t end = at;
    while (end < good.size() && is_number(good[end])) ++end;
    if (end > at) {
      for (const char* number : {"18446744073709551615", "9223372036854775808", "1e308", "-1", "-1e308", "0", "0.0"}) {
        use(good.substr(0, at) + number + good.substr(end));
      }
    }
    at = end + 1;
  }
}

TEST(Report, RefusesAReportOfNoShard) {
  Report report = part(0, 1, {"a"}, 1, 1);
  report.shards.clear();
  EXPECT_FALSE(from_json(to_json(report)));
}

TEST(Report, MakesTheNamesOfAFilePrintable) {
  std::string json = to_json(part(0, 1, {"a-b"}, 1, 1));
  for (size_t at; (at = json.find("a-b")) != std::string::npos;) json.replace(at, 3, "a\\u001bb");
  const auto report = from_json(json);
  ASSERT_TRUE(report) << report.error().what;
  EXPECT_EQ(report->pods[0].pod, "a?b");
  EXPECT_EQ(report->pods[0].node, "node of a?b");
  EXPECT_EQ(report->timeline[0].pods.at("a?b"), 1U);
}

TEST(Report, MakesNamesPrintable) { EXPECT_EQ(printable("a\x01\x7f\xc3\xa4 ~"), "a???? ~"); }

TEST(Report, SkewIsNoneWhenAllAnsweredAsOften) {
  EXPECT_EQ(part(0, 1, {"a", "b", "c"}, 5, 1).skew(), 0);
  Report report = part(0, 1, {"a", "b"}, 5, 1);
  report.pods[0].answers = 15;
  EXPECT_NEAR(report.skew(), 0.5, 1e-9);
  EXPECT_EQ(Report{}.skew(), 0);
}

TEST(Report, KnowsWhoStoodInTheWay) {
  Report report = part(0, 1, {"a"}, 1000, 1000);
  report.cpu_seconds = 1;
  EXPECT_EQ(verdict(report), Verdict::Kept);
  report.late_by_client = 10;
  EXPECT_EQ(verdict(report), Verdict::Kept) << "one in a hundred";
  report.late_by_client = 11;
  EXPECT_EQ(verdict(report), Verdict::Client);
  report.late_by_client = 0;
  report.late_for_connections = 11;
  EXPECT_EQ(verdict(report), Verdict::Connections);
  report.cpu_seconds = 9.5;
  EXPECT_EQ(verdict(report), Verdict::Client) << "a thread that has no time left keeps connections busy";
  report.cpu_seconds = 1;
  report.cpu_wait_seconds = 8.5;
  EXPECT_EQ(verdict(report), Verdict::Client) << "and so does one that gets none";
  report.late_for_connections = 0;
  report.late_for_connect = 1000;
  EXPECT_EQ(verdict(report), Verdict::Kept) << "no connection was busy";
  report.late_for_descriptors = 11;
  EXPECT_EQ(verdict(report), Verdict::Client);
  EXPECT_NE(to_text(report).find("ulimit -n"), std::string::npos) << to_text(report);
}

// Its last answer came after a second of ten.
TEST(Report, AServerThatStopsAnsweringDoesNotMakeTheTimeShorter) {
  Report report = part(0, 1, {"a"}, 20, 1000);
  report.seconds = 1;
  report.due = 200;
  report.failures[static_cast<size_t>(Failure::Refused)] = 180;
  EXPECT_NE(to_text(report).find("answered  20 in 10.0 s, 2.0/s"), std::string::npos) << to_text(report);
  EXPECT_TRUE(Gate::parse("rate<18")->fails(report).has_value());
  report.late_for_connections = 50;
  report.cpu_seconds = 1;
  EXPECT_EQ(verdict(report), Verdict::Connections) << "a tenth of a core";
}

TEST(Report, ARateIsOverTheTimeUntilTheInterruption) {
  Report report = part(0, 1, {"a"}, 40, 1000);
  report.planned_seconds = 300;
  report.asked_seconds = 4;
  report.seconds = 4.5;
  report.interrupted = true;
  EXPECT_NE(to_text(report).find("asked     40 requests in 4.0 s, 10.0/s"), std::string::npos) << to_text(report);
}

// As they were written before some members were added.
TEST(Report, ReadsOlderReports) {
  Report report = part(0, 1, {"a"}, 10, 1000);
  report.seconds = 3;
  std::string json = to_json(report);
  for (const char* added : {"\"schedule_digest\":\"\",", "\"request_digest\":\"\",",
                            "\"asked_seconds\":10.000000,", "\"late_for_connect\":0,", "\"late_for_descriptors\":0,",
                            ",\"cpu_wait_seconds\":0.000000"}) {
    const size_t at = json.find(added);
    ASSERT_NE(at, std::string::npos) << added;
    json.erase(at, std::string_view(added).size());
  }
  auto back = from_json(json);
  ASSERT_TRUE(back) << back.error().what;
  EXPECT_EQ(back->asked_seconds, 10);
  json.replace(json.find("\"interrupted\":false"), 19, "\"interrupted\":true");
  back = from_json(json);
  ASSERT_TRUE(back) << back.error().what;
  EXPECT_EQ(back->asked_seconds, 3);
}

TEST(Report, ALateFirstConnectionIsNobodysFault) {
  Report report = part(0, 1, {"a"}, 20, 1000);
  report.late_for_connections = 5;
  EXPECT_EQ(verdict(report), Verdict::Kept) << "a quarter of twenty, but few";
  report.late_for_connections = 6;
  EXPECT_EQ(verdict(report), Verdict::Connections);
}

TEST(Report, CountsTheNamesThatAreTooManyTogether) {
  std::vector<std::string> names, more;
  for (size_t i = 0; i < kPodsMax; ++i) names.push_back("first-" + std::to_string(i));
  for (size_t i = 0; i < kPodsMax; ++i) more.push_back("second-" + std::to_string(i));
  more.push_back("first-7");
  Report report = part(0, 3, names, 2, 1000);
  add(report, part(1, 3, more, 3, 1000));
  add(report, part(2, 3, more, 3, 1000));
  ASSERT_EQ(report.pods.size(), kPodsMax + 1);
  EXPECT_EQ(report.timeline[0].pods.size(), kPodsMax + 1);
  EXPECT_EQ(report.timeline[0].pods.at(std::string(kOtherPods)), 2 * 3 * kPodsMax);
  EXPECT_EQ(report.timeline[0].pods.at("first-7"), 8U);
  uint64_t others = 0, seventh = 0;
  for (const PodReport& pod : report.pods) {
    if (pod.pod == kOtherPods) others = pod.answers;
    if (pod.pod == "first-7") seventh = pod.answers;
  }
  EXPECT_EQ(others, 2 * 3 * kPodsMax);
  EXPECT_EQ(seventh, 8U);
}

TEST(Report, ShowsHowManyPodsAnsweredInWholeSeconds) {
  Report report = part(0, 1, {"a", "b"}, 50, 1000);
  report.timeline.resize(3, report.timeline[0]);
  report.timeline[1].pods.erase("a");
  report.timeline[2].pods.clear();
  report.timeline[2].pods["b"] = 1;
  report.asked_seconds = 2.5;
  EXPECT_NE(to_text(report).find("in a second: 2 from 0 s, 1 from 1 s\n"), std::string::npos) << to_text(report);
  report.asked_seconds = 1.5;
  EXPECT_NE(to_text(report).find("in a second: 2 from 0 s\n"), std::string::npos) << to_text(report);
  report.asked_seconds = 0.5;
  EXPECT_NE(to_text(report).find("in a second: 2 from 0 s\n"), std::string::npos) << "a part is better than nothing";
}

TEST(Report, ALineOfChangesEnds) {
  Report report = part(0, 1, {"a", "b"}, 50, 1000);
  report.timeline.resize(1000, report.timeline[0]);
  for (size_t i = 0; i < report.timeline.size(); i += 2) report.timeline[i].pods.erase("a");
  report.asked_seconds = 1000;
  EXPECT_NE(to_text(report).find("2 from 19 s, and 980 changes more\n"), std::string::npos) << to_text(report);
}

TEST(Report, ShowsPodsAndBothLatencies) {
  const std::string text = to_text(part(0, 1, {"kiln-abc", "kiln-def"}, 50, 2500));
  for (const char* expected : {"asked     100 requests", "status    200: 100", "failed    none", "2.50 ms", "1.25 ms",
                               "kiln-abc", "node of kiln-def", "50.0 %", "2 from 0 s", "skew 0.00", "kept"}) {
    EXPECT_NE(text.find(expected), std::string::npos) << expected << "\n" << text;
  }
}

struct GateCase {
  const char* text;
  bool fails;
};

TEST(Gate, Judges) {
  Report report = part(0, 1, {"a"}, 990, 100'000);  // 100 ms each
  report.due = 1000;
  report.failures[static_cast<size_t>(Failure::Closed)] = 10;
  const GateCase cases[] = {
      {"p99>200ms", false},  {"p99>99ms", true},   {"p50<200ms", true},   {"max>1s", true},   {"mean>50ms", true},
      {"errors>0.9%", true}, {"errors>1%", false}, {"errors>9", true},    {"errors>10", false}, {"rate<99%", false},
      {"rate<99.1%", true},  {"rate<98.9", false}, {"rate<99.1", true},   {"p99.9>200ms", true},
  };
  for (const GateCase& row : cases) {
    const auto gate = Gate::parse(row.text);
    ASSERT_TRUE(gate) << gate.error().what;
    EXPECT_EQ(gate->fails(report).has_value(), row.fails) << row.text;
  }
}

TEST(Gate, FailsWhereNothingWasAnswered) {
  Report report;
  report.due = 1;
  report.failures[static_cast<size_t>(Failure::Timeout)] = 1;
  for (const char* text : {"p99>1h", "max>1h", "mean>1h", "p99<1h"}) {
    EXPECT_TRUE(Gate::parse(text)->fails(report).has_value()) << text;
  }
}

// A shard of a short schedule may have no request.
TEST(Gate, HoldsWhereNothingWasAsked) {
  for (const char* text : {"p99>1ms", "mean<1h", "errors>0.1%", "rate<95%", "rate<10"}) {
    EXPECT_FALSE(Gate::parse(text)->fails(Report{}).has_value()) << text;
  }
}

TEST(Gate, TakesWhatWasNotAnsweredForSlowerThanAllThatWas) {
  Report report = part(0, 1, {"a"}, 80, 5000);
  report.due = 100;
  report.failures[static_cast<size_t>(Failure::Timeout)] = 15;
  report.failures[static_cast<size_t>(Failure::Unsent)] = 5;
  EXPECT_EQ(Gate::parse("p80>200ms")->fails(report), std::nullopt) << "the last that was answered";
  EXPECT_EQ(Gate::parse("p81>200ms")->fails(report), "p81>200ms: 20 of 100 were not answered");
  EXPECT_EQ(Gate::parse("max>1h")->fails(report), "max>1h: 20 of 100 were not answered");
  EXPECT_EQ(Gate::parse("mean>200ms")->fails(report), std::nullopt);
  EXPECT_NE(to_text(report).find("of the 80 answers alone, 20 requests have none:\nlatency "), std::string::npos)
      << to_text(report);

  report.failures = {};
  report.failures[static_cast<size_t>(Failure::CutOff)] = 20;
  EXPECT_EQ(Gate::parse("p99>200ms")->fails(report), std::nullopt) << "who interrupts does not wait for an answer";
}

// The slowest tenth of the answers lies before what was not answered.
TEST(Gate, RanksAnswersAmongAllRequests) {
  Report report = part(0, 1, {"a"}, 81, 5000);
  report.latency.record(300'000, 9);
  report.answers += 9;
  report.due = 100;
  report.failures[static_cast<size_t>(Failure::Refused)] = 10;
  EXPECT_FALSE(Gate::parse("p81>200ms")->fails(report).has_value());
  EXPECT_TRUE(Gate::parse("p82>200ms")->fails(report).has_value());
  EXPECT_TRUE(Gate::parse("p90>200ms")->fails(report).has_value());
  EXPECT_EQ(Gate::parse("p90>400ms")->fails(report), std::nullopt);
}

TEST(Gate, RefusesWhatItDoesNotKnow) {
  for (const char* text : {"", "p99", "p99=1s", "p101>1s", "p>1s", "latency>1s", "p99>200", "errors>x%", "rate<", ">1s",
                           "errors>%"}) {
    const auto gate = Gate::parse(text);
    ASSERT_FALSE(gate) << text;
    EXPECT_NE(gate.error().what.find(text), std::string::npos) << gate.error().what;
  }
}

}  // namespace
}  // namespace kiln::load
