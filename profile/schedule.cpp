#include "profile/schedule.h"

#include <algorithm>

#include "base/check.h"

namespace kiln::profile {

Schedule::Schedule(const Profile& profile, const ScheduleOptions& options)
    : profile_(&profile), options_(options), random_(options.seed) {
  CHECK(options.shard.index < options.shard.count);
}

double Schedule::next_place() {
  const auto [index, count] = options_.shard;
  const bool first = taken_ == 0;
  const uint64_t number = index + taken_ * count;
  ++taken_;
  if (options_.arrivals == Arrivals::Uniform) return static_cast<double>(number) + 0.5;
  // All gaps are drawn, also those of the other shards in between: the places are theirs as much as ours.
  for (uint32_t gap = first ? 0 : 1; gap <= (first ? index : count); ++gap) place_ += random_.next_exponential();
  return place_;
}

std::optional<Time> Schedule::next() {
  const double place = next_place();
  if (place >= profile_->total()) return std::nullopt;
  const auto pieces = profile_->pieces();
  while (pieces[piece_].arrivals_by_end < place) ++piece_;
  // Two places that differ by a rounding error may change their order where the rate is next to 0.
  last_ = std::max(last_, pieces[piece_].time_of(place));
  return last_;
}

}  // namespace kiln::profile
