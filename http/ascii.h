// Character classes of HTTP and URIs, a table look-up each, and comparison without case. No locale.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace kiln::http {

enum class CharClass : uint8_t {
  Token = 1,       // RFC 9110 section 5.6.2
  FieldValue = 2,  // visible, SP, HTAB and obs-text: RFC 9110 section 5.5
  HexDigit = 4,
  RegName = 8,       // unreserved, sub-delims and '%': RFC 3986 section 3.2.2
  Path = 16,         // of RegName, ':', '@' and '/': RFC 3986 section 3.3
  Query = 32,        // of Path, '?', and what every browser sends bare, as in "?a[]={b|c}" (WHATWG URL, query state)
  RequestId = 64,    // what we echo in X-Request-Id
  QuotedText = 128,  // qdtext: RFC 9110 section 5.6.4
};

inline constexpr std::array<uint8_t, 256> kCharClasses = [] {
  std::array<uint8_t, 256> classes{};
  const auto add = [&classes](std::string_view bytes, std::initializer_list<CharClass> to) {
    for (const char byte : bytes) {
      for (const CharClass char_class : to) {
        classes[static_cast<unsigned char>(byte)] |= static_cast<uint8_t>(char_class);
      }
    }
  };
  using enum CharClass;
  add("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", {Token, RegName, Path, Query, RequestId});
  add("0123456789ABCDEFabcdef", {HexDigit});
  add("!#$%&'*+-.^_`|~", {Token});
  add("-._~%!$&'()*+,;=", {RegName, Path, Query});
  add(":@/", {Path, Query});
  add("?[]{}|^`\\", {Query});
  add("._~+/=:@-", {RequestId});
  for (size_t byte = 0; byte < classes.size(); ++byte) {
    if (byte != '\t' && (byte < ' ' || byte == 0x7f)) continue;
    classes[byte] |= static_cast<uint8_t>(FieldValue);
    if (byte != '"' && byte != '\\') classes[byte] |= static_cast<uint8_t>(QuotedText);
  }
  return classes;
}();

constexpr bool is(CharClass char_class, char byte) {
  return (kCharClasses[static_cast<unsigned char>(byte)] & static_cast<uint8_t>(char_class)) != 0;
}

constexpr bool all_are(CharClass char_class, std::string_view text) {
  return std::all_of(text.begin(), text.end(), [char_class](char byte) { return is(char_class, byte); });
}

constexpr bool is_digit(char byte) { return byte >= '0' && byte <= '9'; }

constexpr bool is_blank(char byte) { return byte == ' ' || byte == '\t'; }

constexpr char lower(char byte) { return byte >= 'A' && byte <= 'Z' ? static_cast<char>(byte | 0x20) : byte; }

constexpr bool equal_without_case(std::string_view left, std::string_view right) {
  return left.size() == right.size() &&
         std::equal(left.begin(), left.end(), right.begin(), [](char a, char b) { return lower(a) == lower(b); });
}

// Of a digit that is(HexDigit).
constexpr unsigned hex_value(char digit) {
  return static_cast<unsigned>(is_digit(digit) ? digit - '0' : lower(digit) - 'a' + 10);
}

// True when every '%' is followed by two hex digits (RFC 3986 section 2.1).
constexpr bool escapes_are_whole(std::string_view text) {
  for (size_t at = text.find('%'); at != std::string_view::npos; at = text.find('%', at + 3)) {
    if (text.size() - at < 3 || !is(CharClass::HexDigit, text[at + 1]) || !is(CharClass::HexDigit, text[at + 2])) {
      return false;
    }
  }
  return true;
}

constexpr std::string_view trim_blanks(std::string_view text) {
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  return text;
}

// Calls visit(element) for each part between commas, blanks trimmed, also for empty ones, until it returns false; that
// is then the answer (RFC 9110 section 5.6.1, for lists whose elements have no quoted strings).
template <typename Visit>
constexpr bool each_element(std::string_view list, Visit visit) {
  for (;;) {
    const size_t comma = list.find(',');
    if (!visit(trim_blanks(list.substr(0, comma)))) return false;
    if (comma == std::string_view::npos) return true;
    list.remove_prefix(comma + 1);
  }
}

}  // namespace kiln::http
