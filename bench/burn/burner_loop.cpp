// Kiln's burner as bench/burn/table asks for it: one burn after another, each handed over by the answer to the last, so
// that no thread but the burner's runs in between. The control group's counter says what it cost.
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <semaphore>

#include "bench/burn/commands.h"
#include "burn/burner.h"

namespace {

using kiln::burn::Burner;
using kiln::burn::BurnResult;

void burn_in_a_chain(Burner& burner, const kiln::bench::BurnCommand& command) {
  std::binary_semaphore finished(0);
  int64_t left = command.count;
  std::function<void()> next = [&] {
    const auto id = burner.submit(command.each, [&](const BurnResult& result) {
      if (result.outcome != kiln::burn::Outcome::Done) std::abort();
      if (--left > 0) return next();
      finished.release();
    });
    if (!id) std::abort();
  };
  next();
  finished.acquire();
}

}  // namespace

int main() {
  Burner burner({.queue_max = std::chrono::seconds(1)});
  return kiln::bench::obey_commands([&](const kiln::bench::BurnCommand& command) { burn_in_a_chain(burner, command); });
}
