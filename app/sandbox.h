// What a server never does, it can give up: before it serves, the process denies itself the system calls that somebody
// who got code to run in it would want next. Sockets, files, memory and threads of its own stay as they are.
#pragma once

#include "base/result.h"

namespace kiln::app {

// For all threads of the process, those to come included, and for good: a seccomp filter, and no_new_privs before it.
// What is denied fails with EPERM. Rings that exist go on; there will be no more of them. An error changes nothing that
// could be noticed: the process only goes on without.
[[nodiscard]] base::Result<void> install_sandbox();

}  // namespace kiln::app
