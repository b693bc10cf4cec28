// How bench/burn/table speaks to the programs that burn beside Kiln: "ready" once they have calibrated themselves, then
// a command a line, each answered by "done", until the input ends. Between commands they sleep, so that their group's
// counter stands still.
//
//   NANOSECONDS COUNT INTERVAL_NANOSECONDS      burns COUNT times, one every INTERVAL; 0: one after another
#pragma once

#include <chrono>
#include <cinttypes>
#include <cstdint>
#include <cstdio>

namespace kiln::bench {

struct BurnCommand {
  std::chrono::nanoseconds each;
  int64_t count;
  std::chrono::nanoseconds interval;
};

// Returns the exit status: 0 at the end of the input, 1 on a line that is no command.
template <class Run>
int obey_commands(Run&& run) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  std::puts("ready");
  char line[128];
  while (std::fgets(line, sizeof line, stdin) != nullptr) {
    int64_t each = 0;
    int64_t count = 0;
    int64_t interval = 0;
    if (std::sscanf(line, "%" SCNd64 " %" SCNd64 " %" SCNd64, &each, &count, &interval) != 3 || each < 1 || count < 1 ||
        interval < 0) {
      std::fprintf(stderr, "no command: %s", line);
      return 1;
    }
    run(BurnCommand{std::chrono::nanoseconds(each), count, std::chrono::nanoseconds(interval)});
    std::puts("done");
  }
  return 0;
}

}  // namespace kiln::bench
