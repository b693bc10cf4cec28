#include "app/command.h"

#include <algorithm>

#include "http/ascii.h"
#include "http/authority.h"

namespace kiln::app {

namespace {

// Takes as long for every token of ours: how long depends on `given` alone, which its sender knows.
bool equal_in_constant_time(std::string_view given, std::string_view token) {
  volatile unsigned char difference = given.size() == token.size() ? 0 : 1;
  for (size_t at = 0; at < given.size(); ++at) {
    difference = static_cast<unsigned char>(difference | (given[at] ^ token[at % token.size()]));
  }
  return difference == 0;
}

bool brings_token(const http::RequestHead& head, std::string_view token) {
  constexpr std::string_view kScheme = "bearer";
  const std::string_view credentials = head.find("authorization").value_or(std::string_view{});
  const size_t blank = std::min(credentials.find(' '), credentials.size());
  if (!http::equal_without_case(credentials.substr(0, blank), kScheme)) return false;
  return equal_in_constant_time(http::trim_blanks(credentials.substr(blank)), token);
}

struct Scheme {
  std::string_view prefix;
  std::string_view default_port;
};

std::string_view port_of(const http::Authority& authority, const Scheme& scheme) {
  return authority.port && !authority.port->empty() ? *authority.port : scheme.default_port;
}

// RFC 6454 section 5: host and port are the same. We speak http alone, but TLS may end before us: https is as good.
// "null" and lists are foreign.
bool is_foreign(std::string_view origin, std::string_view host) {
  constexpr Scheme kSchemes[] = {{"http://", "80"}, {"https://", "443"}};
  for (const Scheme& scheme : kSchemes) {
    if (!http::equal_without_case(origin.substr(0, scheme.prefix.size()), scheme.prefix)) continue;
    const auto theirs = http::parse_authority(origin.substr(scheme.prefix.size()));
    const auto ours = http::parse_authority(host);
    if (!theirs || !ours || theirs->host.empty()) return true;
    return !http::equal_without_case(theirs->host, ours->host) || port_of(*theirs, scheme) != port_of(*ours, scheme);
  }
  return true;
}

}  // namespace

Verdict judge_command(const http::RequestHead& head, const std::optional<std::string>& token) {
  for (const http::Field& field : head.fields()) {
    if (http::equal_without_case(field.name, "origin") && is_foreign(field.value, head.host)) {
      return Verdict::ForeignOrigin;
    }
  }
  if (token && !brings_token(head, *token)) return Verdict::NoToken;
  return Verdict::Allowed;
}

bool is_bearer_token(std::string_view text) {
  const size_t padding = std::min(text.find('='), text.size());
  const auto is_b64token = [](char c) {
    return http::is(http::CharClass::Token, c) ? std::string_view("!#$%&'*^`|").find(c) == std::string_view::npos
                                               : c == '/';
  };
  return padding > 0 && std::all_of(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(padding), is_b64token) &&
         text.find_first_not_of('=', padding) == std::string_view::npos;
}

}  // namespace kiln::app
