// What a person sees while a load runs, on stderr: a picture that is drawn anew each second on a terminal, a line each
// ten seconds elsewhere.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "load/report.h"

namespace kiln::app {

class LoadView {
 public:
  enum class Where : uint8_t { Terminal, Elsewhere };
  LoadView(Where where, std::string_view title, double planned_seconds);

  struct Screen {
    size_t rows = 24;
    size_t columns = 80;
  };

  // The text to write after that second; empty when there is nothing to say. A picture fits the screen: of one that
  // does not, clear() could not tell how many lines it has taken.
  std::string after(uint64_t index, const load::SecondReport& second, Screen screen);
  // Takes the picture away.
  std::string clear();

 private:
  std::string picture(uint64_t index, const load::SecondReport& second, Screen screen);

  const Where where_;
  const std::string title_;
  const double planned_seconds_;
  size_t lines_drawn_ = 0;
  std::vector<uint32_t> p99_us_;          // of the last seconds
  std::map<std::string, uint64_t> pods_;  // answers of each so far
  uint64_t answers_ = 0;
  uint64_t errors_ = 0;
  load::SecondReport since_line_;
};

}  // namespace kiln::app
