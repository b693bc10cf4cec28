#include "base/result.h"

#include <system_error>
#include <utility>

namespace kiln::base {

std::unexpected<Error> system_error(std::string_view doing, int code) {
  return std::unexpected(Error{code, std::string(doing) + ": " + std::generic_category().message(code)});
}

std::unexpected<Error> error(std::string what) { return std::unexpected(Error{0, std::move(what)}); }

}  // namespace kiln::base
