// `kiln calibrate [URL]`: the command line's words, and what becomes of them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/quantity.h"
#include "calibrate/advice.h"
#include "calibrate/quantities.h"
#include "calibrate/run.h"

namespace kiln::app {

// As they were written; what is wrong with them is said in one line.
struct CalibrateArguments {
  std::string url;  // empty: a server of our own
  std::string ms = "5";
  std::string quota;    // empty: calibrate/subject.h
  std::string limit;    // of a server at a URL; empty: what it says
  std::string metrics;  // likewise
  std::string seed = std::to_string(calibrate::RunOptions{}.seed);
  std::string step_time = base::format_duration(calibrate::kStepUsual);
  std::string engine = "auto";

  std::string request = calibrate::cpu_text(calibrate::Wishes{}.request_millicores);
  // More each second: millicores, or requests a second. Empty: calibrate/advice.h
  std::string slope;
  std::string reaction = base::format_duration(calibrate::Wishes{}.reaction);
  std::string goal;  // "p99<250ms"; empty: calibrate/advice.h

  std::string from;  // a calibration file to advise on, instead of measuring
  std::string out = "calibration.json";
  std::string patch;  // a directory
  std::string name = "kiln";
  std::optional<unsigned> target;  // to look at as well, and to write into the patch; nothing: the recommended one
  std::string format = "text";
};

// Exit status 0; 1 when something could not be measured or written, or there is no target to write into a patch; 2 for
// a bad command line; 129, 130 or 143 when a signal ended it, with the report of what was measured by then.
int calibrate(const CalibrateArguments& arguments);

}  // namespace kiln::app
