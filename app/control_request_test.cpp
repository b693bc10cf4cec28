#include "app/control_request.h"

#include <gtest/gtest.h>

#include <string>

namespace kiln::app {
namespace {

using namespace std::chrono_literals;

constexpr AmountLimit kMillicores{.name = "millicores", .max = 2000, .reason = ", which is what this machine has"};

TEST(ControlRequest, TakesAHold) {
  const struct {
    std::string_view body;
    double amount;
    std::chrono::nanoseconds time;
  } rows[] = {
      {R"({"millicores":300,"seconds":60})", 300, 60s},
      {"\r\n { \"seconds\" : 0.25 ,\t\"millicores\" : 1e2 } \n", 100, 250ms},
      {R"({"millicores":2000,"seconds":86400})", 2000, 24h},
      {R"({"millicores":0.5,"seconds":1e-300})", 0.5, 1ns},
      {R"({"mill\u0069cores":1,"seconds":1.5e0})", 1, 1500ms},
  };
  for (const auto& row : rows) {
    const auto hold = parse_hold(row.body, kMillicores);
    ASSERT_TRUE(hold) << row.body << ": " << hold.error().detail;
    EXPECT_EQ(hold->amount, row.amount) << row.body;
    EXPECT_EQ(hold->time, row.time) << row.body;
  }
}

TEST(ControlRequest, RefusesWhatIsNoHold) {
  const struct {
    std::string_view body;
    int status;
    std::string_view words;
  } rows[] = {
      {"", 400, "not JSON"},
      {" ", 400, "not JSON"},
      {"millicores=300&seconds=60", 400, "not JSON"},
      {"nul", 400, "not JSON"},
      {"{", 400, "not JSON"},
      {"[1,", 400, "not JSON"},
      {"{]", 400, "not JSON"},
      {R"({"millicores":300,"seconds":60)", 400, "not JSON"},
      {R"({"millicores":300,"seconds":60,})", 400, "byte 31"},
      {R"({"millicores":300 "seconds":60})", 400, "byte 18"},
      {R"({"millicores" 300,"seconds":60})", 400, "byte 14"},
      {R"({"millicores":NaN,"seconds":60})", 400, "byte 14"},
      {R"({"millicores":Infinity,"seconds":60})", 400, "byte 14"},
      {R"({"millicores":-,"seconds":60})", 400, "byte 14"},
      {R"({"millicores":01,"seconds":60})", 400, "byte 14"},
      {R"({"millicores":1.,"seconds":60})", 400, "byte 14"},
      {R"({"millicores":1e,"seconds":60})", 400, "byte 14"},
      {R"({"millicores":0x10,"seconds":60})", 400, "byte 14"},
      {R"({"millicores":+1,"seconds":60})", 400, "byte 14"},
      {R"({"millicores":tru,"seconds":60})", 400, "not JSON"},
      {R"({"millicores":"300,"seconds":60})", 400, "not JSON"},
      {R"({'millicores':300,"seconds":60})", 400, "byte 1"},
      {R"({millicores:300,"seconds":60})", 400, "byte 1"},
      {R"({"millicores":300,"seconds":60} x)", 400, "not JSON"},
      {R"({"millicores":300,"seconds":60}{})", 400, "byte 31"},
      {"{\"millicores\":300,\"seconds\":60,\"\xff\":1}", 400, "not JSON"},
      {"{\"milli\ncores\":300,\"seconds\":60}", 400, "not JSON"},
      {R"({"\ud800":300,"seconds":60})", 400, "not JSON"},
      {R"({"x":[1,}],"seconds":60})", 400, "not JSON"},
      {"null", 422, R"({"millicores":300,"seconds":60})"},
      {"[]", 422, "object"},
      {"5", 422, "object"},
      {"\"text\"", 422, "object"},
      {"[[[[[[]]]]]]", 422, "object"},
      {"{}", 422, "millicores is missing"},
      {R"({"seconds":60})", 422, "millicores is missing"},
      {R"({"millicores":300})", 422, "seconds is missing"},
      {R"({"millicores":300,"seconds":60,"id":1})", 422, "'id'"},
      {R"({"Millicores":300,"seconds":60})", 422, "'Millicores'"},
      {R"({"mebibytes":300,"seconds":60})", 422, "'mebibytes'"},
      {R"({"millicores":300,"millicores":300,"seconds":60})", 422, "millicores is given twice"},
      {R"({"millicores":300,"seconds":60,"sec\u006fnds":60})", 422, "seconds is given twice"},
      {R"({"millicores":"300","seconds":60})", 422, "millicores is no number"},
      {R"({"millicores":null,"seconds":60})", 422, "millicores is no number"},
      {R"({"millicores":true,"seconds":60})", 422, "millicores is no number"},
      {R"({"millicores":[300],"seconds":60})", 422, "millicores is no number"},
      {R"({"millicores":300,"seconds":{}})", 422, "seconds is no number"},
      {R"({"millicores":0,"seconds":60})", 422, "millicores is 0; it must be more than 0 and at most 2000"},
      {R"({"millicores":-300,"seconds":60})", 422, "-300"},
      {R"({"millicores":-0.0,"seconds":60})", 422, "-0.0"},
      {R"({"millicores":2000.001,"seconds":60})", 422, "2000.001; it must be more than 0 and at most 2000, which is"},
      {R"({"millicores":1e309,"seconds":60})", 422, "millicores is 1e309;"},
      {"{\"millicores\":1e309 \n,\"seconds\":60}", 422, "millicores is 1e309;"},
      {R"({"millicores":-1e309,"seconds":60})", 422, "-1e309"},
      {R"({"millicores":1e-400,"seconds":60})", 422, "1e-400"},
      {R"({"millicores":99999999999999999999999999,"seconds":60})", 422, "9999"},
      {R"({"millicores":300,"seconds":0})", 422, "seconds is 0;"},
      {R"({"millicores":300,"seconds":-1 })", 422, "seconds is -1;"},
      {R"({"millicores":300,"seconds":86400.1})", 422, "at most 86400"},
  };
  for (const auto& row : rows) {
    const auto hold = parse_hold(row.body, kMillicores);
    ASSERT_FALSE(hold) << row.body;
    EXPECT_EQ(hold.error().status, row.status) << row.body << ": " << hold.error().detail;
    EXPECT_NE(hold.error().detail.find(row.words), std::string::npos) << row.body << ": " << hold.error().detail;
  }
}

TEST(ControlRequest, AnswersLongInputBriefly) {
  const std::string digits(100'000, '9');
  for (const std::string& body : {R"({"millicores":)" + digits + "}", R"({")" + digits + R"(":1})",
                                  std::string(100'000, '['), std::string(50'000, '[') + std::string(50'000, ']')}) {
    const auto hold = parse_hold(body, kMillicores);
    ASSERT_FALSE(hold);
    EXPECT_LT(hold.error().detail.size(), 250U) << hold.error().detail;
  }
}

// Every cut of a good body is refused, and as no JSON.
TEST(ControlRequest, NeedsTheWholeBody) {
  const std::string body = R"({"millicores":300,"seconds":60})";
  for (size_t size = 0; size < body.size(); ++size) {
    const auto hold = parse_hold(body.substr(0, size), kMillicores);
    ASSERT_FALSE(hold) << size;
    EXPECT_EQ(hold.error().status, 400) << size;
  }
}

TEST(ControlRequest, WarnsOfWhatCannotBeReached) {
  EXPECT_EQ(hold_warning(500, 500, 1), "");
  EXPECT_EQ(hold_warning(2000, std::nullopt, 2), "");
  EXPECT_NE(hold_warning(500.5, 500, 1).find("limit is 500"), std::string::npos);
  EXPECT_NE(hold_warning(1500, 500, 1).find("limit is 500"), std::string::npos);
  EXPECT_NE(hold_warning(1001, std::nullopt, 1).find("no more than 1000"), std::string::npos);
  EXPECT_NE(hold_warning(1001, 1500, 1).find("no more than 1000"), std::string::npos);
}

TEST(ControlRequest, TakesAFault) {
  const auto hang = parse_fault(FaultKind::Hang, R"({"seconds":0.5})");
  ASSERT_TRUE(hang);
  EXPECT_EQ(hang->kind, FaultKind::Hang);
  EXPECT_EQ(hang->time, 500ms);
  EXPECT_EQ(hang->latency, 0ns);
  EXPECT_EQ(hang->percent, 0);

  const auto latency = parse_fault(FaultKind::Latency, R"({"seconds":60,"ms":1.5})");
  ASSERT_TRUE(latency);
  EXPECT_EQ(latency->latency, 1500us);
  EXPECT_EQ(latency->time, 60s);
  EXPECT_TRUE(parse_fault(FaultKind::Latency, R"({"seconds":86400,"ms":60000})"));

  const auto errors = parse_fault(FaultKind::Errors, R"({"percent":12.5,"seconds":60})");
  ASSERT_TRUE(errors);
  EXPECT_EQ(errors->percent, 12.5);
  EXPECT_EQ(errors->status, 503);
  for (const int status : {500, 599}) {
    const auto other =
        parse_fault(FaultKind::Errors, R"({"status":)" + std::to_string(status) + R"(,"percent":100,"seconds":1})");
    ASSERT_TRUE(other);
    EXPECT_EQ(other->status, status);
  }
}

TEST(ControlRequest, RefusesWhatIsNoFault) {
  const struct {
    FaultKind kind;
    std::string_view body;
    int status;
    std::string_view words;
  } rows[] = {
      {FaultKind::Unready, "", 400, "not JSON"},
      {FaultKind::Unready, "[]", 422, R"(such as {"seconds":60})"},
      {FaultKind::Unready, "{}", 422, "seconds is missing"},
      {FaultKind::Unready, R"({"seconds":0})", 422, "seconds is 0;"},
      {FaultKind::Unready, R"({"seconds":86400.1})", 422, "at most 86400, a day"},
      {FaultKind::Unready, R"({"seconds":30,"ms":5})", 422, "'ms'; there are seconds."},
      {FaultKind::Hang, R"({"seconds":30}x)", 400, "not JSON"},
      {FaultKind::Latency, R"({"seconds":30})", 422, R"(ms is missing; the body must be an object such as {"ms":200,)"},
      {FaultKind::Latency, R"({"ms":60001,"seconds":30})", 422, "at most 60000, a minute"},
      {FaultKind::Latency, R"({"ms":0,"seconds":30})", 422, "ms is 0;"},
      {FaultKind::Errors, R"({"seconds":30})", 422, R"({"percent":20,"seconds":60})"},
      {FaultKind::Errors, R"({"percent":100.5,"seconds":30})", 422, "percent is 100.5;"},
      {FaultKind::Errors, R"({"percent":5,"seconds":30,"code":500})", 422, "there are percent, seconds and status."},
      {FaultKind::Errors, R"({"percent":5,"seconds":30,"status":499})", 422, "status is 499;"},
      {FaultKind::Errors, R"({"percent":5,"seconds":30,"status":600})", 422, "at most 599, whole and at least 500"},
      {FaultKind::Errors, R"({"percent":5,"seconds":30,"status":500.5})", 422, "status is 500.5;"},
  };
  for (const auto& row : rows) {
    const auto fault = parse_fault(row.kind, row.body);
    ASSERT_FALSE(fault) << row.body;
    EXPECT_EQ(fault.error().status, row.status) << row.body << ": " << fault.error().detail;
    EXPECT_NE(fault.error().detail.find(row.words), std::string::npos) << row.body << ": " << fault.error().detail;
  }
}

TEST(ControlRequest, ACrashTakesNothing) {
  EXPECT_TRUE(parse_crash(""));
  EXPECT_TRUE(parse_crash(" {} "));
  EXPECT_EQ(parse_crash("x").error().status, 400);
  EXPECT_EQ(parse_crash("[]").error().status, 422);
  const auto timed = parse_crash(R"({"seconds":5})");
  ASSERT_FALSE(timed);
  EXPECT_EQ(timed.error().status, 422);
  EXPECT_NE(timed.error().detail.find("'seconds'; there are none."), std::string::npos) << timed.error().detail;
}

http::RequestHead head_of(std::string_view query, std::string_view content_type = {}) {
  http::RequestHead head{};
  head.query = query;
  if (!content_type.empty()) head.field_storage[head.field_count++] = {"Content-Type", content_type};
  return head;
}

constexpr std::string_view kForm = "application/x-www-form-urlencoded";

TEST(ControlRequest, TakesAFormFromTheQueryOrTheBody) {
  const struct {
    std::string_view query;
    std::string_view type;
    std::string_view body;
    double amount;
    std::chrono::nanoseconds time;
  } rows[] = {
      {"millicores=300&durationSec=60", "", "", 300, 60s},
      {"", kForm, "millicores=300&durationSec=60", 300, 60s},
      {"", "Application/X-WWW-Form-Urlencoded; charset=utf-8", "millicores=300&durationSec=60", 300, 60s},
      {"", "", "durationSec=86400&millicores=%2B1", 1, 24h},
      {"durationSec=60", kForm, "millicores=300", 300, 60s},
      {"millicores=1&durationSec=1", kForm, "millicores=2", 2, 1s},
      {"millicores=1&durationSec=1", "text/plain", "millicores=2", 1, 1s},
      {"millicores=1&millicores=x&durationSec=1&requestSizeMillicores=20", "", "", 1, 1s},
  };
  for (const auto& row : rows) {
    const http::RequestHead head = head_of(row.query, row.type);
    const auto asked = parse_consume({head, row.body}, kMillicores);
    ASSERT_TRUE(asked) << row.query << " " << row.body << ": " << asked.error().detail;
    EXPECT_EQ(asked->amount, row.amount) << row.query;
    EXPECT_EQ(asked->time, row.time) << row.query;
  }
}

TEST(ControlRequest, RefusesFormsInTheWordsOfResourceConsumer) {
  const struct {
    std::string_view query;
    std::string_view words;
  } rows[] = {
      {"", "not given function argument: millicores"},
      {"millicores=&durationSec=60", "not given function argument: millicores"},
      {"millicores=300", "not given function argument: durationSec"},
      {"millicores=x&durationSec=60", "incorrect function argument: millicores is 'x'"},
      {"millicores=1.5&durationSec=60", "'1.5'"},
      {"millicores=1e2&durationSec=60", "'1e2'"},
      {"millicores=%2B&durationSec=60", "'+'"},
      {"millicores=0&durationSec=60", "incorrect function argument: millicores is 0; it must be more than 0"},
      {"millicores=-1&durationSec=60", "is -1;"},
      {"millicores=2001&durationSec=60", "at most 2000"},
      {"millicores=99999999999999999999&durationSec=60", "is 99999999999999999999;"},
      {"millicores=1&durationSec=86401", "durationSec is 86401; it must be more than 0 and at most 86400"},
      {"millicores=1&durationSec=%zz", "percent"},
  };
  for (const auto& row : rows) {
    const http::RequestHead head = head_of(row.query);
    const auto asked = parse_consume({head, {}}, kMillicores);
    ASSERT_FALSE(asked) << row.query;
    EXPECT_EQ(asked.error().status, 400) << row.query;
    EXPECT_NE(asked.error().detail.find(row.words), std::string::npos) << row.query << ": " << asked.error().detail;
  }
}

TEST(ControlRequest, TakesABump) {
  const http::RequestHead head = head_of("metric=QPS&delta=-0.5&durationSec=30");
  const auto bump = parse_bump({head, {}});
  ASSERT_TRUE(bump);
  EXPECT_EQ(bump->metric, "QPS");
  EXPECT_EQ(bump->delta, -0.5);
  EXPECT_EQ(bump->time, 30s);
  for (const char* query :
       {"delta=1&durationSec=1", "metric=&delta=1&durationSec=1", "metric=a&durationSec=1", "metric=a&delta=1",
        "metric=a&delta=x&durationSec=1", "metric=a&delta=nan&durationSec=1", "metric=a&delta=inf&durationSec=1",
        "metric=a&delta=1e309&durationSec=1", "metric=a&delta=1x&durationSec=1", "metric=a&delta=1&durationSec=0"}) {
    const http::RequestHead bad = head_of(query);
    EXPECT_FALSE(parse_bump({bad, {}})) << query;
  }
}

}  // namespace
}  // namespace kiln::app
