#include "app/free_memory.h"

#include <malloc.h>

namespace kiln::app {

// There when mimalloc has taken the place of malloc.
extern "C" void mi_collect(bool force) __attribute__((weak));

void return_free_memory() {
  if (mi_collect != nullptr) {
    mi_collect(true);
  } else {
    ::malloc_trim(0);
  }
}

}  // namespace kiln::app
