// A server of our own to measure: this very program as a process of its own, under a CPU limit where that is possible.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/cgroup.h"
#include "base/fd.h"
#include "base/result.h"
#include "calibrate/group.h"

namespace kiln::calibrate {

struct ServerOptions {
  std::string engine = "auto";
  std::vector<size_t> cpus;    // that it may run on; empty: all
  std::optional<Group> group;  // to run in
};

class Server {
 public:
  // Begins to serve on a port of 127.0.0.1 that the system chooses, or says why it does not. It ends with this process.
  // Forks: no other thread may exist. `interrupted` is asked when a signal has come; true ends the wait with EINTR.
  [[nodiscard]] static base::Result<Server> start(ServerOptions options, const std::function<bool()>& interrupted);

  Server(Server&& other) noexcept;
  Server& operator=(Server&&) = delete;
  ~Server();

  [[nodiscard]] uint16_t port() const { return port_; }
  // The limits it runs under.
  [[nodiscard]] const base::Cgroup& cgroup() const { return cgroup_; }

  // True when it runs in a group of its own.
  [[nodiscard]] bool has_group() const { return group_.has_value(); }

  // CPU time billed so far: of its group, or by the process's own clock (clock_getcpuclockid(3)) where it has none of
  // its own. An error when it has ended.
  [[nodiscard]] base::Result<std::chrono::nanoseconds> bill() const;

 private:
  Server() = default;
  [[nodiscard]] base::Result<void> wait_until_it_serves(const std::function<bool()>& interrupted);

  std::optional<Group> group_;  // goes last, when nobody is in it
  base::Cgroup cgroup_;
  base::Fd output_;
  pid_t process_ = -1;
  clockid_t clock_{};
  uint16_t port_ = 0;
};

}  // namespace kiln::calibrate
