#include "base/cgroup.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <span>
#include <string_view>
#include <system_error>
#include <utility>

namespace kiln::base {
namespace {

using Warnings = std::vector<std::string>;

// Absent files are ordinary (a root group has no limits, a controller may be off); anything else is worth a warning.
std::optional<std::string> read_file(const std::string& path, Warnings& warnings) {
  const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  ssize_t got = -1;
  if (file.valid()) {
    std::string text;
    char piece[4096];
    while ((got = ::read(file.get(), piece, sizeof piece)) > 0) text.append(piece, static_cast<size_t>(got));
    if (got == 0) return text;
  }
  if (errno != ENOENT) warnings.push_back(path + ": " + std::generic_category().message(errno));
  return std::nullopt;
}

// The next word up to `separator`, which is taken off too; the rest of the text when there is none.
std::string_view take_until(std::string_view& text, char separator) {
  const size_t end = std::min(text.find(separator), text.size());
  const std::string_view word = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return word;
}

bool list_contains(std::string_view list, std::string_view name) {
  while (!list.empty()) {
    if (take_until(list, ',') == name) return true;
  }
  return false;
}

template <class Integer>
std::optional<Integer> to_integer(std::string_view text) {
  Integer value{};
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::string_view without_newline(std::string_view text) {
  if (text.ends_with('\n')) text.remove_suffix(1);
  return text;
}

void warn_garbled(Warnings& warnings, const std::string& path, std::string_view text) {
  constexpr size_t kShown = 40;
  std::string shown;
  for (const char c : without_newline(text).substr(0, kShown)) shown += c >= ' ' && c <= '~' ? c : '?';
  warnings.push_back(path + ": cannot make sense of '" + shown + "'");
}

// mountinfo writes blanks, tabs, newlines and backslashes as three octal digits (proc(5)).
std::string unescape(std::string_view field) {
  std::string plain;
  for (size_t i = 0; i < field.size(); ++i) {
    unsigned code = 0;
    const bool escaped = field[i] == '\\' && i + 3 < field.size() &&
                         std::from_chars(&field[i + 1], &field[i + 1] + 3, code, 8).ptr == &field[i + 1] + 3;
    plain += escaped ? static_cast<char>(code) : field[i];
    if (escaped) i += 3;
  }
  return plain;
}

// What is left of `path` inside of `root`: "" for the root itself, else with a leading slash. Nothing when it lies
// outside. Whole components only: /docker/abc does not contain /docker/abcd. Both begin with /.. where they lie above
// the reader's cgroup namespace (cgroup_namespaces(7)).
std::optional<std::string_view> path_inside(std::string_view path, std::string_view root) {
  if (path == "/") path = "";
  if (root == "/") root = "";
  if (!path.starts_with(root)) return std::nullopt;
  path.remove_prefix(root.size());
  if (!path.empty() && path.front() != '/') return std::nullopt;
  if (path == "/.." || path.starts_with("/../")) return std::nullopt;
  return path;
}

// Calls `visit` with the group's directory and each parent up to the mount.
void walk_up(std::string directory, const std::string& mount, auto visit) {
  for (;;) {
    visit(directory);
    if (directory.size() <= mount.size()) return;
    directory.resize(directory.rfind('/'));
  }
}

// Cores, or nothing for "no limit", an absent file, and, with a warning, garbage.
std::optional<CpuQuota> cpu_quota_v1(const std::string& directory, Warnings& warnings) {
  const std::string quota_path = directory + "/cpu.cfs_quota_us";
  const std::string period_path = directory + "/cpu.cfs_period_us";
  const auto quota_text = read_file(quota_path, warnings);
  if (!quota_text) return std::nullopt;
  const auto quota = to_integer<int64_t>(without_newline(*quota_text));
  if (!quota || *quota == 0) {
    warn_garbled(warnings, quota_path, *quota_text);
    return std::nullopt;
  }
  if (*quota < 0) return std::nullopt;  // -1: no limit (sched-bwc.rst)

  const auto period_text = read_file(period_path, warnings);
  const auto period = period_text ? to_integer<uint64_t>(without_newline(*period_text)) : std::nullopt;
  if (!period || *period == 0) {
    warn_garbled(warnings, period_path, period_text.value_or(""));
    return std::nullopt;
  }
  return CpuQuota{static_cast<double>(*quota) / static_cast<double>(*period), quota_path};
}

std::optional<CpuQuota> cpu_quota_v2(const std::string& directory, Warnings& warnings) {
  const std::string path = directory + "/cpu.max";
  const auto text = read_file(path, warnings);
  if (!text) return std::nullopt;
  std::string_view rest = without_newline(*text);
  const std::string_view quota_word = take_until(rest, ' ');
  const auto period = to_integer<uint64_t>(rest);
  const auto quota = to_integer<uint64_t>(quota_word);
  const bool unlimited = quota_word == "max";
  if (!period || *period == 0 || (!unlimited && (!quota || *quota == 0))) {
    warn_garbled(warnings, path, *text);
    return std::nullopt;
  }
  if (unlimited) return std::nullopt;
  return CpuQuota{static_cast<double>(*quota) / static_cast<double>(*period), path};
}

const char* memory_limit_file(int version) { return version == 2 ? "/memory.max" : "/memory.limit_in_bytes"; }

std::optional<uint64_t> memory_limit_of(const std::string& path, Warnings& warnings) {
  // v1 says "no limit" with LONG_MAX rounded down to whole pages (mm/page_counter.c), and pages are 64 KiB at most.
  constexpr uint64_t kUnlimited = 0x7fff'ffff'ffff'0000;
  const auto text = read_file(path, warnings);
  if (!text) return std::nullopt;
  const std::string_view word = without_newline(*text);
  if (word == "max") return std::nullopt;
  const auto limit = to_integer<uint64_t>(word);
  if (!limit) warn_garbled(warnings, path, *text);
  if (!limit || *limit >= kUnlimited) return std::nullopt;
  return limit;
}

// cpu.stat has some 300 bytes.
constexpr size_t kFileMax = 1024;

// A small file that is read again and again: kernel files give their present content at offset 0. Whole lines only,
// so that a figure is never cut short.
std::string_view reread(const Fd& file, std::span<char> buffer) {
  const ssize_t got = file.valid() ? ::pread(file.get(), buffer.data(), buffer.size(), 0) : -1;
  if (got <= 0) return {};
  const std::string_view text(buffer.data(), static_cast<size_t>(got));
  return text.substr(0, text.rfind('\n') + 1);
}

// The value of `key` among lines of "key value".
std::optional<uint64_t> find_figure(std::string_view lines, std::string_view key) {
  while (!lines.empty()) {
    std::string_view line = take_until(lines, '\n');
    if (take_until(line, ' ') == key) return to_integer<uint64_t>(line);
  }
  return std::nullopt;
}

// What the group uses and the kernel could not take back by dropping the pages of files. Both versions count a tmpfs
// among the pages that are not a file's (admin-guide/cgroup-v2.rst, memory.stat; cgroup-v1/memory.rst, section 5.2).
std::optional<uint64_t> memory_used_in(const std::string& directory, int version) {
  Warnings ignored;  // a kernel that does not count is no fault
  const std::string prefix = version == 2 ? "" : "total_";
  const auto usage = read_file(directory + (version == 2 ? "/memory.current" : "/memory.usage_in_bytes"), ignored);
  const auto stat = read_file(directory + "/memory.stat", ignored);
  if (!usage || !stat) return std::nullopt;
  const auto bytes = to_integer<uint64_t>(without_newline(*usage));
  const auto active = find_figure(*stat, prefix + "active_file");
  const auto inactive = find_figure(*stat, prefix + "inactive_file");
  if (!bytes || !active || !inactive) return std::nullopt;
  return *bytes - std::min(*bytes, *active + *inactive);
}

template <class Unit>
std::optional<std::chrono::nanoseconds> to_duration(std::optional<uint64_t> count) {
  constexpr Unit kMax = std::chrono::duration_cast<Unit>(std::chrono::nanoseconds::max());
  if (!count || *count > static_cast<uint64_t>(kMax.count())) return std::nullopt;
  return Unit(static_cast<int64_t>(*count));
}

}  // namespace

struct Cgroup::Table {
  // A line of /proc/self/cgroup: "4:cpu,cpuacct:/docker/abc", for v2 "0::/path". The path may contain colons.
  struct Membership {
    bool is_v2;  // true for the line "0::"
    std::string controllers;
    std::string path;
  };
  // A line of /proc/self/mountinfo:
  //   "33 24 0:28 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro,nosuid master:9 - cgroup cgroup rw,cpu,cpuacct"
  //               root        mount point                  any number       type      options of the hierarchy
  struct Mount {
    bool is_v2;
    std::string options;
    std::string root;
    std::string point;
  };

