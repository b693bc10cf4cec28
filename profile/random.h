// Random numbers that are the same on every machine: the distributions of <random> may differ from library to library,
// and with them what several machines believe to be one schedule. The generator is xoshiro256++ 1.0 by Blackman and
// Vigna (prng.di.unimi.it), its state filled by their splitmix64.
#pragma once

#include <array>
#include <cstdint>

namespace kiln::profile {

// Advances `state` and returns the next number.
uint64_t splitmix64(uint64_t& state);

class Random {
 public:
  using State = std::array<uint64_t, 4>;

  explicit Random(uint64_t seed);
  explicit Random(const State& state) : state_(state) {}  // not all 0

  uint64_t next();
  // In [0, 1): a multiple of 2^-53.
  double next_unit();
  // Exponentially distributed with mean 1: the gaps of a Poisson process with one arrival a unit of time.
  double next_exponential();

 private:
  State state_;
};

}  // namespace kiln::profile
