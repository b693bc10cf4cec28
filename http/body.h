// A body, from its framing to its bytes (RFC 9112 sections 6 and 7).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "http/limits.h"
#include "http/message.h"
#include "http/parser.h"

namespace kiln::http {

class BodyDecoder {
 public:
  // Framing::None is complete before the first byte; UntilClose has nothing to decode and must not be given. A declared
  // length beyond the limit is Invalid at the first decode.
  void begin(const MessageHead& head, const Limits& limits);

  // Takes what belongs to the body from the front of `input`, appends the decoded bytes to `body`, and says how much
  // it took. Trailer fields are checked and dropped. All input is taken unless the outcome is Complete or Invalid,
  // which are final: further calls take nothing and say the same. Memory grows with the bytes that arrived, never with
  // a length that was announced.
  ParseResult decode(std::string_view input, const Limits& limits, std::string& body);

  // The same without a copy: stops behind the first run of decoded bytes, which `data` then is, a view into `input`.
  // Whoever gets NeedMore calls again with what was not taken, and is through when nothing is left.
  ParseResult decode_run(std::string_view input, const Limits& limits, std::string_view& data);

 private:
  enum class State : uint8_t {
    Done, Failed, Length,
    Size, SizeLineFeed,                                           // "1a" CR LF
    BeforeSemicolon, NameStart, Name, AfterName,                  // " ; name "
    ValueStart, Value, Quoted, Escaped, QuotedEnd,                // "= value", "= \"a \\\" b\""
    Data, DataReturn, DataLineFeed,
    TrailerStart, TrailerName, TrailerValue, TrailerLineFeed, LastLineFeed,
  };

  [[nodiscard]] bool takes_bulk() const { return state_ == State::Length || state_ == State::Data; }
  std::string_view take_bulk(std::string_view input);
  Refusal take_byte(char byte, const Limits& limits);
  Refusal take_size_digit(char byte);
  Refusal take_extension_byte(char byte);
  Refusal take_trailer_byte(char byte, const Limits& limits);
  Refusal finish_size_line(const Limits& limits);

  State state_ = State::Done;
  Refusal refusal_ = Refusal::None;  // in Failed: why
  bool size_begun_ = false;          // true when the size line has a digit
  uint64_t left_ = 0;          // bytes left of the body or the chunk
  uint64_t decoded_ = 0;       // bytes of the chunks so far
  uint64_t overhead_ = 0;      // bytes of the size lines so far, less what their data excuses
  size_t line_bytes_ = 0;      // of the chunk's size line
  size_t trailer_bytes_ = 0;
  size_t trailer_fields_ = 0;
};

}  // namespace kiln::http
