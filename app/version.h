// What this binary is.
#pragma once

#include <string>
#include <string_view>

namespace kiln::app {

struct BuildFacts {
  std::string_view version;  // of the project, "0.1.0"
  std::string_view commit;   // "unknown" when built outside a checkout
  std::string_view compiler;
  std::string liburing;  // that it was compiled against
};

const BuildFacts& build_facts();

}  // namespace kiln::app
