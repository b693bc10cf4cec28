// A control group of our own, for a process that is to run under a CPU limit and have a bill of its own.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace kiln::calibrate {

class Group {
 public:
  // Makes it where this process's own groups are: below them on v1; on v2 beside them, or beside the
  // nearest parent that the CPU controller reaches, since a group with processes cannot have limited ones below it
  // (admin-guide/cgroup-v2.rst, "No Internal Process Constraint"). Removes those that killed runs have left. An error
  // says what is not allowed here.
  [[nodiscard]] static base::Result<Group> open(double limit_millicores);

  Group(Group&& other) noexcept;
  Group& operator=(Group&&) = delete;
  // When nobody is in it any more.
  ~Group();

  // The files to which a process writes "0" to move in. Writing is all that a forked process may do before its exec.
  [[nodiscard]] const std::vector<std::string>& entrances() const { return entrances_; }

 private:
  Group() = default;

  std::vector<std::string> directories_;
  std::vector<std::string> entrances_;
  std::string switched_on_;  // the file by which the CPU was handed down to it, where that was off before
};

}  // namespace kiln::calibrate
