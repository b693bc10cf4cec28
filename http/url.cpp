#include "http/url.h"

#include <algorithm>
#include <charconv>

#include "base/check.h"
#include "http/ascii.h"
#include "http/authority.h"

namespace kiln::http {
namespace {

// Narrower than reg-name (RFC 3986 section 3.2.2): what else that allows no resolver takes.
bool is_name(std::string_view host) {
  return std::all_of(host.begin(), host.end(), [](char byte) {
    return is_digit(byte) || (lower(byte) >= 'a' && lower(byte) <= 'z') || byte == '.' || byte == '-' || byte == '_';
  });
}

// Visible ASCII: all that may stand anywhere in a URI.
bool is_visible(char byte) { return byte > ' ' && byte < 0x7f; }

class UrlParser {
 public:
  explicit UrlParser(std::string_view text) : text_(text) {}

  UrlResult run() {
    // First of all, so that no message quotes a control character's neighbours as a host.
    const auto odd = std::find_if_not(text_.begin(), text_.end(), is_visible);
    if (odd != text_.end()) return fail(UrlFault::BadCharacter, static_cast<size_t>(odd - text_.begin()));

    constexpr std::string_view kSeparator = "://";
    const size_t colon = text_.find(kSeparator);
    const std::string_view scheme = text_.substr(0, std::min(colon, text_.size()));
    if (equal_without_case(scheme, "https") && colon != std::string_view::npos) return fail(UrlFault::Https, 0);
    if (!equal_without_case(scheme, "http") || colon == std::string_view::npos) return fail(UrlFault::NoScheme, 0);

    const size_t authority_at = colon + kSeparator.size();
    const size_t target_at = std::min(text_.find_first_of("/?#", authority_at), text_.size());
    if (take_authority(authority_at, target_at)) take_target(target_at);
    return result_;
  }

 private:
  // False when there is a fault.
  bool take_authority(size_t begin, size_t end);
  void take_target(size_t begin);

  const UrlResult& fail(UrlFault fault, size_t at) { return result_ = {.fault = fault, .at = at}; }
  bool refuse(UrlFault fault, size_t at) {
    fail(fault, at);
    return false;
  }

  std::string_view text_;
  UrlResult result_;
};

bool UrlParser::take_authority(size_t begin, size_t end) {
  const std::string_view text = text_.substr(begin, end - begin);
  if (text.contains('@')) return refuse(UrlFault::UserInformation, begin);
  const bool bracketed = text.starts_with('[');
  const size_t bracket = bracketed ? text.find(']') : 0;
  if (bracket == std::string_view::npos) return refuse(UrlFault::BadHost, begin);
  // Two colons are an IPv6 address without its brackets.
  if (!bracketed && text.find(':') != text.rfind(':')) return refuse(UrlFault::BadHost, begin);
  const size_t host_bytes = std::min(text.find(':', bracket), text.size());
  if (host_bytes == 0) return refuse(UrlFault::NoHost, begin);

  const std::string_view host = text.substr(0, host_bytes);
  // parse_authority alone would take an IPvFuture, which begins with a 'v'.
  const bool good = bracketed ? parse_authority(host) && lower(host[1]) != 'v' : is_name(host);
  if (!good) return refuse(UrlFault::BadHost, begin);
  result_.url.host = bracketed ? host.substr(1, host.size() - 2) : host;
  result_.url.authority = host;
  if (host_bytes == text.size()) return true;

  // An empty port is the scheme's own (RFC 3986 section 3.2.3).
  const std::string_view digits = text.substr(host_bytes + 1);
  if (digits.empty()) return true;
  const char* const digits_end = digits.data() + digits.size();
  const auto [stopped, error] = std::from_chars(digits.data(), digits_end, result_.url.port);
  if (error != std::errc{} || stopped != digits_end || result_.url.port == 0) {
    return refuse(UrlFault::BadPort, begin + host_bytes + 1);
  }
  result_.url.authority = text;
  return true;
}

void UrlParser::take_target(size_t begin) {
  const std::string_view target = text_.substr(begin, text_.find('#', begin) - begin);
  const size_t query = std::min(target.find('?'), target.size());
  result_.url.target = target.starts_with('/') ? "" : "/";
  result_.url.target += target;
  for (size_t at = 0; at < target.size(); ++at) {
    if (!is(at < query ? CharClass::Path : CharClass::Query, target[at])) {
      fail(UrlFault::BadCharacter, begin + at);
      return;
    }
    if (target[at] == '%' && !escapes_are_whole(target.substr(at, 3))) {
      fail(UrlFault::BadEscape, begin + at);
      return;
    }
  }
}

}  // namespace

UrlResult parse_url(std::string_view text) { return UrlParser(text).run(); }

std::string_view url_fault_text(UrlFault fault) {
  switch (fault) {
    case UrlFault::None: return "nothing is wrong with the URL";
    case UrlFault::NoScheme: return "a URL begins with http://, as in http://localhost:8080/load?ms=5";
    case UrlFault::Https: return "https is not supported: put a TLS-terminating proxy in front, or use http";
    case UrlFault::UserInformation:
      return "a user or a password in a URL is not supported: send an Authorization field";
    case UrlFault::NoHost: return "the URL has no host";
    case UrlFault::BadHost:
      return "a host is a name of letters, digits, '.', '-' and '_', an IPv4 address, or an IPv6 address in brackets";
    case UrlFault::BadPort: return "a port is a number from 1 to 65535";
    case UrlFault::BadCharacter: return "this character may not stand in a URL: percent-encode it, a blank as %20";
    case UrlFault::BadEscape: return "two hex digits belong behind a '%': write %25 for the character itself";
  }
  CHECK(false);
  return {};
}

}  // namespace kiln::http