  static Table read(const std::string& root, const std::string& process, Warnings& warnings) {
    Table table;
    const std::string memberships_path = root + "/proc/" + process + "/cgroup";
    const std::string memberships = read_file(memberships_path, warnings).value_or("");
    for (std::string_view rest = memberships; !rest.empty();) {
      const std::string_view line = take_until(rest, '\n');
      std::string_view path = line;
      const std::string_view id = take_until(path, ':');
      const std::string_view controllers = take_until(path, ':');
      if (!path.starts_with('/')) {
        warn_garbled(warnings, memberships_path, line);
        continue;
      }
      table.memberships.push_back({id == "0" && controllers.empty(), std::string(controllers), std::string(path)});
    }

    const std::string mounts_path = root + "/proc/self/mountinfo";
    const std::string mounts = read_file(mounts_path, warnings).value_or("");
    for (std::string_view rest = mounts; !rest.empty();) {
      const std::string_view line = take_until(rest, '\n');
      const size_t separator = line.find(" - ");
      std::string_view left = line.substr(0, separator);
      std::string_view right = separator == line.npos ? "" : line.substr(separator + 3);
      for (int skipped = 0; skipped < 3; ++skipped) take_until(left, ' ');
      const std::string_view mount_root = take_until(left, ' ');
      const std::string_view point = take_until(left, ' ');
      const std::string_view type = take_until(right, ' ');
      if (!point.starts_with('/') || type.empty()) {
        warn_garbled(warnings, mounts_path, line);
        continue;
      }
      if (type != "cgroup" && type != "cgroup2") continue;
      take_until(right, ' ');  // the source, a name without meaning
      table.mounts.push_back({type == "cgroup2", std::string(right), unescape(mount_root), root + unescape(point)});
    }
    return table;
  }

