#include "calibrate/group.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <string_view>
#include <system_error>
#include <utility>

#include "base/cgroup.h"
#include "base/fd.h"

namespace kiln::calibrate {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "kiln-calibrate-";  // and the number of the process that made it
constexpr long kPeriodUs = 100'000;                      // Kubernetes' default

// Control files exist already; anything else there is not one.
int write_control(const std::string& path, std::string_view text) {
  const base::Fd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!file.valid()) return errno;
  return ::write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()) ? 0 : errno;
}

bool is_v2_with_parent(const base::Cgroup& own) {
  return own.version() == 2 && ::access((own.cpu_directory() + "/cgroup.type").c_str(), F_OK) == 0;
}

// Those of processes that are gone. Removing fails for a group that somebody is in, which is as it should be.
void sweep(const std::string& parent) {
  std::error_code ignored;
  for (const fs::directory_entry& entry : fs::directory_iterator(parent, ignored)) {
    const std::string name = entry.path().filename();
    if (!name.starts_with(kPrefix)) continue;
    int owner = 0;
    std::from_chars(name.data() + kPrefix.size(), name.data() + name.size(), owner);
    if (owner > 0 && !fs::exists("/proc/" + std::to_string(owner), ignored)) ::rmdir(entry.path().c_str());
  }
}

}  // namespace

base::Result<Group> Group::open(double limit_millicores) {
  const base::Cgroup own = base::Cgroup::find();
  if (own.version() == 0) return base::error("no CPU control group is to be seen here");
  std::vector<std::string> parents = {own.cpu_directory()};
  if (is_v2_with_parent(own)) {
    parents[0] = fs::path(own.cpu_directory()).parent_path();
    if (::access((parents[0] + "/cgroup.procs").c_str(), F_OK) != 0) {
      return base::error("no control group can be made beside " + own.cpu_directory());
    }
  }
  if (own.version() == 1 && !own.accounting_directory().empty() && own.accounting_directory() != parents[0]) {
    parents.push_back(own.accounting_directory());
  }

  Group group;
  for (const std::string& parent : parents) {
    sweep(parent);
    std::string directory = fmt::format("{}/{}{}", parent, kPrefix, ::getpid());
    // Where it is on already this changes nothing, and where it cannot be, the limit below fails.
    if (own.version() == 2) write_control(parent + "/cgroup.subtree_control", "+cpu");
    // One of our own number is left from another life: in a container the first process is always number 1.
    if (::mkdir(directory.c_str(), 0755) != 0 &&
        (errno != EEXIST || ::rmdir(directory.c_str()) != 0 || ::mkdir(directory.c_str(), 0755) != 0)) {
      return base::system_error("making " + directory, errno);
    }
    group.entrances_.push_back(directory + "/cgroup.procs");
    group.directories_.push_back(std::move(directory));
  }

  const std::string& directory = group.directories_[0];
  const long quota = std::max(std::lround(limit_millicores * kPeriodUs / 1000), 1L);
  struct Control {
    const char* file;
    std::string text;
  };
  std::vector<Control> controls = {{"/cpu.max", fmt::format("{} {}", quota, kPeriodUs)}};
  if (own.version() == 1) {
    controls = {{"/cpu.cfs_period_us", std::to_string(kPeriodUs)}, {"/cpu.cfs_quota_us", std::to_string(quota)}};
  }
  for (const auto& [file, text] : controls) {
    const int error = write_control(directory + file, text);
    if (error != 0) return base::system_error(fmt::format("writing {} to {}{}", text, directory, file), error);
  }
  return group;
}

Group::Group(Group&& other) noexcept
    : directories_(std::exchange(other.directories_, {})), entrances_(std::exchange(other.entrances_, {})) {}

Group::~Group() {
  for (const std::string& directory : directories_) ::rmdir(directory.c_str());
}

}  // namespace kiln::calibrate
