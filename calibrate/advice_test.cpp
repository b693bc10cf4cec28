#include "calibrate/advice.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "calibrate/example.h"

namespace kiln::calibrate {
namespace {

using namespace std::chrono_literals;

Advice advice_of(const Calibration& calibration, const Wishes& wishes) {
  auto advice = advise(calibration, wishes);
  EXPECT_TRUE(advice) << advice.error().what;
  return advice ? *advice : Advice{};
}

TEST(Goal, IsAPercentileBelowADuration) {
  const auto goal = parse_goal("p99<250ms");
  ASSERT_TRUE(goal) << goal.error().what;
  EXPECT_EQ(*goal, 250ms);
  EXPECT_EQ(parse_goal(" p99 < 1s ").value_or(0ns), 1s);
  for (const char* text : {"", "p99", "p99<", "p99<0", "p99<0ms", "p99>250ms", "p90<250ms", "250ms", "p99<250",
                           "p99<-1s"}) {
    const auto refused = parse_goal(text);
    ASSERT_FALSE(refused) << text;
    EXPECT_NE(refused.error().what.find("p99<250ms"), std::string::npos) << refused.error().what;
  }
}

TEST(Advice, HasARowForEachTarget) {
  const Advice advice = advice_of(example(), {});
  ASSERT_EQ(advice.thresholds.size(), 7U);
  const Threshold& at = advice.thresholds[2];
  EXPECT_EQ(at.target_percent, 50U);
  EXPECT_NEAR(at.cpu_millicores, 50, 1e-9);
  EXPECT_NEAR(at.rate, 9.9975, 1e-6) << "(50m - 0.0125m) / 5 ms";
  EXPECT_NEAR(at.headroom_millicores, 450, 1e-9);
  EXPECT_NEAR(at.growth, 10, 1e-9);
  EXPECT_NEAR(at.p99_us, 6100, 1e-6) << "below the lightest step";
  EXPECT_NEAR(at.spread_percent, 100 / std::sqrt(9.9975 * 15), 0.01);
  EXPECT_TRUE(at.can_trigger);
  EXPECT_NEAR(advice.thresholds[3].p99_us, 6100 + 1800 * (60 - 50.0125) / 50, 1e-6) << "between two steps";
}

TEST(Advice, FindsTheEdgeBetweenTwoSteps) {
  const Advice advice = advice_of(example(), {});
  EXPECT_NEAR(advice.goal_us, 5 * 5200, 1e-9) << "the median of four steps' medians, the lower one of two";
  EXPECT_FALSE(advice.edge_is_plateau);
  EXPECT_NEAR(advice.edge_millicores, 300.0125 + 50 * (26'000 - 20'900) / (26'400. - 20'900), 1e-6);
  EXPECT_NEAR(advice.thresholds[0].ramp_seconds, (advice.edge_millicores - 33) / 5, 1e-9) << "a tenth is left alone";
}

TEST(Advice, BeyondTheLastStepTakesItsFigure) {
  Calibration calibration = example();
  calibration.steps.resize(2);
  const Advice advice = advice_of(calibration, {.request_millicores = 500});
  EXPECT_NEAR(advice.thresholds.back().p99_us, 7900, 1e-9);
  EXPECT_TRUE(advice.edge_is_plateau);
  EXPECT_EQ(advice.edge_millicores, 499.8);
}

TEST(Advice, WithoutAPlateauTheLimitIsTheEdge) {
  Calibration calibration = example();
  calibration.plateau_millicores = 0;
  const Advice advice = advice_of(calibration, {.p99_max = 1s});
  EXPECT_TRUE(advice.edge_is_plateau);
  EXPECT_EQ(advice.edge_millicores, 500);
}

TEST(Advice, SortsStepsWhoseCpuCameOutInTheOtherOrder) {
  Calibration calibration = example();
  std::swap(calibration.steps[2].billed_ms, calibration.steps[3].billed_ms);
  const Advice advice = advice_of(calibration, {.request_millicores = 500});
  double last = 0;
  for (const Threshold& at : advice.thresholds) {
    EXPECT_GE(at.p99_us, last);
    last = at.p99_us;
  }
}

// A whole use of 99 % is not beyond 1.1 x 90 %.
TEST(Advice, KnowsWhatNeverScalesUp) {
  struct Row {
    double request, plateau;
    bool at_90, at_80;
  };
  const Row rows[] = {
      {500, 500, true, true},   {500, 499.8, false, true}, {496, 500, true, true}, {500, 440, false, false},
      {500, 445, false, true}, {100, 499.8, true, true},   {500, 0, true, true},
  };
  for (const Row& row : rows) {
    Calibration calibration = example();
    calibration.plateau_millicores = row.plateau;
    const Advice advice = advice_of(calibration, {.request_millicores = row.request});
    EXPECT_EQ(advice.thresholds[6].can_trigger, row.at_90) << row.request << " " << row.plateau;
    EXPECT_EQ(advice.thresholds[5].can_trigger, row.at_80) << row.request << " " << row.plateau;
  }
}

struct ReasonCase {
  const char* name;
  Wishes wishes;
  std::optional<unsigned> recommended;
  const char* reason;
};

TEST(Advice, SaysWhy) {
  const ReasonCase cases[] = {
      {"the next does not last", {}, 40,
       "40 %, the highest target from which a replica stands 5m more each second for the 60 s until new ones serve, "
       "before its p99 passes 26.0 ms (at 346.4m); at 50 % it is 58 s"},
      {"the next is past the edge",
       {.request_millicores = 500, .slope_millicores = 0.01, .reaction = 1s, .p99_max = 100ms}, 80,
       "80 %, the highest target from which a replica stands 0.01m more each second for the 1 s until new ones "
       "serve, before its p99 passes 100.0 ms (at 443.4m); at 90 % a replica is past that already"},
      {"the next never scales up",
       {.request_millicores = 500, .slope_millicores = 0.1, .reaction = 10s, .p99_max = 1s}, 80,
       "80 %, the highest that can scale up: from there a replica stands 0.1m more each second for 597 s before the "
       "limit cuts (at 499.8m), and new ones serve after 10 s; at 90 % the limit holds the use at 499.8m, within a "
       "tenth of the target, and nothing ever scales up"},
      {"all do", {.slope_millicores = 1}, 90,
       "90 %, the highest looked at: from there a replica stands 1m more each second for 247 s before its p99 passes "
       "26.0 ms (at 346.4m), and new ones serve after 60 s"},
      {"all do, up to the limit", {.p99_max = 1s}, 90,
       "90 %, the highest looked at: from there a replica stands 5m more each second for 80 s before the limit cuts "
       "(at 499.8m), and new ones serve after 60 s"},
      {"none lasts", {.request_millicores = 500}, std::nullopt,
       "none: even at 30 % a replica stands 5m more each second for only 36 s before its p99 passes 26.0 ms (at "
       "346.4m), and new ones serve after 60 s; a limit of about 672m, or a request of at most 140m, or a load that "
       "grows by 3.02m a second, or new replicas within 36 s would do"},
      {"none lasts, and no request would", {.slope_millicores = 20}, std::nullopt,
       "none: even at 30 % a replica stands 20m more each second for only 15 s before its p99 passes 26.0 ms (at "
       "346.4m), and new ones serve after 60 s; a limit of about 1780m, or a load that grows by 5.22m a second, or "
       "new replicas within 15 s would do"},
      {"none is below the edge", {.request_millicores = 500, .slope_millicores = 1, .p99_max = 8ms}, std::nullopt,
       "none: at 30 % already, with 150m, a replica is past a p99 of 8.00 ms; a limit of about 1103m, or a "
       "request of at most 127m would do"},
      {"idle is beyond the edge", {.p99_max = 1ms}, std::nullopt,
       "none: with hardly any load, at 50.01m, p99 is 6.10 ms and beyond 1.00 ms already; allow a higher one, or "
       "calibrate with requests that cost less"},
  };
  for (const ReasonCase& row : cases) {
    const Advice advice = advice_of(example(), row.wishes);
    EXPECT_EQ(advice.recommended, row.recommended) << row.name;
    EXPECT_EQ(advice.reason, row.reason) << row.name;
  }
}

TEST(Advice, SaysWhyNothingScalesUp) {
  Calibration calibration = example();
  calibration.plateau_millicores = 160;
  const Advice advice = advice_of(calibration, {.request_millicores = 500, .slope_millicores = 0.1, .reaction = 1s});
  EXPECT_EQ(advice.recommended, std::nullopt);
  EXPECT_EQ(advice.reason,
            "none: even at 30 % the limit holds the use at 160m, within a tenth of the target, and nothing ever "
            "scales up; raise the limit, or lower the request");
}

// Up to a tenth beyond the target nothing happens, so what lies there is not safe.
TEST(Advice, IsNoTargetWhoseToleranceReachesBeyondTheEdge) {
  const Wishes wishes{.request_millicores = 400, .slope_millicores = 0.01, .reaction = 1s};
  const Advice advice = advice_of(example(), wishes);
  EXPECT_NEAR(advice.edge_millicores, 346.4, 0.1);
  EXPECT_EQ(advice.recommended, 70U) << "at 80 % it acts from 352m on";
}

TEST(Advice, HasNoMoreRoomThanTheServerCanUse) {
  Calibration calibration = example();
  calibration.plateau_millicores = 250;
  Advice advice = advice_of(calibration, {});
  EXPECT_NEAR(advice.thresholds[2].headroom_millicores, 200, 1e-9);
  EXPECT_NEAR(advice.thresholds[2].growth, 5, 1e-9);
  advice = advice_of(calibration, {.request_millicores = 250});
  EXPECT_EQ(advice.reason.find("a limit of"), std::string::npos) << "a higher one would change nothing";
}

TEST(Advice, SaysWhatIsNotSoSure) {
  Calibration calibration = example();
  calibration.steps[4].client_late_share = 0.07;
  std::string reason = advice_of(calibration, {}).reason;
  EXPECT_NE(reason.find("PROVISIONAL: up to 7 % of a step's requests went out late"), std::string::npos) << reason;
  reason = advice_of(example(), {.request_millicores = 20, .slope_millicores = 20, .reaction = 15s}).reason;
  EXPECT_EQ(reason.find("PROVISIONAL"), std::string::npos) << reason;
  EXPECT_NE(reason.find("is scaled by chance now and then: its use in 15 s varies by"), std::string::npos) << reason;
}

// One thing at a time, each of which is told to be enough.
TEST(Advice, NamesRemediesThatHelp) {
  const Wishes unfit{.request_millicores = 500};
  Wishes smaller = unfit, slower = unfit, quicker = unfit;
  smaller.request_millicores = 140;
  slower.slope_millicores = 3.02;
  quicker.reaction = 36s;
  EXPECT_FALSE(advice_of(example(), unfit).recommended);
  for (const Wishes& wishes : {smaller, slower, quicker}) EXPECT_EQ(advice_of(example(), wishes).recommended, 30U);
}

TEST(Advice, RefusesWhatHasNone) {
  Calibration no_line = example(), no_limit = example();
  no_line.line.reset();
  no_line.interrupted = true;
  no_limit.limit_millicores = 0;
  struct Row {
    Calibration calibration;
    Wishes wishes;
    const char* says;
  };
  const Row rows[] = {
      {no_line, {}, "interrupted"},
      {no_limit, {}, "no limit"},
      {example(), {.request_millicores = 0}, "less than 1m"},
      {example(), {.request_millicores = 500.1}, "more than the limit of 500m"},
      {example(), {.slope_millicores = 0}, "grows by"},
      {example(), {.slope_millicores = 1e300}, "grows by"},
      {example(), {.reaction = -1s}, "negative"},
  };
  for (const Row& row : rows) {
    const auto advice = advise(row.calibration, row.wishes);
    ASSERT_FALSE(advice) << row.says;
    EXPECT_NE(advice.error().what.find(row.says), std::string::npos) << advice.error().what;
  }
}

TEST(Advice, IsShownAsATable) {
  const std::string text = to_text(advice_of(example(), {}), example(), {});
  for (const char* expected : {
           "request 100m, limit 500m, p99 to hold 26.0 ms (5 x the median with little load)\n",
           "target     CPU    req/s   headroom   growth     ramp       p99  by chance\n",
           "  60 %     60m     12.0       440m     x8.3     56 s   6.46 ms      +-7 %\n",
           "\nrecommended: 40 %, the highest",
       }) {
    EXPECT_NE(text.find(expected), std::string::npos) << expected << "\n" << text;
  }
}

TEST(Advice, ShowsWhereNothingScalesUpOrIsServed) {
  Calibration calibration = example();
  calibration.line->idle_millicores = 200;
  const Wishes wishes{.request_millicores = 500};
  const std::string text = to_text(advice_of(calibration, wishes), calibration, wishes);
  for (const char* expected : {"  30 %    150m        -       350m     x3.3     36 s   10.4 ms          -\n",
                               "x1.1        -  115.0 ms      +-2 %   never scales up\n"}) {
    EXPECT_NE(text.find(expected), std::string::npos) << expected << "\n" << text;
  }
}

}  // namespace
}  // namespace kiln::calibrate
