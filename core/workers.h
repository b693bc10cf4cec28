// How many workers: one a core that this process may really use.
#pragma once

#include <optional>
#include <string>

#include "base/cgroup.h"

namespace kiln::core {

struct WorkerCount {
  unsigned count = 1;
  std::string source;  // where it came from, for the start-up log
};

// `requested` wins. Otherwise the CPUs of the affinity mask, no more than the quota rounded down, no more than four
// where there is no quota (requests of a tenth of a core do not justify a ring for each of 64), one where the quota
// could not be read, and at least one: more runnable threads than whole cores of quota only lengthen the stall at its
// end.
WorkerCount count_workers(std::optional<unsigned> requested, unsigned affinity, const base::Cgroup& cgroup);

// The rule behind it. `quota_is_known` is false when there may be a quota that could not be read.
WorkerCount count_workers(std::optional<unsigned> requested, unsigned affinity,
                          const std::optional<base::CpuQuota>& quota, bool quota_is_known);

// CPUs in this process's affinity mask (sched_getaffinity(2)), at least one.
unsigned affinity_cpus();

}  // namespace kiln::core
