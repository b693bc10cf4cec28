// CHECK: an invariant of our own code. It stays in release builds, prints the expression and its place, and aborts.
// Never put under a CHECK what a peer, a clock or an errno decides.
#pragma once

namespace kiln::base {

[[noreturn]] void check_failed(const char* expression, const char* file, int line) noexcept;

}  // namespace kiln::base

#define CHECK(condition) \
  ((condition) ? static_cast<void>(0) : ::kiln::base::check_failed(#condition, __FILE__, __LINE__))

// For per-byte loops only: gone in release builds.
#ifdef NDEBUG
#define DCHECK(condition) static_cast<void>(sizeof(!(condition)))
#else
#define DCHECK(condition) CHECK(condition)
#endif
