// How often each value of a wide range was seen, to three significant digits: latencies from a nanosecond to an hour in
// 33 thousand counters. The high dynamic range histogram of hdrhistogram.org with the same buckets, so that it gives
// the same figures, and the same text for the tools that plot it. (base/histogram.h is another thing: a few given
// bounds for Prometheus.)
//
// A bucket is a range [2^k, 2^(k+1)), cut into 1024 equal parts; the first one holds each value below 2048 by itself:
//
//   index   0 … 2047          2048 … 3071            3072 … 4095
//   value   0, 1, … 2047      2048, 2050, … 4094     4096, 4100, … 8188        …
//
// The values of one part are equivalent: nobody can tell them apart afterwards, and they differ by less than 0.1 %.
//
// One thread at a time. Memory is allocated once, by the constructor. Histograms that were filled apart are added;
// percentiles must never be averaged.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace kiln::base {

class HdrHistogram {
 public:
  // Values from 0 to `highest`, which is at least 2 and at most 2^62.
  explicit HdrHistogram(uint64_t highest);

  // A value beyond the highest is counted as the highest, and among the saturated.
  void record(uint64_t value, uint64_t count = 1);
  // As if all that was recorded there had been recorded here. The highest value of both is the same.
  void add(const HdrHistogram& other);
  void reset();

  [[nodiscard]] uint64_t highest() const { return highest_; }
  [[nodiscard]] uint64_t count() const { return count_; }
  // Of those, how many were beyond the highest value: then the largest values are larger than is shown.
  [[nodiscard]] uint64_t saturated() const { return saturated_; }

  // The least and the largest of the values that are equivalent to the least and to the largest recorded; 0 of nothing.
  [[nodiscard]] uint64_t min() const;
  [[nodiscard]] uint64_t max() const;
  // Each value counts as the middle of those equivalent to it. 0 of nothing.
  [[nodiscard]] double mean() const;
  [[nodiscard]] double stddev() const;

  // The largest value equivalent to the least one that at least `percentile` percent of all values do not exceed; for 0
  // the least recorded. `percentile` is clamped to [0, 100]. 0 of nothing.
  [[nodiscard]] uint64_t value_at_percentile(double percentile) const;

  // Equivalent values that were recorded, by rising value. Recording `lowest` (or `highest`, if it is not beyond what
  // the histogram holds) `count` times gives the same histogram, but for the saturated.
  struct Recorded {
    uint64_t lowest;
    uint64_t highest;
    uint64_t count;
  };
  [[nodiscard]] std::vector<Recorded> recorded() const;

  struct TextOptions {
    double unit = 1;     // values are divided by it: 1e6 shows nanoseconds as milliseconds
    uint32_t ticks = 5;  // lines for each halving of what is left to 100 %
  };
  // Lines "Value Percentile TotalCount 1/(1-Percentile)", as the tools of hdrhistogram.org write and plot them.
  [[nodiscard]] std::string percentile_distribution(const TextOptions& options) const;

 private:
  std::vector<uint64_t> counts_;
  uint64_t highest_;
  uint64_t count_ = 0;
  uint64_t saturated_ = 0;
  uint64_t min_ = UINT64_MAX;
  uint64_t max_ = 0;
};

}  // namespace kiln::base
