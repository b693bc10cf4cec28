// Responses to bytes. Appends to a buffer; sends nothing.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace kiln::http {

// A handler's answer. The views are copied before Reply::send returns.
struct Response {
  int status = 200;
  std::string_view content_type = {};  // none when empty
  std::string_view body = {};
  std::string_view fields = {};        // further field lines, each ending CR LF
  bool close = false;                  // true: the last response on this connection
  bool chunked = false;                // true: in chunks, as a body of unknown length would be (HTTP/1.0: until close)
};

// How the response to one request must be framed; what Exchange knows of the request.
struct ResponseFraming {
  uint8_t minor_version = 1;           // of the request
  bool head = false;                   // true: HEAD, so no body but its length
  bool keep_alive = true;              // true: another request may follow
  std::string_view request_id = {};    // echoed in X-Request-Id
};

// Appends the whole response. `common_fields` are field lines that every response carries (Server, Date, …). JSON is
// never stored by caches (Cache-Control: no-store). 1xx, 204 and 304 carry neither body nor Content-Length.
void write_response(const Response& response, const ResponseFraming& framing, std::string_view common_fields,
                    std::string& output);

// Problem JSON (RFC 9457): {"type":"about:blank","title":…,"status":…,"detail":…}. Texts are escaped.
inline constexpr std::string_view kProblemType = "application/problem+json";
std::string problem_json(int status, std::string_view title, std::string_view detail);

// `text` as the inside of a JSON string: quotes, backslashes and controls escaped, bytes that are no UTF-8 replaced.
std::string json_escape(std::string_view text);

}  // namespace kiln::http
