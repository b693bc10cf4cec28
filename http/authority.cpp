#include "http/authority.h"

#include <cstddef>

#include "http/ascii.h"

namespace kiln::http {
namespace {

bool is_port(std::string_view text) {
  unsigned value = 0;
  for (const char byte : text) {
    if (!is_digit(byte)) return false;
    value = value * 10 + static_cast<unsigned>(byte - '0');
    if (value > 65535) return false;
  }
  return true;
}

// dec-octet "." dec-octet "." dec-octet "." dec-octet, without leading zeros.
bool is_ipv4(std::string_view text) {
  for (int octet = 0; octet < 4; ++octet) {
    unsigned value = 0;
    size_t digits = 0;
    for (; digits < text.size() && digits < 3 && is_digit(text[digits]); ++digits) {
      value = value * 10 + static_cast<unsigned>(text[digits] - '0');
    }
    if (digits == 0 || value > 255 || (digits > 1 && text.front() == '0')) return false;
    text.remove_prefix(digits);
    if (octet == 3) break;
    if (!text.starts_with('.')) return false;
    text.remove_prefix(1);
  }
  return text.empty();
}

// Eight groups of up to four hex digits; one "::" stands for one or more groups, an IPv4 address for the last two.
bool is_ipv6(std::string_view text) {
  constexpr size_t kGroups = 8;
  size_t groups = 0;
  bool gap = text.starts_with("::");
  if (gap) text.remove_prefix(2);
  while (!text.empty()) {
    size_t digits = 0;
    while (digits < text.size() && is(CharClass::HexDigit, text[digits])) ++digits;
    if (digits < text.size() && text[digits] == '.') {
      groups += 2;
      return is_ipv4(text) && (gap ? groups < kGroups : groups == kGroups);
    }
    if (digits == 0 || digits > 4) return false;
    ++groups;
    text.remove_prefix(digits);
    if (text.empty()) break;
    if (text.starts_with("::")) {
      if (gap) return false;
      gap = true;
      text.remove_prefix(2);
    } else {
      text.remove_prefix(1);
      if (text.empty() || !is(CharClass::HexDigit, text.front())) return false;
    }
  }
  return gap ? groups < kGroups : groups == kGroups;
}

// "v" 1*HEXDIG "." 1*( unreserved / sub-delims / ":" )
bool is_ip_future(std::string_view text) {
  if (text.empty() || lower(text.front()) != 'v') return false;
  const size_t dot = text.find('.');
  if (dot == std::string_view::npos || dot == 1 || dot + 1 == text.size()) return false;
  for (const char byte : text.substr(dot + 1)) {
    if (byte != ':' && (byte == '%' || !is(CharClass::RegName, byte))) return false;
  }
  return all_are(CharClass::HexDigit, text.substr(1, dot - 1));
}

}  // namespace

std::optional<Authority> parse_authority(std::string_view text) {
  size_t host_bytes = 0;
  if (text.starts_with('[')) {
    const size_t bracket = text.find(']');
    if (bracket == std::string_view::npos) return {};
    const std::string_view address = text.substr(1, bracket - 1);
    if (!is_ipv6(address) && !is_ip_future(address)) return {};
    host_bytes = bracket + 1;
  } else {
    while (host_bytes < text.size() && is(CharClass::RegName, text[host_bytes])) ++host_bytes;
    if (!escapes_are_whole(text.substr(0, host_bytes))) return {};
  }
  Authority authority{.host = text.substr(0, host_bytes), .port = {}};
  const std::string_view rest = text.substr(host_bytes);
  if (rest.empty()) return authority;
  if (rest.front() != ':' || !is_port(rest.substr(1))) return {};
  authority.port = rest.substr(1);
  return authority;
}

}  // namespace kiln::http