  // The group that has `controller`: in a v1 hierarchy if one has it, else in v2, where cpu.max may still be absent.
  Group find(std::string_view controller, Warnings& warnings) const {
    auto membership = std::ranges::find_if(
        memberships, [&](const Membership& m) { return !m.is_v2 && list_contains(m.controllers, controller); });
    if (membership == memberships.end()) membership = std::ranges::find_if(memberships, &Membership::is_v2);
    if (membership == memberships.end()) return {};

    // Of several mounts the one that shows most parents; of two alike the later, which may cover the other.
    Group group;
    size_t shortest_root = std::string::npos;
    for (const Mount& mount : mounts) {
      if (mount.is_v2 != membership->is_v2) continue;
      if (!mount.is_v2 && !list_contains(mount.options, controller)) continue;
      const auto inside = path_inside(membership->path, mount.root);
      if (!inside || mount.root.size() > shortest_root) continue;
      shortest_root = mount.root.size();
      group = {mount.is_v2 ? 2 : 1, mount.point, mount.point + std::string(*inside)};
    }
    if (group.version == 0) {
      warnings.push_back("no mount shows the " + std::string(controller) + " control group " + membership->path);
    }
    return group;
  }

  std::vector<Membership> memberships;
  std::vector<Mount> mounts;
};

Cgroup Cgroup::find(const std::string& root, const std::string& process) {
  Cgroup found;
  Warnings& warnings = found.warnings_;
  const Table table = Table::read(root, process, warnings);

  const size_t warnings_before = warnings.size();
  found.cpu_ = table.find("cpu", warnings);
  static_cast<void>(found.read_cpu_quota(warnings));
  found.cpu_quota_is_known_ = warnings.size() == warnings_before;

  found.memory_ = table.find("memory", warnings);
  static_cast<void>(found.read_memory_limit(warnings));

  found.accounting_ = found.cpu_.version == 2 ? found.cpu_ : table.find("cpuacct", warnings);
  found.open_bill();
  return found;
}

void Cgroup::open_bill() {
  const bool is_v2 = accounting_.version == 2;
  if (accounting_.version == 0 || (is_v2 && cpu_.version == 1)) return;
  // Exactly the machine's own root has release_agent (v1) and lacks cgroup.type (v2); the root of a cgroup namespace is
  // an ordinary group (kernel/cgroup: CFTYPE_ONLY_ON_ROOT, CFTYPE_NOT_ON_ROOT).
  const bool is_machine_root = is_v2 ? ::access((accounting_.directory + "/cgroup.type").c_str(), F_OK) != 0
                                     : ::access((accounting_.directory + "/release_agent").c_str(), F_OK) == 0;
  if (is_machine_root) return;

  const auto open = [this](const std::string& path) {
    Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file.valid() && errno != ENOENT) warnings_.push_back(path + ": " + std::generic_category().message(errno));
    return file;
  };
  if (!is_v2) usage_ = open(accounting_.directory + "/cpuacct.usage");
  if (cpu_.version != 0) cpu_stat_ = open(cpu_.directory + "/cpu.stat");

