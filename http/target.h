// Percent-encoding and query parameters (RFC 3986 section 2.1; WHATWG URL's application/x-www-form-urlencoded).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace kiln::http {

// Decodes %XX; nothing on a bad escape. '+' stays unless `plus_is_space` (form encoding).
enum class Plus : bool { Literal, Space };
std::optional<std::string> percent_decode(std::string_view text, Plus plus);

// A path without needless escapes: %XX of an unreserved character is that character (RFC 3986 section 6.2.2.2; RFC 9110
// section 4.2.3 makes "/%61pi" and "/api" the same). All others stay, above all %2F and %00. `path` has whole escapes.
std::string decode_unreserved(std::string_view path);

struct Parameter {
  std::string name;
  std::string value;
};

// "a=1&b=x%20y" to pairs, in order, duplicates kept; nothing on a bad escape. Empty pieces ("a=1&&b=2") are skipped.
std::optional<std::vector<Parameter>> parse_form(std::string_view text);

}  // namespace kiln::http
