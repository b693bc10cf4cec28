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
  std::string request_id;
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

inline bool has_body(int status) { return status >= 200 && status != 204 && status != 304; }

// True when `text` begins with a whole response. One that only the end of the connection ends is never whole.
inline bool holds_response(std::string_view text, bool to_head) {
  const size_t end = text.find("\r\n\r\n");
  if (end == std::string_view::npos) return false;
  const std::string_view head = text.substr(0, end + 2);
  const std::string_view body = text.substr(end + 4);
  CHECK(head.starts_with("HTTP/1.1 "));
  if (to_head || !has_body(std::stoi(std::string(head.substr(9, 3))))) return true;
  if (head.contains("\r\nTransfer-Encoding: chunked\r\n")) {
    return body.starts_with("0\r\n\r\n") || body.contains("\r\n0\r\n\r\n");
  }
  constexpr std::string_view kLength = "\r\nContent-Length: ";
  const size_t at = head.find(kLength);
  return at != std::string_view::npos && body.size() >= std::stoull(std::string(head.substr(at + kLength.size())));
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
    } else if (name == "X-Request-Id") {
      CHECK(seen.request_id.empty());
      seen.request_id = value;
    }
  }
  CHECK(!(length && chunked));
  if (to_head || !has_body(seen.status)) return seen;
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
