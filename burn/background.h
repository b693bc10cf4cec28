// Threads that work while nobody wants the core.
#pragma once

#include <functional>
#include <thread>

namespace kiln::burn {

// Starts a thread of that name (at most 15 characters) at nice 19, with all signals blocked. Not joinable when the
// system gives no thread.
std::thread start_background(const char* name, std::move_only_function<void()> work);

}  // namespace kiln::burn
