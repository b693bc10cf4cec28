// Any bytes as a body: "L12 …" is one of 12 bytes, everything else is chunked. However it is split, the outcome is the
// same; what was decoded is what a second, slow decoder makes of the same bytes; memory follows what arrived.
#include <string>

#include "http/body.h"
#include "tests/fuzz/pieces.h"

namespace kiln::fuzz {
namespace {

using http::ParseOutcome;
using http::ParseResult;

struct Decoded {
  ParseResult result;  // consumed: in total
  std::string body;
};

// Takes the framing off the front of `input`.
http::RequestHead take_framing(std::string_view& input) {
  http::RequestHead head;
  head.framing = http::Framing::Chunked;
  if (!input.starts_with('L')) return head;
  head.framing = http::Framing::Length;
  input.remove_prefix(1);
  while (!input.empty() && input.front() >= '0' && input.front() <= '9') {
    head.content_length = head.content_length * 10 + static_cast<uint64_t>(input.front() - '0');
    input.remove_prefix(1);
  }
  if (input.starts_with(' ')) input.remove_prefix(1);
  return head;
}

// `next_bytes` says how long the next piece is.
template <typename NextBytes>
Decoded decode(const http::RequestHead& head, std::string_view input, const http::Limits& limits,
               NextBytes next_bytes) {
  Decoded decoded;
  http::BodyDecoder decoder;
  decoder.begin(head, limits);
  size_t consumed = 0;
  decoded.result = decoder.decode({}, limits, decoded.body);
  while (decoded.result.outcome == ParseOutcome::NeedMore && consumed < input.size()) {
    const ExactCopy piece(input.substr(consumed, next_bytes()));
    decoded.result = decoder.decode(piece.view(), limits, decoded.body);
    CHECK(decoded.result.consumed <= piece.view().size());
    if (decoded.result.outcome == ParseOutcome::NeedMore) CHECK(decoded.result.consumed == piece.view().size());
    consumed += decoded.result.consumed;
  }
  decoded.result.consumed = consumed;
  if (decoded.result.outcome != ParseOutcome::NeedMore) {
    const ParseResult again = decoder.decode("more", limits, decoded.body);
    CHECK(again.outcome == decoded.result.outcome);
    CHECK(again.consumed == 0);
  }
  CHECK(decoded.body.size() <= limits.body_bytes_max);
  CHECK(decoded.body.size() <= consumed);
  CHECK(decoded.body.capacity() <= 2 * consumed + 64);
  return decoded;
}

void check_same(const Decoded& left, const Decoded& right) {
  CHECK(left.result.outcome == right.result.outcome);
  CHECK(left.result.refusal == right.result.refusal);
  CHECK(left.result.consumed == right.result.consumed);
  CHECK(left.body == right.body);
}

// A valid chunked body, decoded line by line; only sizes and data are looked at.
std::string decode_slowly(std::string_view input) {
  std::string body;
  for (;;) {
    const size_t line_end = input.find("\r\n");
    CHECK(line_end != std::string_view::npos);
    const size_t size = std::stoull(std::string(input.substr(0, line_end)), nullptr, 16);
    input.remove_prefix(line_end + 2);
    if (size == 0) break;
    CHECK(input.size() >= size + 2);
    body.append(input.substr(0, size));
    CHECK(input.substr(size, 2) == "\r\n");
    input.remove_prefix(size + 2);
  }
  CHECK(input == "\r\n" || input.ends_with("\r\n\r\n"));
  return body;
}

void check_body(std::string_view input, const http::Limits& limits) {
  Chooser chooser(input);
  const http::RequestHead head = take_framing(input);
  const Decoded whole = decode(head, input, limits, [&] { return input.size(); });
  check_same(whole, decode(head, input, limits, [] { return size_t{1}; }));
  check_same(whole, decode(head, input, limits, [&] { return 1 + chooser.up_to(input.size() / 4); }));
  if (whole.result.outcome != ParseOutcome::Complete) return;
  const std::string_view taken = input.substr(0, whole.result.consumed);
  CHECK(whole.body == (head.framing == http::Framing::Length ? std::string(taken) : decode_slowly(taken)));
}

}  // namespace
}  // namespace kiln::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input = kiln::fuzz::text_of(data, size);
  kiln::fuzz::check_body(input, {});
  kiln::fuzz::check_body(input, {.fields_max = 2,
                                 .body_bytes_max = 32,
                                 .chunk_line_bytes_max = 24,
                                 .chunk_overhead_bytes_max = 16,
                                 .trailer_bytes_max = 24});
  return 0;
}
