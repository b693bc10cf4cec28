#include "base/hdr_histogram.h"

#include <algorithm>
#include <bit>
#include <cinttypes>
#include <cmath>
#include <cstdio>
#include <limits>
#include <string_view>

#include "base/check.h"

namespace kiln::base {
namespace {

// The smallest power of two with two values a unit of the third digit, and one bit less: parts of a bucket.
constexpr size_t kPartsBits = 10;
constexpr uint64_t kParts = 1ULL << kPartsBits;
constexpr uint64_t kExact = 2 * kParts;  // values below have a part each
static_assert(kExact >= 2 * 1000 && kExact / 2 < 2 * 1000, "three significant digits");

constexpr uint64_t kHighestMax = 1ULL << 62;

// Of the width of the parts in the bucket of that value: 0 for the first bucket.
size_t width_bits(uint64_t value) {
  return static_cast<size_t>(std::bit_width(value | (kExact - 1))) - (kPartsBits + 1);
}

size_t index_of(uint64_t value) {
  const size_t bits = width_bits(value);
  return (bits << kPartsBits) + (value >> bits);
}

uint64_t lowest_at(size_t index) {
  if (index < kExact) return index;
  const size_t bits = (index >> kPartsBits) - 1;
  return ((index & (kParts - 1)) + kParts) << bits;
}

uint64_t width(uint64_t value) { return 1ULL << width_bits(value); }
uint64_t lowest_equivalent(uint64_t value) { return value & ~(width(value) - 1); }
uint64_t highest_equivalent(uint64_t value) { return value | (width(value) - 1); }
double middle_equivalent(uint64_t value) { return static_cast<double>(lowest_equivalent(value) + width(value) / 2); }

// Powers of two of ranges, the first of which is [0, 2048).
size_t buckets_up_to(uint64_t highest) { return width_bits(highest) + 1; }

template <class... Arguments>
void append(std::string& text, const char* format, Arguments... arguments) {
  char line[512];
  const int size = std::snprintf(line, sizeof line, format, arguments...);
  CHECK(size > 0);
  text.append(line, std::min(static_cast<size_t>(size), sizeof line - 1));
}

}  // namespace

HdrHistogram::HdrHistogram(uint64_t highest) : highest_(highest) {
  CHECK(highest >= 2);
  CHECK(highest <= kHighestMax);
  counts_.resize((buckets_up_to(highest) + 1) * kParts);
}

void HdrHistogram::record(uint64_t value, uint64_t count) {
  if (count == 0) return;
  if (value > highest_) {
    saturated_ += count;
    value = highest_;
  }
  counts_[index_of(value)] += count;
  count_ += count;
  min_ = std::min(min_, value);
  max_ = std::max(max_, value);
}

void HdrHistogram::add(const HdrHistogram& other) {
  CHECK(other.highest_ == highest_);
  for (size_t index = 0; index < counts_.size(); ++index) counts_[index] += other.counts_[index];
  count_ += other.count_;
  saturated_ += other.saturated_;
  min_ = std::min(min_, other.min_);
  max_ = std::max(max_, other.max_);
}

void HdrHistogram::reset() {
  std::ranges::fill(counts_, 0);
  count_ = 0;
  saturated_ = 0;
  min_ = UINT64_MAX;
  max_ = 0;
}

uint64_t HdrHistogram::min() const { return count_ == 0 ? 0 : lowest_equivalent(min_); }

uint64_t HdrHistogram::max() const { return count_ == 0 ? 0 : highest_equivalent(max_); }

double HdrHistogram::mean() const {
  if (count_ == 0) return 0;
  double sum = 0;
  for (const Recorded& part : recorded()) sum += middle_equivalent(part.lowest) * static_cast<double>(part.count);
  return sum / static_cast<double>(count_);
}

double HdrHistogram::stddev() const {
  if (count_ == 0) return 0;
  const double center = mean();
  double squares = 0;
  for (const Recorded& part : recorded()) {
    const double off = middle_equivalent(part.lowest) - center;
    squares += off * off * static_cast<double>(part.count);
  }
  return std::sqrt(squares / static_cast<double>(count_));
}

uint64_t HdrHistogram::value_at_percentile(double percentile) const {
  if (count_ == 0) return 0;
  // The last bit less: rounding up below must not take a percentage that came out a little large to the next value.
  const double least = std::clamp(std::nextafter(percentile, -std::numeric_limits<double>::infinity()), 0.0, 100.0);
  const double wanted = std::max(1.0, std::ceil(least * static_cast<double>(count_) / 100));
  uint64_t seen = 0;
  for (size_t index = index_of(min_); index < index_of(max_); ++index) {
    seen += counts_[index];
    if (static_cast<double>(seen) < wanted) continue;
    return percentile <= 0 ? lowest_at(index) : highest_equivalent(lowest_at(index));
  }
  return percentile <= 0 ? lowest_equivalent(max_) : highest_equivalent(max_);
}

std::vector<HdrHistogram::Recorded> HdrHistogram::recorded() const {
  std::vector<Recorded> parts;
  if (count_ == 0) return parts;
  for (size_t index = index_of(min_); index <= index_of(max_); ++index) {
    if (counts_[index] == 0) continue;
    const uint64_t lowest = lowest_at(index);
    parts.push_back({lowest, highest_equivalent(lowest), counts_[index]});
  }
  return parts;
}

std::string HdrHistogram::percentile_distribution(const TextOptions& options) const {
  CHECK(options.unit > 0);
  CHECK(options.ticks > 0);
  const auto shown = [&](uint64_t value) { return static_cast<double>(value) / options.unit; };
  const auto total = static_cast<double>(count_);
  std::string text;
  append(text, "%12s %14s %10s %14s\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");

  // A line for each level that is reached, often several with one value; then one for 100 %. A level comes nearer to
  // 100 by a share of the distance halved. The places shown end before a double has no number left between it and 100.
  constexpr double kDistanceMin = 1e-10;
  double level = 0;
  uint64_t seen = 0;
  for (const Recorded& part : recorded()) {
    seen += part.count;
    while (100 - level > kDistanceMin && level <= 100 * static_cast<double>(seen) / total) {
      append(text, "%12.3f %2.12f %10" PRIu64 " %14.2f\n", shown(part.highest), level / 100, seen,
             1 / (1 - level / 100));
      const double halvings = std::floor(std::log2(100 / (100 - level))) + 1;
      level += 100 / (options.ticks * std::exp2(halvings));
      if (seen == count_) break;
    }
  }
  if (count_ != 0) append(text, "%12.3f %2.12f %10" PRIu64 "\n", shown(max()), 1.0, count_);

  append(text, "#[Mean    = %12.3f, StdDeviation   = %12.3f]\n", mean() / options.unit, stddev() / options.unit);
  append(text, "#[Max     = %12.3f, Total count    = %12" PRIu64 "]\n", shown(max()), count_);
  append(text, "#[Buckets = %12zu, SubBuckets     = %12" PRIu64 "]\n", buckets_up_to(highest_), kExact);
  return text;
}

}  // namespace kiln::base
