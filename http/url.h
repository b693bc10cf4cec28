// The URLs that a client of ours takes: http://host[:port][/path][?query] (RFC 9110 section 4.2.1).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace kiln::http {

enum class UrlFault : uint8_t {
  None,
  NoScheme,         // does not begin with http://
  Https,            // we have no TLS
  UserInformation,  // "user:password@", which RFC 9110 section 4.2.4 takes for an error
  NoHost,
  BadHost,          // no name of letters, digits, '.', '-' and '_', no IPv4 address, no [IPv6] address
  BadPort,          // not 1 to 65535
  BadCharacter,     // one that must be percent-encoded, or a control character
  BadEscape,        // a '%' without two hex digits behind it
};

struct Url {
  std::string host;       // for the resolver: the brackets of an IPv6 address are gone
  uint16_t port = 80;
  std::string authority;  // for Host: as written, without a port that says nothing
  std::string target;     // for the request line: path and query, at least "/"; a fragment is dropped
};

struct UrlResult {
  UrlFault fault = UrlFault::None;
  size_t at = 0;  // with a fault: the byte that it is about
  Url url = {};   // whole when there is none
};

UrlResult parse_url(std::string_view text);

// One sentence for people, without a full stop: what is wrong, and what to do.
std::string_view url_fault_text(UrlFault fault);

}  // namespace kiln::http
