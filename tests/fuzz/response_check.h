// A second opinion on what we write: takes one response from the front of a text, by the rules of RFC 9112 for a client
// and with nothing of ours but CHECK. Whatever is not a well-formed response fails.
#pragma once

#include <cctype>
#include <optional>
#include <string>
#include <string_view>

#include "base/check.h"

namespace kiln::fuzz {

struct ResponseSeen {
  int status = 0;
  bool closes = false;  // says Connection: close
  std::string body;
};

inline std::string_view take_line(std::string_view& text) {
  const size_t end = text.find("\r\n");
  CHECK(end != std::string_view::npos);
  const std::string_view line = text.substr(0, end);
  CHECK(line.find_first_of(std::string_view("\r\n\0", 3)) == std::string_view::npos);
  text.remove_prefix(end + 2);
  return line;
}

inline std::string_view take_bytes(std::string_view& text, size_t bytes) {
  CHECK(bytes <= text.size());
  const std::string_view taken = text.substr(0, bytes);
  text.remove_prefix(bytes);
  return taken;
}

inline std::string take_chunks(std::string_view& text) {
  std::string body;
  for (;;) {
    const size_t bytes = std::stoull(std::string(take_line(text)), nullptr, 16);
    if (bytes == 0) break;
    body.append(take_bytes(text, bytes));
    CHECK(take_line(text).empty());
  }
  CHECK(take_line(text).empty());
  return body;
}

// `to_head` is true when the request was HEAD.
inline ResponseSeen take_response(std::string_view& text, bool to_head) {
  ResponseSeen seen;
  const std::string_view status_line = take_line(text);
  CHECK(status_line.starts_with("HTTP/1.1 "));
  CHECK(status_line.size() > 13);
  CHECK(status_line[12] == ' ');
  seen.status = std::stoi(std::string(status_line.substr(9, 3)));

  std::optional<size_t> length;
  bool chunked = false;
  for (std::string_view line = take_line(text); !line.empty(); line = take_line(text)) {
    const size_t colon = line.find(": ");
    CHECK(colon != std::string_view::npos);
    for (const char byte : line.substr(0, colon)) CHECK(std::isalnum(static_cast<unsigned char>(byte)) || byte == '-');
    const std::string_view name = line.substr(0, colon);
    const std::string_view value = line.substr(colon + 2);
    if (name == "Content-Length") {
      CHECK(!length);
      length = std::stoull(std::string(value));
    } else if (name == "Transfer-Encoding") {
      CHECK(value == "chunked");
      chunked = true;
    } else if (name == "Connection") {
      seen.closes = value == "close";
      CHECK(seen.closes || value == "keep-alive");
    }
  }
  CHECK(!(length && chunked));
  if (to_head || seen.status < 200 || seen.status == 204 || seen.status == 304) return seen;
  if (chunked) {
    seen.body = take_chunks(text);
  } else if (length) {
    seen.body = take_bytes(text, *length);
  } else {
    CHECK(seen.closes);
    seen.body = take_bytes(text, text.size());
  }
  return seen;
}

}  // namespace kiln::fuzz
