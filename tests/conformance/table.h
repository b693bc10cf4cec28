// The cases of the *.cases files beside this one; README.md tells what their lines mean.
#pragma once

#include <string>
#include <vector>

namespace kiln::conformance {

struct Answer {
  int status = 0;
  bool to_head = false;
  bool has_body = false;             // true: `body` is what it must be
  std::string body = {};
  std::vector<std::string> fields = {};  // lines it must have
};

// The client sends, then waits for the answers.
struct Stage {
  std::string bytes;
  bool ends_sending = false;
  std::vector<Answer> answers = {};
};

struct Case {
  std::string name;  // requirement and case
  std::vector<Stage> stages;
  bool closes = false;   // true: the server ends the connection; otherwise it stays open
  bool nothing = false;  // true: incomplete; no answer ever comes
};

// All cases of the files in `folder`, in order. A line that means nothing is our mistake and stops the program.
std::vector<Case> read_cases(const std::string& folder);

}  // namespace kiln::conformance