  const Fd& counter = is_v2 ? cpu_stat_ : usage_;
  if (counter.valid() && !cpu_bill()) {
    std::array<char, kFileMax> buffer;
    warn_garbled(warnings_, accounting_.directory + (is_v2 ? "/cpu.stat" : "/cpuacct.usage"), reread(counter, buffer));
  }
}

std::optional<CpuBill> Cgroup::cpu_bill() const {
  std::array<char, kFileMax> usage_buffer;
  std::array<char, kFileMax> stat_buffer;
  const std::string_view stat = reread(cpu_stat_, stat_buffer);

  std::optional<std::chrono::nanoseconds> used;
  std::optional<std::chrono::nanoseconds> throttled;
  if (usage_.valid()) {
    used = to_duration<std::chrono::nanoseconds>(to_integer<uint64_t>(without_newline(reread(usage_, usage_buffer))));
    throttled = to_duration<std::chrono::nanoseconds>(find_figure(stat, "throttled_time"));
  } else {
    used = to_duration<std::chrono::microseconds>(find_figure(stat, "usage_usec"));
    throttled = to_duration<std::chrono::microseconds>(find_figure(stat, "throttled_usec"));
  }
  if (!used) return std::nullopt;
  return CpuBill{*used, find_figure(stat, "nr_throttled"), throttled};
}

std::optional<CpuQuota> Cgroup::cpu_quota() const {
  Warnings ignored;  // find() has told them
  return read_cpu_quota(ignored);
}

std::optional<uint64_t> Cgroup::memory_limit() const {
  Warnings ignored;
  return read_memory_limit(ignored);
}

std::optional<uint64_t> Cgroup::memory_left() const {
  std::optional<uint64_t> least;
  bool known = true;
  Warnings ignored;
  if (memory_.version == 0) return least;
  walk_up(memory_.directory, memory_.mount, [&](const std::string& directory) {
    const auto limit = memory_limit_of(directory + memory_limit_file(memory_.version), ignored);
    if (!limit) return;
    const auto used = memory_used_in(directory, memory_.version);
    if (!used) {
      known = false;
      return;
    }
    const uint64_t left = *limit - std::min(*limit, *used);
    least = std::min(least.value_or(left), left);
  });
  return known ? least : std::nullopt;
}

// A parent can be tighter than the group itself: the pod's limit above the container's, a slice above a service.
std::optional<CpuQuota> Cgroup::read_cpu_quota(Warnings& warnings) const {
  std::optional<CpuQuota> smallest;
  if (cpu_.version == 0) return smallest;
  walk_up(cpu_.directory, cpu_.mount, [&](const std::string& directory) {
    auto quota = cpu_.version == 2 ? cpu_quota_v2(directory, warnings) : cpu_quota_v1(directory, warnings);
    if (quota && (!smallest || quota->cores < smallest->cores)) smallest = std::move(quota);
  });
  return smallest;
}

std::optional<uint64_t> Cgroup::read_memory_limit(Warnings& warnings) const {
  std::optional<uint64_t> smallest;
  if (memory_.version == 0) return smallest;
  walk_up(memory_.directory, memory_.mount, [&](const std::string& directory) {
    const auto limit = memory_limit_of(directory + memory_limit_file(memory_.version), warnings);
    if (limit && (!smallest || *limit < *smallest)) smallest = limit;
  });
  return smallest;
}

}  // namespace kiln::base
