#include "calibrate/calibration.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <string>

#include "calibrate/advice.h"
#include "calibrate/example.h"

namespace kiln::calibrate {
namespace {

std::string replaced(std::string text, std::string_view old, std::string_view by) {
  const size_t at = text.find(old);
  EXPECT_NE(at, std::string::npos) << "there is no " << old;
  return at == std::string::npos ? text : text.replace(at, old.size(), by);
}

TEST(CalibrationJson, IsTheSameAfterItWasReadBack) {
  Calibration partial;
  partial.interrupted = true;
  partial.limit_from = "quotes \" and \\";
  Calibration measured = example();
  measured.line->idle_millicores = -0.02;
  for (const Calibration& calibration : {measured, partial}) {
    const std::string json = to_json(calibration);
    const auto back = from_json(json);
    ASSERT_TRUE(back) << back.error().what;
    EXPECT_EQ(to_json(*back), json);
    EXPECT_EQ(to_text(*back), to_text(calibration));
  }
}

TEST(CalibrationJson, KeepsTheFigures) {
  const auto back = from_json(to_json(example()));
  ASSERT_TRUE(back) << back.error().what;
  EXPECT_EQ(back->machine.processor, "Intel(R) Xeon(R)");
  EXPECT_EQ(back->workers, 1U);
  EXPECT_EQ(back->idle_millicores, 0.004);
  EXPECT_EQ(back->routes[0].booked_us, 40.9);
  EXPECT_EQ(back->routes[1].booked_us, std::nullopt);
  EXPECT_EQ(back->steps.size(), 9U);
  EXPECT_EQ(back->overload[1].refused, 204U);
  EXPECT_NEAR(back->line->cost_ms, 5, 1e-6);
  EXPECT_NEAR(back->bend_rate(), 99.9575, 1e-4);
}

TEST(CalibrationJson, PassesOverTheAdviceAndWhatItDoesNotKnow) {
  const std::string json = to_json(example(), R"({"recommended":40})");
  EXPECT_NE(json.find("\"advice\":{\"recommended\":40}}\n"), std::string::npos);
  const auto back = from_json(replaced(json, "\"seconds\"", "\"later\":[{}],\"seconds\""));
  ASSERT_TRUE(back) << back.error().what;
  EXPECT_EQ(to_json(*back), to_json(example()));
}

TEST(CalibrationJson, HasALineForEachStep) {
  EXPECT_NE(to_json(example()).find(",\n  {\"asked_share\":0.2,"), std::string::npos);
}

TEST(CalibrationJson, HasNoFigureWhereThereIsNone) {
  const std::string json = to_json(Calibration{});
  for (const char* expected : {"\"idle_millicores\":null", "\"line\":null", "\"steps\":[]"}) {
    EXPECT_NE(json.find(expected), std::string::npos) << expected;
  }
}

struct BadCase {
  const char* old;
  const char* by;
  const char* says;
};

TEST(CalibrationJson, SaysWhatIsWrongWithIt) {
  const BadCase cases[] = {
      {"\"schema\":1", "\"schema\":2", "schema 2; this kiln reads schema 1"},
      {"\"schema\":1", "\"schema\":\"1\"", "schema is not a whole number"},
      {"\"schema\":1", "\"other\":1", "schema is missing"},
      {"\"kiln\":\"", "\"kiln\":5,\"x\":\"", "kiln is not a text"},
      {"\"interrupted\":false", "\"interrupted\":0", "interrupted is not true or false"},
      {"\"machine\":{", "\"machine\":[],\"x\":{", "machine is not an object"},
      {"\"machine\":", "\"machines\":", "machine is missing: an object"},
      {"\"cpus\":2", "\"cpus\":4294967296", "machine.cpus is not a whole number up to 4294967295"},
      {"\"limit_millicores\":500", "\"limit_millicores\":-500", "limit_millicores is not a number that is not neg"},
      {"\"limit_millicores\":500", "\"limit_millicores\":1e12", "limit_millicores is not"},
      {"\"limit_millicores\":500", "\"limit_millicores\":1e999", "no calibration of kiln"},
      {"\"limit_millicores\":500", "\"limit_millicores\":NaN", "no calibration of kiln"},
      {"\"limit_millicores\":500", "\"limit_millicores\":null", "limit_millicores is not"},
      {"\"notes\":[", "\"notes\":{},\"x\":[", "notes is not a list"},
      {"\"notes\":[", "\"notes\":[5,", "notes[0] is no text"},
      {"\"idle_millicores\":0.004", "\"idle_millicores\":\"\"", "idle_millicores is not a number"},
      {"\"requests\":800", "\"requests\":-1", "routes[0].requests is not"},
      {"\"asked_ms\":5", "\"asked_ms\":0", "burns[1].asked_ms is not a number greater than 0"},
      {"\"steps\":[\n  {", "\"steps\":[7,{", "steps[0].asked_share is missing"},
      {"\"seconds\":4,\"due\":80", "\"seconds\":0,\"due\":80", "steps[1].seconds is not a number greater than 0"},
      {"\"due\":80", "\"due\":80.5", "steps[1].due is not a whole number"},
      {"\"due\":80", "\"due\":79", "in steps[1] good, refused and failed do not add up to due"},
      {"\"p99_us\":7900", "\"p99_us\":5199", "in steps[1] p50_us is greater than p99_us"},
      {"\"cost_ms\":5", "\"cost_ms\":0", "line.cost_ms is not a number greater than 0"},
      {"\"cost_ms\":5", "\"cost_ms\":-5", "line.cost_ms is not"},
      {"\"line\":{", "\"line\":5,\"x\":{", "line is not an object"},
      {"\"overload\":", "\"over\":", "overload is missing: a list"},
  };
  const std::string good = to_json(example());
  for (const BadCase& row : cases) {
    const auto read = from_json(replaced(good, row.old, row.by));
    ASSERT_FALSE(read) << row.by;
    EXPECT_NE(read.error().what.find(row.says), std::string::npos) << row.by << ": " << read.error().what;
    EXPECT_EQ(read.error().what.find('\n'), std::string::npos);
  }
  for (const char* text : {"", "{", "[]", "{}", "null", "5", "\"\""}) {
    const auto read = from_json(text);
    ASSERT_FALSE(read) << text;
    EXPECT_FALSE(read.error().what.empty());
  }
}

TEST(CalibrationJson, RefusesALineThroughLessThanTwoSteps) {
  Calibration calibration = example();
  calibration.steps.resize(1);
  const auto read = from_json(to_json(calibration));
  ASSERT_FALSE(read);
  EXPECT_NE(read.error().what.find("two steps"), std::string::npos) << read.error().what;
}

TEST(CalibrationJson, MakesTextsPrintable) {
  const auto read = from_json(replaced(to_json(example()), "the control group", "\\u001b[2J\\ncontrol"));
  ASSERT_TRUE(read) << read.error().what;
  EXPECT_EQ(read->judge, "?[2J?control's CPU counter");
}

// Everything that is computed of what was read.
void expect_finite(const Calibration& calibration, std::string_view json) {
  std::vector<double> figures = {calibration.started_at, calibration.seconds, calibration.limit_millicores,
                                 calibration.plateau_millicores, calibration.bend_rate(),
                                 calibration.idle_millicores.value_or(0)};
  for (const RouteCost& route : calibration.routes) {
    figures.insert(figures.end(), {route.rate, route.billed_us, route.booked_us.value_or(0)});
  }
  for (const BurnError& burn : calibration.burns) figures.insert(figures.end(), {burn.billed_ms, burn.percent()});
  for (const auto* steps : {&calibration.steps, &calibration.overload}) {
    for (const Step& step : *steps) {
      figures.insert(figures.end(), {step.rate(), step.goodput(), step.cpu_millicores(), step.p50_us, step.p99_us,
                                     step.p99_smooth_us, step.client_late_share});
    }
  }
  const auto advice = advise(calibration, {});
  if (advice) {
    figures.insert(figures.end(), {advice->goal_us, advice->edge_millicores});
    for (const Threshold& at : advice->thresholds) {
      figures.insert(figures.end(), {at.cpu_millicores, at.rate, at.headroom_millicores, at.growth, at.ramp_seconds,
                                     at.p99_us, at.slope_millicores, at.chance_seconds});
    }
    EXPECT_FALSE(to_text(*advice, calibration, {}).empty());
  }
  for (const double figure : figures) ASSERT_TRUE(std::isfinite(figure)) << json;
  EXPECT_FALSE(to_text(calibration).empty());
}

TEST(CalibrationJson, OfADamagedFileIsRefusedOrFinite) {
  Calibration small = example();
  small.steps.resize(2);
  small.overload.resize(1);
  small.burns.resize(1);
  small.routes.resize(1);
  small.notes.clear();
  const std::string good = to_json(small);
  for (size_t size = 0; size + 2 < good.size(); ++size) EXPECT_FALSE(from_json(good.substr(0, size))) << size;
  std::string json = good;
  size_t read_anyway = 0;
  for (char& c : json) {
    const char kept = c;
    for (const char other : {'0', '-', '"'}) {
      c = other;
      const auto calibration = from_json(json);
      if (!calibration) continue;
      ++read_anyway;
      expect_finite(*calibration, json);
    }
    c = kept;
  }
  EXPECT_GT(read_anyway, good.size() / 4) << "many figures stay figures";
}

TEST(CalibrationText, ShowsAllThatWasMeasured) {
  const std::string text = to_text(example());
  for (const char* expected : {
           "measured  2025-11-26 00:00:00 UTC, in 74 s, by kiln 0.1.0 (0123abcd)\n",
           "machine   Linux 6.18.44 x86_64, Intel(R) Xeon(R), 2 CPUs\n",
           "server    own, io_uring, 1 worker, 500m by a control group of its own\n",
           "request   GET /load?ms=5\n",
           "judge     the control group's CPU counter\n",
           "note      another process",
           "idle      0.00m\n",
           "line      CPU = 0.01m + 5.0000 ms x rate, by 9 steps\n",
           "off it    at most 0.00m, 0.000 % of the limit\n",
           "bend      at 100/s, where the limit cuts at 499.8m\n",
           "GET /api/info         200/s      41.2 us      40.9 us  -0.7 %\n",
           "POST /echo            200/s      47.5 us\n",
           "burn      0.1 ms      5 ms    100 ms\nerror    +0.21 %   +0.01 %   -0.01 %\n",
           "    50 %   50.0/s   250.0m   +0.00m   5.70 ms   16.8 ms       0      0   49.9/s\n",
           "   200 %    200/s   499.8m     full         -    2.03 s     204      0   99.7/s\n",
       }) {
    EXPECT_NE(text.find(expected), std::string::npos) << expected << "\n" << text;
  }
  for (size_t at = 0; at < text.size(); at = text.find('\n', at) + 1) {
    EXPECT_LE(text.find('\n', at) - at, 79U) << text.substr(at, text.find('\n', at) - at);
  }
}

TEST(CalibrationText, ShowsOnlyWhatWasMeasured) {
  Calibration calibration = example();
  calibration.interrupted = true;
  calibration.line.reset();
  calibration.plateau_millicores = 0;
  calibration.idle_millicores.reset();
  calibration.notes.clear();
  calibration.routes.clear();
  calibration.burns.clear();
  calibration.overload.clear();
  calibration.engine.clear();
  calibration.workers = 0;
  calibration.server = "http://kiln:8080";
  calibration.steps.resize(1);
  calibration.steps[0].p50_us = calibration.steps[0].p99_us = 0;
  const std::string text = to_text(calibration);
  for (const char* absent : {"idle", "line", "bend", "cost", "burn", "error", "worker", "machine"}) {
    EXPECT_EQ(text.find(absent), std::string::npos) << absent << "\n" << text;
  }
  for (const char* expected : {"INTERRUPTED", "client    Linux", "server    http://kiln:8080, 500m by",
                               "  10 %   10.0/s    50.0m        -         -         -       0"}) {
    EXPECT_NE(text.find(expected), std::string::npos) << expected << "\n" << text;
  }
  EXPECT_EQ(to_text(Calibration{}), "measured  in 0 s\n");
}

TEST(CalibrationText, TellsWhereTheClientWasLate) {
  Calibration calibration = example();
  calibration.steps[0].client_late_share = 0.032;
  calibration.steps[1].client_late_share = 0.009;
  const std::string text = to_text(calibration);
  EXPECT_NE(text.find("3.2 % sent late\n"), std::string::npos) << text;
  EXPECT_EQ(text.find("0.9 % sent late\n"), std::string::npos) << text;
}

TEST(CalibrationText, BreaksALongRowOfBurns) {
  Calibration calibration = example();
  calibration.burns.assign(7, {.asked_ms = 1, .burns = 1, .billed_ms = 1});
  const std::string text = to_text(calibration);
  EXPECT_NE(text.find("\nburn        1 ms\nerror    +0.00 %\n"), std::string::npos) << text;
}

TEST(CalibrationText, BreaksNotesBetweenWords) {
  Calibration calibration = example();
  calibration.notes = {"The steps are no straight line, off by up to 6.4 % of the limit: all that follows is rough."};
  const std::string text = to_text(calibration);
  EXPECT_NE(text.find("\nnote      The steps are no straight line, off by up to 6.4 % of the limit: all\n"
                      "          that follows is rough.\n"), std::string::npos) << text;
}

TEST(CalibrationText, NeverPrintsWhatMovesATerminal) {
  Calibration calibration = example();
  calibration.engine = "\x1b[2J";
  calibration.notes[0] = "a\nb";
  calibration.routes[0].request = "GET /\r";
  const std::string text = to_text(calibration);
  for (const char* expected : {"?[2J", "a?b\n", "GET /?"}) EXPECT_NE(text.find(expected), std::string::npos) << text;
}

}  // namespace
}  // namespace kiln::calibrate
