#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace kiln::base {

void check_failed(const char* expression, const char* file, int line) noexcept {
  std::fprintf(stderr, "kiln: broken invariant: %s at %s:%d\n", expression, file, line);
  std::abort();
}

}  // namespace kiln::base
