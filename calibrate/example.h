// For tests: what a calibration of this server under 500m looks like.
#pragma once

#include "calibrate/calibration.h"
#include "calibrate/fit.h"

namespace kiln::calibrate {

// One of 5 ms a request, at that share of 500m.
inline Step step_at(double share, double p50_us, double p99_us) {
  Step step{.asked_share = share, .seconds = 4};
  step.due = static_cast<uint64_t>(share * 400 + 0.5);
  step.good = step.due;
  step.finished = step.seconds + p50_us / 1e6;
  step.billed_ms = static_cast<double>(step.due) * 5 + 0.05;
  step.p50_us = p50_us;
  step.p99_us = step.p99_smooth_us = p99_us;
  return step;
}

inline Calibration example() {
  Calibration calibration;
  calibration.kiln = "0.1.0 (0123abcd)";
  calibration.started_at = 1'764'115'200;
  calibration.seconds = 74.2;
  calibration.machine = {.kernel = "Linux 6.18.44", .hardware = "x86_64", .processor = "Intel(R) Xeon(R)", .cpus = 2};
  calibration.server = "own";
  calibration.request = "GET /load?ms=5";
  calibration.engine = "io_uring";
  calibration.workers = 1;
  calibration.judge = "the control group's CPU counter";
  calibration.limit_millicores = 500;
  calibration.limit_from = "a control group of its own";
  calibration.notes = {"another process of this machine used 3 % of a core meanwhile"};
  calibration.idle_millicores = 0.004;
  calibration.routes = {
      {.request = "GET /api/info", .requests = 800, .rate = 200, .billed_us = 41.2, .booked_us = 40.9},
      {.request = "POST /echo", .requests = 800, .rate = 200, .billed_us = 47.5, .booked_us = std::nullopt},
  };
  calibration.burns = {
      {.asked_ms = 0.1, .burns = 2000, .billed_ms = 0.10021},
      {.asked_ms = 5, .burns = 100, .billed_ms = 5.0005},
      {.asked_ms = 100, .burns = 8, .billed_ms = 99.99},
  };
  calibration.steps = {step_at(0.1, 5100, 6100),   step_at(0.2, 5200, 7900),    step_at(0.3, 5300, 10'400),
                       step_at(0.4, 5400, 13'200), step_at(0.5, 5700, 16'800),  step_at(0.6, 6300, 20'900),
                       step_at(0.7, 7900, 26'400), step_at(0.85, 14'600, 58'000), step_at(0.95, 41'000, 172'000)};
  std::vector<Point> points;
  for (const Step& step : calibration.steps) points.push_back({step.rate(), step.cpu_millicores()});
  calibration.line = fit_line(points);
  calibration.overload = {step_at(1, 310'000, 690'000), step_at(2, 1'950'000, 2'030'000)};
  for (Step& step : calibration.overload) step.saturated = true;
  calibration.overload.back().good = 596;
  calibration.overload.back().refused = 204;
  for (Step& step : calibration.overload) {
    step.finished = 5.98;
    step.billed_ms = 499.8 * 5.98;
  }
  calibration.plateau_millicores = 499.8;
  return calibration;
}

}  // namespace kiln::calibrate
