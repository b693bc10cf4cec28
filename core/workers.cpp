#include "core/workers.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace kiln::core {

namespace {

constexpr unsigned kUnlimitedMax = 4;

std::string plural(unsigned n) { return std::to_string(n) + (n == 1 ? " CPU" : " CPUs"); }

}  // namespace

WorkerCount count_workers(std::optional<unsigned> requested, unsigned affinity, const base::Cgroup& cgroup) {
  return count_workers(requested, affinity, cgroup.cpu_quota(), cgroup.cpu_quota_is_known());
}

WorkerCount count_workers(std::optional<unsigned> requested, unsigned affinity,
                          const std::optional<base::CpuQuota>& quota, bool quota_is_known) {
  if (requested) return {.count = *requested, .source = "requested"};
  if (!quota_is_known) return {.count = 1, .source = "a quota that cannot be read"};
  affinity = std::max(affinity, 1U);
  if (quota && quota->cores < affinity) {
    const auto whole = static_cast<unsigned>(std::floor(quota->cores));
    return {.count = std::max(whole, 1U), .source = "quota in " + quota->source};
  }
  if (!quota && affinity > kUnlimitedMax) {
    return {.count = kUnlimitedMax,
            .source = "affinity of " + plural(affinity) + " without a quota, at most " + std::to_string(kUnlimitedMax)};
  }
  return {.count = affinity, .source = "affinity of " + plural(affinity)};
}

unsigned affinity_cpus() {
  // A mask smaller than the kernel's is refused with EINVAL (sched_getaffinity(2)), so it grows until it fits.
  for (size_t cpus = 1024; cpus <= 1024 * 1024; cpus *= 2) {
    std::vector<cpu_set_t> mask(CPU_ALLOC_SIZE(cpus) / sizeof(cpu_set_t) + 1);
    const size_t bytes = mask.size() * sizeof(cpu_set_t);
    if (::sched_getaffinity(0, bytes, mask.data()) == 0) {
      return std::max(static_cast<unsigned>(CPU_COUNT_S(bytes, mask.data())), 1U);
    }
  }
  return 1;
}

}  // namespace kiln::core
