// The scripted server driven at random: events by weight, thousands of them a server, until the steps are done.
//
//   random_walk [steps] [seed]      prints what happened; a failure prints seed and script
//
// Each server of a run has a seed of its own, one more than the one before. A failure names it, and a run with it and
// one step fails in the same way.
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>

#include "tests/scripted/scripted_server.h"

namespace kiln::scripted {
namespace {

// A letter as often as it is to be likely.
constexpr std::string_view kUsual =
    "00112233445566778899001122334455667788990011223344556677889900112233445566778899"
    "ccccccccccccccccC"
    "gggggggghhqbBBBppppppppkkkkkkllwwonnn"
    "FF"
    "iijjjjjjaaaaaaaaaaaaaaaaaaaaaaaaA"
    "NIGK"
    "sssssssssssssssssssssssssssssss"
    "tttttttttttttttttttttttttttttttttttttttttttttttttt"
    ",,,,~";
constexpr std::string_view kRare = "eEVVZSSSSS....;:@^^&LL$$$rrrrrrr***ffffxxxXX";
constexpr size_t kRarelyOneIn = 30;
constexpr size_t kLettersAServer = 20'000;

struct Walk {
  Counts counts;
  uint64_t digest = 0;
};

Walk walk(uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto below = [&random](size_t n) { return static_cast<size_t>(random() % n); };
  ScriptedServer server(seed % 4 == 0);
  // The last letters may come while it drains or halts; and from somewhere on no connection lives long.
  const size_t ends_at = kLettersAServer - below(300);
  const size_t announced_at = kLettersAServer - below(4000);
  for (size_t letter = 0; letter < kLettersAServer; ++letter) {
    if (letter == ends_at) {
      server.play(below(2) == 0 ? '!' : '#');
    } else if (letter == announced_at) {
      server.play('%');
    } else {
      const std::string_view letters = below(kRarelyOneIn) == 0 ? kRare : kUsual;
      server.play(letters[below(letters.size())]);
    }
  }
  server.end(below(2) == 0);
  return {server.counts(), server.digest()};
}

int run(uint64_t steps, uint64_t first_seed) {
  Counts all;
  uint64_t seed = first_seed;
  for (; all.events < steps; ++seed) {
    explain_aborts("again: random_walk 1 " + std::to_string(seed));
    const Walk walked = walk(seed);
    all.add(walked.counts);
    if (seed == first_seed && walk(seed).digest != walked.digest) {
      std::fprintf(stderr, "seed %" PRIu64 " went another way the second time\n", seed);
      return 1;
    }
  }
  std::printf("seeds %" PRIu64 " to %" PRIu64 "\n%s", first_seed, seed - 1, all.text().c_str());
  // The dice have not missed what this is about.
  for (const auto& places : {all.resets, all.ends, all.halts, all.drains}) {
    for (const uint64_t count : places) {
      if (steps >= 100'000 && count == 0) {
        std::fprintf(stderr, "something never happened; see above\n");
        return 1;
      }
    }
  }
  return 0;
}

}  // namespace
}  // namespace kiln::scripted

int main(int argument_count, char** arguments) {
  const uint64_t steps = argument_count > 1 ? std::strtoull(arguments[1], nullptr, 10) : 1'000'000;
  const uint64_t seed = argument_count > 2 ? std::strtoull(arguments[2], nullptr, 10) : 1;
  return kiln::scripted::run(steps, seed);
}
