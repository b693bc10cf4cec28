#include "calibrate/advice.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "calibrate/example.h"

namespace kiln::calibrate {
namespace {

using namespace std::chrono_literals;

// Five millicores a second more.
constexpr Wishes kWishes{.slope_millicores = 5};

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
  const Advice advice = advice_of(example(), kWishes);
  ASSERT_EQ(advice.thresholds.size(), 7U);
  const Threshold& at = advice.thresholds[2];
  EXPECT_EQ(at.target_percent, 50U);
  EXPECT_NEAR(at.cpu_millicores, 50, 1e-9);
  EXPECT_NEAR(at.rate, 9.9975, 1e-6) << "(50m - 0.0125m) / 5 ms";
  EXPECT_NEAR(at.headroom_millicores, 450, 1e-9);
  EXPECT_NEAR(at.growth, 10, 1e-9);
  EXPECT_NEAR(at.p99_us, 6100, 1e-6) << "below the lightest step";
  EXPECT_EQ(at.acts_from_millicores, 55) << "55.1m is read as 56m, 56 %, and 55 % is within a tenth";
  EXPECT_TRUE(at.can_trigger);
  EXPECT_EQ(at.replicas_at_rest, 1U);
  EXPECT_NEAR(advice.thresholds[3].p99_us, 6100 + 1800 * (60 - 50.0125) / 50, 1e-6) << "between two steps";
}

TEST(Advice, IsForALoadThatReachesTheLimitInTwoMinutes) {
  EXPECT_NEAR(advice_of(example(), {}).slope_millicores, 500 / 120., 1e-9);
  EXPECT_EQ(advice_of(example(), kWishes).slope_millicores, 5);
}

TEST(Advice, FindsTheEdgeBetweenTwoSteps) {
  const Advice advice = advice_of(example(), kWishes);
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
  EXPECT_EQ(advice.edge_millicores, 500);
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

// The first whole percent beyond 1.1 x 90 % is 100 %, beyond 1.1 x 80 % it is 89 %; use is rounded up to whole
// millicores.
TEST(Advice, KnowsWhatNeverScalesUp) {
  struct Row {
    double request, plateau;
    bool at_90, at_80;
  };
  const Row rows[] = {
      {500, 500, true, true},    {500, 499.8, true, true}, {500, 480, false, true}, {500, 444, false, false},
      {500, 444.1, false, true}, {100, 499.8, true, true}, {500, 0, true, true},
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
      {"the next does not last", kWishes, 40,
       "40 %, the highest target from which a replica stands 5m more each second for the 60 s until new ones serve, "
       "before its p99 passes 26.0 ms (at 346.4m); at 50 % it is 58 s; with 4.12m more each second it would be 90 %; "
       "one replica alone at its target is scaled up by chance each 109 s or so"},
      {"the next is past the edge",
       {.request_millicores = 500, .slope_millicores = 0.01, .reaction = 1s, .p99_max = 100ms}, 70,
       "70 %, the highest target from which a replica stands 0.01m more each second for the 1 s until new ones "
       "serve, before its p99 passes 100.0 ms (at 443.4m); at 80 % it is past that before the autoscaler acts (at "
       "444m)"},
      {"all do", {.slope_millicores = 1}, 90,
       "90 %, the highest looked at: from there a replica stands 1m more each second for 247 s before its p99 passes "
       "26.0 ms (at 346.4m), and new ones serve after 60 s; one replica alone at its target is scaled up by chance "
       "each 299 s or so"},
      {"all do, up to the limit", {.slope_millicores = 5, .p99_max = 1s}, 90,
       "90 %, the highest looked at: from there a replica stands 5m more each second for 80 s before the limit cuts "
       "(at 500m), and new ones serve after 60 s; one replica alone at its target is scaled up by chance each 299 s "
       "or so"},
      {"none lasts", {.request_millicores = 500, .slope_millicores = 5}, std::nullopt,
       "none: even at 30 % a replica stands 5m more each second for only 35 s before its p99 passes 26.0 ms (at "
       "346.4m), and new ones serve after 60 s; a limit of about 678m, or a request of 138m, or a load that "
       "grows by 2.95m a second, or new replicas within 35 s would do"},
      {"none lasts, and no request would", {.slope_millicores = 20}, std::nullopt,
       "none: even at 30 % a replica stands 20m more each second for only 15 s before its p99 passes 26.0 ms (at "
       "346.4m), and new ones serve after 60 s; a limit of about 1780m, or a load that grows by 5.22m a second, or "
       "new replicas within 15 s would do"},
      {"none is below the edge", {.request_millicores = 500, .slope_millicores = 1, .p99_max = 8ms}, std::nullopt,
       "none: at 30 % already the autoscaler acts from 169m on, and there a replica is past a p99 of 8.00 ms; a limit "
       "of about 1123m, or a request of 126m would do"},
      {"idle is beyond the edge", {.p99_max = 1ms}, std::nullopt,
       "none: in the lightest steps, up to 50.01m, p99 is 6.10 ms and beyond 1.00 ms already; allow a higher one, or "
       "calibrate with requests that cost less, or with a longer --step-time"},
  };
  for (const ReasonCase& row : cases) {
    const Advice advice = advice_of(example(), row.wishes);
    EXPECT_EQ(advice.recommended, row.recommended) << row.name;
    EXPECT_EQ(advice.reason, row.reason) << row.name;
  }
}

TEST(Advice, SaysThatTheNextNeverScalesUp) {
  Calibration calibration = example();
  calibration.plateau_millicores = 480;
  const Wishes wishes{.request_millicores = 500, .slope_millicores = 0.1, .reaction = 10s, .p99_max = 1s};
  const Advice advice = advice_of(calibration, wishes);
  EXPECT_EQ(advice.recommended, 80U);
  EXPECT_EQ(advice.reason,
            "80 %, the highest that can scale up: from there a replica stands 0.1m more each second for 360 s before "
            "it can use no more (at 480m), and new ones serve after 10 s; at 90 % its use never passes 480m, within a "
            "tenth of the target, and nothing ever scales up");
}

TEST(Advice, SaysWhyNothingScalesUp) {
  Calibration calibration = example();
  calibration.plateau_millicores = 160;
  const Advice advice = advice_of(calibration, {.request_millicores = 500, .slope_millicores = 0.1, .reaction = 1s});
  EXPECT_EQ(advice.recommended, std::nullopt);
  EXPECT_EQ(advice.reason,
            "none: even at 30 % its use never passes 160m, within a tenth of the target, and nothing ever scales up; "
            "lower the request");
}

// A window has 90 arrivals at target, give or take 9.5: 9 % of the use, and beyond 10 % the autoscaler acts.
TEST(Advice, TellsHowOftenChanceScalesUp) {
  Calibration calibration = example();
  calibration.line->idle_millicores = 0;
  const Threshold at = advice_of(calibration, {.request_millicores = 100}).thresholds[0];
  EXPECT_NEAR(at.rate, 6, 1e-9);
  EXPECT_NEAR(at.chance_seconds, 15 / 0.1714, 0.1) << "0.949 deviations: 3m of 3.16m";
  const Threshold of_many = advice_of(calibration, {.request_millicores = 200}).thresholds[6];
  EXPECT_NEAR(of_many.chance_seconds, 15 / 0.00709, 10) << "2.453 deviations: 19m of 7.75m";
  calibration.line->cost_ms = 1e-9;
  EXPECT_EQ(advice_of(calibration, kWishes).thresholds[6].chance_seconds, kChanceSecondsMax);
}

// Of n replicas with nothing to do the autoscaler wants ceil(n x idle / target).
TEST(Advice, CountsWhoStaysWithoutLoad) {
  struct Row {
    double idle;
    unsigned at_30, at_60, at_90;
  };
  const Row rows[] = {
      {0, 1, 1, 1}, {15, 1, 1, 1}, {16, 2, 1, 1}, {26.5, 0, 1, 1}, {50.2, 0, 6, 2}, {53.9, 0, 0, 2}, {80.3, 0, 0, 0},
  };
  for (const Row& row : rows) {
    Calibration calibration = example();
    calibration.idle_millicores = row.idle;
    const Advice advice = advice_of(calibration, kWishes);
    EXPECT_EQ(advice.thresholds[0].replicas_at_rest, row.at_30) << row.idle;
    EXPECT_EQ(advice.thresholds[3].replicas_at_rest, row.at_60) << row.idle;
    EXPECT_EQ(advice.thresholds[6].replicas_at_rest, row.at_90) << row.idle;
  }
}

TEST(Advice, RecommendsNoTargetThatIdlingHolds) {
  Calibration calibration = example();
  calibration.idle_millicores = 30;
  EXPECT_EQ(advice_of(calibration, kWishes).recommended, 40U);
  calibration.idle_millicores = 40;
  Advice advice = advice_of(calibration, kWishes);
  EXPECT_EQ(advice.recommended, std::nullopt);
  EXPECT_TRUE(advice.reason.starts_with("none: even at 50 % a replica stands")) << advice.reason;
  calibration.idle_millicores = 109.8;
  advice = advice_of(calibration, {.slope_millicores = 1});
  EXPECT_EQ(advice.recommended, std::nullopt);
  EXPECT_EQ(advice.reason,
            "none: idling alone is read as 110m, 110 % of the request, and up to a target of 90 % the replicas would "
            "never become fewer; a request of 136m, or a server that idles less would do");
  EXPECT_EQ(advice_of(calibration, {.request_millicores = 136, .slope_millicores = 1}).recommended, 90U);
  EXPECT_EQ(advice_of(calibration, {.request_millicores = 135, .slope_millicores = 1}).recommended, std::nullopt);
}

TEST(Advice, LooksAtOneTargetMore) {
  const Advice advice = advice_of(example(), {.slope_millicores = 1, .target_percent = 65});
  ASSERT_EQ(advice.thresholds.size(), 8U);
  EXPECT_EQ(advice.thresholds[4].target_percent, 65U);
  const Advice beyond = advice_of(example(), {.slope_millicores = 1, .target_percent = 100});
  EXPECT_EQ(beyond.thresholds.size(), 8U);
  EXPECT_EQ(beyond.recommended, 90U);
  EXPECT_EQ(beyond.reason, advice_of(example(), {.slope_millicores = 1}).reason) << "only one row more";
  EXPECT_EQ(advice_of(example(), {.target_percent = 70}).thresholds.size(), 7U);
}

TEST(Advice, DoesNotTakeASaturatedStepForLittleLoad) {
  Calibration calibration = example();
  calibration.limit_millicores = 2000;  // of which one thread uses a quarter
  for (Step& step : calibration.steps) {
    if (step.cpu_millicores() < 440) continue;
    step.saturated = true;
    step.p50_us = 1e6;
  }
  EXPECT_NEAR(advice_of(calibration, kWishes).goal_us, 5 * 5200, 1e-9);
}

// One that is saturated by less than others take in their stride, and one that is the only one with a p99.
TEST(Advice, PassesOverASaturatedStepThatTellsNothing) {
  Calibration calibration = example();
  calibration.steps[1].saturated = true;
  calibration.steps[1].p99_smooth_us = 900'000;
  EXPECT_NEAR(advice_of(calibration, kWishes).edge_millicores, advice_of(example(), kWishes).edge_millicores, 5);
  for (Step& step : calibration.steps) step.p99_smooth_us = step.saturated ? 900'000 : 0;
  EXPECT_EQ(advice_of(calibration, kWishes).edge_millicores, 0);
  EXPECT_TRUE(advice_of(calibration, {.p99_max = 1s}).reason.starts_with("none: the steps had too few requests"));
}

// What is said to do does: for many requests, amounts of idling, slopes and goals.
TEST(Advice, NamesRequestsAndSlopesThatDo) {
  const auto after = [](const std::string& text, std::string_view words) -> std::optional<double> {
    const size_t at = text.find(words);
    return at == std::string::npos ? std::nullopt : std::optional(std::stod(text.substr(at + words.size())));
  };
  size_t tried = 0;
  for (const double idle : {0.0, 10.0, 20.0, 40.0, 60.0}) {
    for (const double request : {20.0, 50.0, 100.0, 300.0, 500.0}) {
      for (const double slope : {0.5, 3.0, 7.0, 40.0, 250.0}) {
        for (const auto reaction : {1s, 30s, 60s}) {
          Calibration calibration = example();
          calibration.idle_millicores = idle;
          const Wishes wishes{.request_millicores = request, .slope_millicores = slope, .reaction = reaction};
          const std::string reason = advice_of(calibration, wishes).reason;
          if (!reason.starts_with("none: ")) continue;
          Wishes other = wishes;
          if (const auto better = after(reason, "a request of ")) {
            other.request_millicores = *better;
            EXPECT_TRUE(advice_of(calibration, other).recommended) << reason;
            ++tried;
          }
          other = wishes;
          if (const auto better = after(reason, "a load that grows by ")) {
            other.slope_millicores = *better;
            EXPECT_TRUE(advice_of(calibration, other).recommended) << reason;
            ++tried;
          }
        }
      }
    }
  }
  EXPECT_GT(tried, 100U);
}

TEST(Advice, KnowsNoP99OfTooFewRequests) {
  Calibration calibration = example();
  for (Step& step : calibration.steps) step.p99_smooth_us = 0;
  Advice advice = advice_of(calibration, kWishes);
  EXPECT_EQ(advice.recommended, std::nullopt);
  EXPECT_EQ(advice.edge_millicores, 0);
  EXPECT_EQ(advice.thresholds[0].p99_us, 0);
  EXPECT_EQ(advice.reason, "none: the steps had too few requests to tell a p99; a longer --step-time gives more");
  for (Step& step : calibration.steps) step.p99_smooth_us = step.cpu_millicores() < 260 ? 30'000 : 90'000;
  advice = advice_of(calibration, kWishes);
  EXPECT_EQ(advice.reason,
            "none: in the lightest steps, up to 250m, p99 is 30.0 ms and beyond 26.0 ms already; allow a higher one, "
            "or calibrate with requests that cost less, or with a longer --step-time");
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
  Advice advice = advice_of(calibration, kWishes);
  EXPECT_NEAR(advice.thresholds[2].headroom_millicores, 200, 1e-9);
  EXPECT_NEAR(advice.thresholds[2].growth, 5, 1e-9);
  advice = advice_of(calibration, {.request_millicores = 250});
  EXPECT_EQ(advice.reason.find("a limit of"), std::string::npos) << "a higher one would change nothing";
}

TEST(Advice, SaysWhatIsNotSoSure) {
  Calibration calibration = example();
  calibration.steps[4].client_late_share = 0.07;
  std::string reason = advice_of(calibration, kWishes).reason;
  EXPECT_NE(reason.find("PROVISIONAL: up to 7 % of a step's requests went out late"), std::string::npos) << reason;
  reason = advice_of(example(), kWishes).reason;
  EXPECT_EQ(reason.find("PROVISIONAL"), std::string::npos) << reason;
  EXPECT_NE(reason.find("; one replica alone at its target is scaled up by chance each "), std::string::npos) << reason;
  calibration = example();
  calibration.plateau_millicores = 0;
  reason = advice_of(calibration, kWishes).reason;
  EXPECT_TRUE(reason.ends_with("; PROVISIONAL: the limit of 500m was not in force")) << reason;
  calibration.limit_is_quota = false;
  calibration.line->residual_max_millicores = 10;
  reason = advice_of(calibration, kWishes).reason;
  EXPECT_TRUE(reason.ends_with("; PROVISIONAL: no limit was in force, and under one latencies are higher, and the "
                               "steps are off the line by 2.0 % of the limit")) << reason;
}

// One thing at a time, each of which is told to be enough.
TEST(Advice, NamesRemediesThatHelp) {
  const Wishes unfit{.request_millicores = 500, .slope_millicores = 5};
  Wishes smaller = unfit, slower = unfit, quicker = unfit;
  smaller.request_millicores = 138;
  slower.slope_millicores = 2.95;
  quicker.reaction = 35s;
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
  const std::string text = to_text(advice_of(example(), kWishes), example(), kWishes);
  for (const char* expected : {
           "request 100m, limit 500m, load grows by 5m a second, new replicas after 60 s\n"
           "p99 to hold 26.0 ms (5 x the median with little load): up to 346.4m\n"
           "target     CPU   req/s  headroom  growth   ramp     slope       p99  by chance\n",
           "  60 %     60m    12.0      440m    x8.3   56 s   4.67m/s   6.46 ms each 3 min\n",
           "\nrecommended: 40 %, the highest",
       }) {
    EXPECT_NE(text.find(expected), std::string::npos) << expected << "\n" << text;
  }
}

TEST(Advice, ShowsWhereNothingScalesUpOrIsServed) {
  Calibration calibration = example();
  calibration.line->idle_millicores = 200;
  calibration.idle_millicores = 200;
  calibration.plateau_millicores = 480;
  const Wishes wishes{.request_millicores = 500, .slope_millicores = 5};
  const std::string text = to_text(advice_of(calibration, wishes), calibration, wishes);
  for (const char* expected : {"  30 %    150m       -      330m    x3.2   35 s   2.95m/s   10.4 ms          -  never "
                               "scales down\n",
                               "  60 %    300m    20.0      180m    x1.6  2.4 s    0.2m/s   20.9 ms     hardly  2 "
                               "stay\n",
                               "x1.1      -         -  115.0 ms          -  never scales up\n"}) {
    EXPECT_NE(text.find(expected), std::string::npos) << expected << "\n" << text;
  }
}

}  // namespace
}  // namespace kiln::calibrate
