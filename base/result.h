// How a failing system call at start-up travels: as a value that says what was being done.
#pragma once

#include <expected>
#include <string>
#include <string_view>

namespace kiln::base {

struct Error {
  int code = 0;      // errno, or 0 when no system call is to blame
  std::string what;  // one line: what failed and, where we know it, what to try next
};

template <class T>
using Result = std::expected<T, Error>;

// "doing: strerror(code)".
[[nodiscard]] std::unexpected<Error> system_error(std::string_view doing, int code);
[[nodiscard]] std::unexpected<Error> error(std::string what);

}  // namespace kiln::base
