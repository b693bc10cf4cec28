// The arrivals of a profile: when each request is to be sent. Open loop: they depend on nothing but the profile, the
// seed and the shard, and come one at a time without allocating.
//
// The requests of a profile have numbers k = 0, 1, 2 … and each has its place n(k) on the axis of expected arrivals,
// which Profile::time_of turns into a time:
//
//   Uniform   n(k) = k + 0.5: in the middle of its share of the axis, so that a whole total is never one request off by
//             a rounding error.
//   Poisson   n(k) = the (k + 1)-th arrival of a seeded Poisson process of rate 1.
//
// Shard i of m takes the requests with k mod m = i and leaves the others out: m shards send what one would have sent,
// request by request, at the same times. (On a machine whose C library rounds the last bit of log1p, sin or cos another
// way a time may be a little different, but it is the same request of the same shard.)
#pragma once

#include <cstdint>
#include <optional>

#include "profile/profile.h"
#include "profile/random.h"

namespace kiln::profile {

enum class Arrivals : uint8_t { Uniform, Poisson };

struct Shard {
  uint32_t index = 0;  // below count
  uint32_t count = 1;
};

struct ScheduleOptions {
  Arrivals arrivals = Arrivals::Uniform;
  uint64_t seed = 1;  // of Poisson arrivals
  Shard shard;
};

class Schedule {
 public:
  // The profile must outlive the schedule and stay as it is.
  Schedule(const Profile& profile, const ScheduleOptions& options);
  Schedule(const Profile&&, const ScheduleOptions&) = delete;

  // The next arrival, never before the one before; nothing after the last.
  std::optional<Time> next();

 private:
  // The place of the next request of this shard, on the axis of expected arrivals.
  double next_place();

  const Profile* profile_;
  ScheduleOptions options_;
  Random random_;
  uint64_t taken_ = 0;  // requests of this shard so far
  double place_ = 0;    // of the last Poisson arrival drawn, of whichever shard
  size_t piece_ = 0;    // that the last arrival lies in
  Time last_{0};
};

}  // namespace kiln::profile
