#include "profile/random.h"

#include <bit>
#include <cmath>

namespace kiln::profile {

uint64_t splitmix64(uint64_t& state) {
  state += 0x9e3779b97f4a7c15;
  uint64_t z = state;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

Random::Random(uint64_t seed) {
  for (uint64_t& word : state_) word = splitmix64(seed);
}

uint64_t Random::next() {
  auto& [a, b, c, d] = state_;
  const uint64_t result = std::rotl(a + d, 23) + a;
  const uint64_t shifted = b << 17;
  c ^= a;
  d ^= b;
  b ^= c;
  a ^= d;
  c ^= shifted;
  d = std::rotl(d, 45);
  return result;
}

double Random::next_unit() { return static_cast<double>(next() >> 11) * 0x1p-53; }

double Random::next_exponential() { return -std::log1p(-next_unit()); }

}  // namespace kiln::profile
