// The host and port of Host fields and request targets (RFC 3986 section 3.2, RFC 9110 section 7.2).
#pragma once

#include <optional>
#include <string_view>

namespace kiln::http {

struct Authority {
  std::string_view host;                 // with brackets when it is an IPv6 address; may be empty
  std::optional<std::string_view> port;  // what follows the colon: digits up to 65535, or nothing
};

// uri-host [":" port]. Nothing for user information, a scoped or malformed IPv6 address, or any other byte.
std::optional<Authority> parse_authority(std::string_view text);

}  // namespace kiln::http
