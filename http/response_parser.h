// Bytes to a response head, by the same rules and the same code as parse_head: no state, no allocation, no I/O.
#pragma once

#include <cstddef>
#include <string_view>

#include "http/limits.h"
#include "http/message.h"
#include "http/parser.h"
#include "http/request.h"
#include "http/response_fault.h"

namespace kiln::http {

struct ResponseHead : MessageHead {
  int status = 0;           // 100 to 999: what is beyond 599 is for the caller to take as 5xx (RFC 9110 section 15)
  std::string_view reason;  // as sent; may be empty

  // An answer before the one that counts (RFC 9110 section 15.2).
  [[nodiscard]] bool is_interim() const { return status < 200; }

  // True when another response may follow on the connection.
  [[nodiscard]] bool persists() const { return keep_alive && framing != Framing::UntilClose; }
};

struct ResponseParseResult {
  ParseOutcome outcome = ParseOutcome::NeedMore;
  size_t consumed = 0;                        // Complete: bytes of the head, blank line included
  ResponseFault fault = ResponseFault::None;  // Invalid: why
};

// Parses one head from the front of `input`, of the response to a request with `method`, which decides on the framing:
// answers to HEAD, 1xx, 204 and 304 have no body whatever their fields say (RFC 9112 section 6.3). `head` is whole only
// after Complete; its views point into `input`. limits.request_line_bytes_max does not count here.
//
// Every prefix of a valid head gives NeedMore; once a prefix is Invalid so is everything that starts with it, with the
// same fault.
ResponseParseResult parse_response_head(std::string_view input, Method method, const Limits& limits,
                                        ResponseHead& head);

}  // namespace kiln::http
