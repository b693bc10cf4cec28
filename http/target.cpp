#include "http/target.h"

#include <algorithm>
#include <cstddef>

#include "http/ascii.h"

namespace kiln::http {
namespace {

// RFC 3986 section 2.3.
bool is_unreserved(char byte) {
  return is_digit(byte) || (lower(byte) >= 'a' && lower(byte) <= 'z') ||
         std::string_view("-._~").find(byte) != std::string_view::npos;
}

}  // namespace

std::optional<std::string> percent_decode(std::string_view text, Plus plus) {
  if (!escapes_are_whole(text)) return {};
  std::string decoded;
  decoded.reserve(text.size());
  for (size_t at = 0; at < text.size(); ++at) {
    if (text[at] == '%') {
      decoded.push_back(static_cast<char>(hex_value(text[at + 1]) << 4 | hex_value(text[at + 2])));
      at += 2;
    } else {
      decoded.push_back(text[at] == '+' && plus == Plus::Space ? ' ' : text[at]);
    }
  }
  return decoded;
}

std::string decode_unreserved(std::string_view path) {
  std::string decoded;
  decoded.reserve(path.size());
  for (size_t at = 0; at < path.size(); ++at) {
    if (path[at] == '%') {
      const char byte = static_cast<char>(hex_value(path[at + 1]) << 4 | hex_value(path[at + 2]));
      if (is_unreserved(byte)) {
        decoded.push_back(byte);
        at += 2;
        continue;
      }
    }
    decoded.push_back(path[at]);
  }
  return decoded;
}

std::optional<std::vector<Parameter>> parse_form(std::string_view text) {
  std::vector<Parameter> parameters;
  while (!text.empty()) {
    const std::string_view piece = text.substr(0, text.find('&'));
    text.remove_prefix(std::min(piece.size() + 1, text.size()));
    if (piece.empty()) continue;
    const size_t equals = std::min(piece.find('='), piece.size());
    auto name = percent_decode(piece.substr(0, equals), Plus::Space);
    auto value = percent_decode(piece.substr(std::min(equals + 1, piece.size())), Plus::Space);
    if (!name || !value) return {};
    parameters.push_back({std::move(*name), std::move(*value)});
  }
  return parameters;
}

}  // namespace kiln::http
