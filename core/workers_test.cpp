#include "core/workers.h"

#include <gtest/gtest.h>

namespace kiln::core {
namespace {

TEST(Workers, AreOneAUsableCore) {
  const struct {
    const char* name;
    std::optional<unsigned> requested;
    unsigned affinity;
    std::optional<double> quota;
    bool known;
    unsigned count;
    const char* source;
  } rows[] = {
      {"asked for", 7, 2, 0.5, true, 7, "requested"},
      {"half a core", {}, 8, 0.5, true, 1, "quota"},
      {"a quota is rounded down", {}, 8, 2.9, true, 2, "quota"},
      {"just below", {}, 8, 1.999, true, 1, "quota"},
      {"a quota beyond the affinity", {}, 2, 16.0, true, 2, "affinity"},
      {"a large quota allows more than four", {}, 16, 8.0, true, 8, "quota"},
      {"no quota, small", {}, 2, {}, true, 2, "affinity"},
      {"no quota, at the cap", {}, 4, {}, true, 4, "affinity"},
      {"no quota, large", {}, 64, {}, true, 4, "at most 4"},
      {"an unreadable quota is not none", {}, 64, {}, false, 1, "cannot be read"},
      {"no affinity at all", {}, 0, {}, true, 1, "affinity"},
  };
  for (const auto& row : rows) {
    std::optional<base::CpuQuota> quota;
    if (row.quota) quota = base::CpuQuota{.cores = *row.quota, .source = "cpu.max"};
    const WorkerCount got = count_workers(row.requested, row.affinity, quota, row.known);
    EXPECT_EQ(got.count, row.count) << row.name;
    EXPECT_NE(got.source.find(row.source), std::string::npos) << row.name << ": " << got.source;
  }
}

TEST(Workers, SeeAtLeastOneCpu) { EXPECT_GE(affinity_cpus(), 1U); }

}  // namespace
}  // namespace kiln::core
