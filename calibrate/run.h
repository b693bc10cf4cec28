// A calibration: the steps, one after the other, from a server at rest to a server at rest.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string_view>

#include "base/result.h"
#include "calibrate/calibration.h"
#include "calibrate/subject.h"

namespace kiln::calibrate {

inline constexpr std::chrono::milliseconds kStepUsual{3200};
inline constexpr std::chrono::milliseconds kStepMin{200};

struct RunOptions {
  std::chrono::nanoseconds step = kStepUsual;  // of each rate below the limit; all else lasts in proportion
  uint64_t seed = 1;                           // of the arrivals
  // What is being done, and how many seconds of how many are over; once a second.
  std::function<void(std::string_view doing, double done, double planned)> progress;
  std::function<bool()> interrupted;  // asked ten times a second; true ends the run
};

// The whole, or, when it was interrupted, what was measured by then. An error when the server does not answer, answers
// something else than successes, is not one server alone, or costs nothing that could be measured.
[[nodiscard]] base::Result<Calibration> run(const Subject& subject, const RunOptions& options);

}  // namespace kiln::calibrate
