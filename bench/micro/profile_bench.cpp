// Question: how many arrivals a second can one core draw from a load profile?
// Estimate: the inverse of a constant or a ramp is a division and a square root, 20 ns; a Poisson gap is a logarithm
// more, 20 ns; the sine takes five rounds of Newton at a sine and a cosine each, 200 ns. A profile asks for 10^6 a
// second at most, so all of that is a fraction of a core.
// Answer: on one of two shared virtual cores (AMD EPYC, gcc 12, -O2), CPU time: a constant 23 ns, a ramp 26 ns, bursts
// 21 ns, a sine 138 ns; a Poisson gap adds 13 to 35 ns. So 43 million a second of a constant, 7 million of a sine.
#include <benchmark/benchmark.h>

#include "base/check.h"
#include "profile/parse.h"
#include "profile/schedule.h"

namespace kiln::profile {
namespace {

void draw(benchmark::State& state, std::string_view text, Arrivals arrivals) {
  const auto profile = parse_profile(text, {});
  CHECK(profile.has_value());
  const ScheduleOptions options{.arrivals = arrivals, .seed = 1, .shard = {}};
  Schedule schedule(*profile, options);
  Time last{0};
  for (auto _ : state) {
    auto time = schedule.next();
    if (!time) {
      schedule = Schedule(*profile, options);
      time = schedule.next();
      last = Time(0);
    }
    CHECK(*time >= last);
    last = *time;
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK_CAPTURE(draw, constant_uniform, "1000000@1h", Arrivals::Uniform);
BENCHMARK_CAPTURE(draw, constant_poisson, "1000000@1h", Arrivals::Poisson);
BENCHMARK_CAPTURE(draw, ramp_uniform, "0:1000000@1h", Arrivals::Uniform);
BENCHMARK_CAPTURE(draw, ramp_poisson, "0:1000000@1h", Arrivals::Poisson);
BENCHMARK_CAPTURE(draw, sine_uniform, "sine(500000,500000,1m)@1h", Arrivals::Uniform);
BENCHMARK_CAPTURE(draw, burst_uniform, "burst(1000,1000000,1m,5s)@1h", Arrivals::Uniform);

}  // namespace
}  // namespace kiln::profile

BENCHMARK_MAIN();
