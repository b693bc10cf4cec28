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
#include <fstream>
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

bool exists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

bool has_cpu(const std::string& list_of_controllers) {
  std::ifstream file(list_of_controllers);
  for (std::string name; file >> name;) {
    if (name == "cpu") return true;
  }
  return false;
}

// Beside ours, or higher up where the CPU is not handed down that far, as to the sessions of systemd. The root of the
// hierarchy, and nothing else, has no cgroup.type; it may have processes and limited groups below it. Empty in a
// container, which sees no more than its own.
std::string parent_on_v2(std::string directory) {
  bool is_root = !exists(directory + "/cgroup.type");
  if (is_root) return directory;
  do {
    directory = fs::path(directory).parent_path();
    if (!exists(directory + "/cgroup.procs")) return {};
    is_root = !exists(directory + "/cgroup.type");
  } while (!has_cpu(directory + "/cgroup.controllers") && !is_root);
  return directory;
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

// Whether somebody there relies on the CPU that is handed down.
bool has_limited_groups(const std::string& parent) {
  std::error_code ignored;
  for (const fs::directory_entry& entry : fs::directory_iterator(parent, ignored)) {
    std::ifstream file(entry.path() / "cpu.max");
    if (std::string quota; file >> quota && quota != "max") return true;
  }
  return false;
}

}  // namespace

base::Result<Group> Group::open(double limit_millicores) {
  const base::Cgroup own = base::Cgroup::find();
  if (own.version() == 0) return base::error("no CPU control group is to be seen here");
  std::vector<std::string> parents = {own.version() == 2 ? parent_on_v2(own.cpu_directory()) : own.cpu_directory()};
  if (parents[0].empty()) return base::error("no control group can be made beside " + own.cpu_directory());
  if (own.version() == 1 && !own.accounting_directory().empty() && own.accounting_directory() != parents[0]) {
    parents.push_back(own.accounting_directory());
  }

  Group group;
  for (const std::string& parent : parents) {
    sweep(parent);
    std::string directory = fmt::format("{}/{}{}", parent, kPrefix, ::getpid());
    const std::string handed_down = parent + "/cgroup.subtree_control";
    if (own.version() == 2 && !has_cpu(handed_down)) {
      // Where it cannot be, the limit below fails.
      if (write_control(handed_down, "+cpu") == 0) group.switched_on_ = handed_down;
    }
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
    : directories_(std::exchange(other.directories_, {})),
      entrances_(std::exchange(other.entrances_, {})),
      switched_on_(std::exchange(other.switched_on_, {})) {}

Group::~Group() {
  for (const std::string& directory : directories_) ::rmdir(directory.c_str());
  if (!switched_on_.empty() && !has_limited_groups(fs::path(switched_on_).parent_path())) {
    write_control(switched_on_, "-cpu");
  }
}

}  // namespace kiln::calibrate
