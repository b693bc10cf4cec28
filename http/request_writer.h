// Requests to bytes: the heads that a client sends. What a user has given is checked, so that it stays one request.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "http/message.h"

namespace kiln::http {

struct RequestToWrite {
  std::string_view method = "GET";
  std::string_view target = "/";        // as Url::target: origin-form, or "*" for OPTIONS
  std::string_view host = {};           // as Url::authority
  std::span<const Field> fields = {};   // further ones
  uint64_t content_length = 0;          // of the body that follows; the caller's to append
  bool keep_alive = true;               // false: asks the server to close (Connection: close)
};

enum class RequestFault : uint8_t {
  None,
  BadMethod,      // not a token, or CONNECT, which would turn the connection into something else
  BadTarget,      // not of that form, or a byte that may not stand in it, above all a blank or a line end
  BadHost,        // not host [":" port], or a comma in it
  BadFieldName,   // not a token
  BadFieldValue,  // a control character, above all a line end
  FieldIsOurs,    // Host, Content-Length, Transfer-Encoding or Connection, which are said by the members above
};

struct RequestWritten {
  RequestFault fault = RequestFault::None;
  size_t field = 0;  // with a fault of a field: which
};

// Appends the head; nothing when there is a fault. Methods that announce a body say its length also when it is 0
// (RFC 9110 section 8.6).
RequestWritten write_request_head(const RequestToWrite& request, std::string& output);

// One sentence for people, without a full stop.
std::string_view request_fault_text(RequestFault fault);

}  // namespace kiln::http
