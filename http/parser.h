// Bytes to a request head, strictly by RFC 9112. No state, no allocation, no I/O: whoever has too few bytes calls again
// with all of them.
//
// Anything ambiguous is refused, above all whatever two parties could frame differently: line ends other than CR LF,
// white space before a colon, folded fields, differing lengths, length together with chunked.
#pragma once

#include <cstddef>
#include <string_view>

#include "http/limits.h"
#include "http/request.h"
#include "http/status.h"

namespace kiln::http {

enum class ParseOutcome : uint8_t { Complete, NeedMore, Invalid };

struct ParseResult {
  ParseOutcome outcome = ParseOutcome::NeedMore;
  size_t consumed = 0;                // Complete: bytes of the head, blank line and leading empty lines included
  Refusal refusal = Refusal::None;    // Invalid: why
};

// Parses one head from the front of `input`. A few empty lines before the request line are skipped (RFC 9112
// section 2.2). `head` is whole only after Complete; its views point into `input`.
//
// Every prefix of a valid head gives NeedMore; once a prefix is Invalid so is everything that starts with it, with the
// same refusal.
ParseResult parse_head(std::string_view input, const Limits& limits, RequestHead& head);

}  // namespace kiln::http
