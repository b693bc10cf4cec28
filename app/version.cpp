#include "app/version.h"

namespace kiln::app {

const BuildFacts& build_facts() {
  static const BuildFacts facts{
      .version = KILN_VERSION,
      .commit = KILN_COMMIT,
      .compiler = KILN_COMPILER,
      .liburing = KILN_LIBURING,
  };
  return facts;
}

}  // namespace kiln::app
