// What the kernel's control groups allow this process and have billed it: v1, v2 and the hybrid layout.
//
// Sources: Documentation/admin-guide/cgroup-v2.rst (cpu.max, cpu.stat, memory.*), admin-guide/cgroup-v1
// (cpuacct.usage, memory.*), Documentation/scheduler/sched-bwc.rst (cpu.cfs_quota_us), cgroups(7) and
// proc(5) for /proc/self/cgroup and /proc/self/mountinfo. Controller names are matched whole ("cpu" is not "cpuacct"),
// and a mount's root (a container's view of v1) is taken off the path.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/fd.h"

namespace kiln::base {

struct CpuQuota {
  double cores = 0;    // quota / period, the smallest of the group and all its visible parents
  std::string source;  // the file it came from, for people
};

struct CpuBill {
  std::chrono::nanoseconds used{};            // CPU time of the group since it exists
  std::optional<uint64_t> throttled_periods;  // nothing where the files are missing
  std::optional<std::chrono::nanoseconds> throttled;
};

class Cgroup {
 public:
  // Finds the groups of this process, or of the one with that number, below `root` ("" for the real system; a recorded
  // tree in tests) and opens the files that are read again and again. Never fails: what is missing or garbled is said
  // in `warnings()`.
  static Cgroup find(const std::string& root = "", const std::string& process = "self");

  // The CPU limit in force, read anew at each call (a pod can be resized); nothing when there is none.
  [[nodiscard]] std::optional<CpuQuota> cpu_quota() const;

  // True when find() could read and understand every CPU limit it saw. When false, an absent quota does not mean that
  // all CPUs are ours.
  [[nodiscard]] bool cpu_quota_is_known() const { return cpu_quota_is_known_; }

  // The group's bill. Nothing when there is no readable counter, or when the group is the machine's own root, whose
  // bill is everybody's. Reads at most two files; callable from any one thread at a time.
  [[nodiscard]] std::optional<CpuBill> cpu_bill() const;

  // The smallest memory limit of the group and its visible parents; nothing when there is none.
  [[nodiscard]] std::optional<uint64_t> memory_limit() const;

  // How much more memory the group may use: what is left below that limit of the group and its visible parents that
  // leaves least. Files that the kernel keeps in memory and can drop are not used memory; those of a tmpfs are. Nothing
  // when there is no limit, or when a group with one does not tell what it uses. Any thread.
  [[nodiscard]] std::optional<uint64_t> memory_left() const;

  // 1, 2, or 0 when no cpu controller was found.
  [[nodiscard]] int version() const { return cpu_.version; }
  // The directory of the cpu controller's group, empty when none.
  [[nodiscard]] const std::string& cpu_directory() const { return cpu_.directory; }
  // The same of the group whose counter cpu_bill() reads: on v1 it may be in another hierarchy.
  [[nodiscard]] const std::string& accounting_directory() const { return accounting_.directory; }
  // One line each, of find(): a file that exists but cannot be read or understood, a group that no mount shows.
  [[nodiscard]] const std::vector<std::string>& warnings() const { return warnings_; }

 private:
  struct Group {
    int version = 0;        // 1, 2, or 0 when there is none
    std::string mount;      // where the hierarchy is mounted: the outermost group that can be seen
    std::string directory;  // lies in the mount or is the mount
  };
  struct Table;  // what /proc/self/cgroup and /proc/self/mountinfo say

  std::optional<CpuQuota> read_cpu_quota(std::vector<std::string>& warnings) const;
  std::optional<uint64_t> read_memory_limit(std::vector<std::string>& warnings) const;
  void open_bill();

  Group cpu_, accounting_, memory_;
  Fd usage_;     // v1 cpuacct.usage; closed on v2 and on the machine's root
  Fd cpu_stat_;  // both versions; closed on the machine's root
  bool cpu_quota_is_known_ = true;
  std::vector<std::string> warnings_;
};

}  // namespace kiln::base
