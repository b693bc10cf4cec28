// The chunked coding (RFC 9112 section 7.1), one state a byte except inside data:
//
//   *( size *( BWS ";" BWS name [ BWS "=" BWS ( token / quoted ) ] ) CR LF data CR LF )
//   "0" … CR LF  *( name ":" value CR LF )  CR LF
#include "http/body.h"

#include <algorithm>

#include "base/check.h"
#include "http/ascii.h"

namespace kiln::http {

void BodyDecoder::begin(const MessageHead& head, const Limits& limits) {
  *this = {};
  CHECK(head.framing != Framing::UntilClose);
  switch (head.framing) {
    case Framing::None: return;
    case Framing::Chunked: state_ = State::Size; return;
    case Framing::Length:
    case Framing::UntilClose: break;
  }
  left_ = head.content_length;
  if (left_ > limits.body_bytes_max) {
    state_ = State::Failed;
    refusal_ = Refusal::BodyTooLarge;
  } else if (left_ > 0) {
    state_ = State::Length;
  }
}

ParseResult BodyDecoder::decode(std::string_view input, const Limits& limits, std::string& body) {
  size_t taken = 0;
  for (;;) {
    std::string_view data;
    const ParseResult result = decode_run(input.substr(taken), limits, data);
    body.append(data);
    taken += result.consumed;
    if (result.outcome != ParseOutcome::NeedMore || taken == input.size()) {
      return {result.outcome, taken, result.refusal};
    }
  }
}

ParseResult BodyDecoder::decode_run(std::string_view input, const Limits& limits, std::string_view& data) {
  size_t taken = 0;
  while (taken < input.size() && state_ != State::Done && state_ != State::Failed) {
    if (takes_bulk()) {
      data = take_bulk(input.substr(taken));
      taken += data.size();
      break;
    }
    refusal_ = take_byte(input[taken], limits);
    if (refusal_ != Refusal::None) {
      state_ = State::Failed;
    } else {
      ++taken;
    }
  }
  if (state_ == State::Failed) return {ParseOutcome::Invalid, taken, refusal_};
  return {state_ == State::Done ? ParseOutcome::Complete : ParseOutcome::NeedMore, taken, Refusal::None};
}

std::string_view BodyDecoder::take_bulk(std::string_view input) {
  const std::string_view data = input.substr(0, static_cast<size_t>(std::min<uint64_t>(left_, input.size())));
  left_ -= data.size();
  if (left_ == 0) state_ = state_ == State::Length ? State::Done : State::DataReturn;
  return data;
}

Refusal BodyDecoder::take_byte(char byte, const Limits& limits) {
  // The one place where a state is left for the next by one certain byte.
  const auto expect = [this, byte](char wanted, State next) {
    if (byte != wanted) return Refusal::BadChunk;
    state_ = next;
    return Refusal::None;
  };
  if (state_ < State::Data && ++line_bytes_ > limits.chunk_line_bytes_max) return Refusal::BadChunk;
  if (state_ > State::DataLineFeed && ++trailer_bytes_ > limits.trailer_bytes_max) return Refusal::TrailersTooLarge;
  switch (state_) {
    case State::Size: return take_size_digit(byte);
    case State::SizeLineFeed: return byte == '\n' ? finish_size_line(limits) : Refusal::BadChunk;
    case State::DataReturn: return expect('\r', State::DataLineFeed);
    case State::DataLineFeed: return expect('\n', State::Size);
    case State::BeforeSemicolon:
    case State::NameStart:
    case State::Name:
    case State::AfterName:
    case State::ValueStart:
    case State::Value:
    case State::Quoted:
    case State::Escaped:
    case State::QuotedEnd: return take_extension_byte(byte);
    case State::TrailerStart:
    case State::TrailerName:
    case State::TrailerValue:
    case State::TrailerLineFeed:
    case State::LastLineFeed: return take_trailer_byte(byte, limits);
    case State::Done:
    case State::Failed:
    case State::Length:
    case State::Data: break;
  }
  CHECK(false);
  return Refusal::BadChunk;
}

Refusal BodyDecoder::take_size_digit(char byte) {
  if (is(CharClass::HexDigit, byte)) {
    if (left_ >> 60 != 0) return Refusal::BadChunk;  // more than 64 bits, leading zeros aside
    size_begun_ = true;
    left_ = left_ << 4 | hex_value(byte);
    return Refusal::None;
  }
  if (!size_begun_) return Refusal::BadChunk;
  if (byte == '\r') {
    state_ = State::SizeLineFeed;
  } else if (byte == ';') {
    state_ = State::NameStart;
  } else if (is_blank(byte)) {
    state_ = State::BeforeSemicolon;
  } else {
    return Refusal::BadChunk;
  }
  return Refusal::None;
}

// Extensions mean nothing to us, but one that is no extension is where two parsers may disagree about the line's end.
Refusal BodyDecoder::take_extension_byte(char byte) {
  const auto go = [this](State next) {
    state_ = next;
    return Refusal::None;
  };
  switch (state_) {
    case State::BeforeSemicolon:
      if (is_blank(byte)) return Refusal::None;
      return byte == ';' ? go(State::NameStart) : Refusal::BadChunk;
    case State::NameStart:
      if (is_blank(byte)) return Refusal::None;
      return is(CharClass::Token, byte) ? go(State::Name) : Refusal::BadChunk;
    case State::Name:
      if (is(CharClass::Token, byte)) return Refusal::None;
      if (byte == '\r') return go(State::SizeLineFeed);
      [[fallthrough]];
    case State::AfterName:
      if (is_blank(byte)) return go(State::AfterName);
      if (byte == '=') return go(State::ValueStart);
      return byte == ';' ? go(State::NameStart) : Refusal::BadChunk;
    case State::ValueStart:
      if (is_blank(byte)) return Refusal::None;
      if (byte == '"') return go(State::Quoted);
      return is(CharClass::Token, byte) ? go(State::Value) : Refusal::BadChunk;
    case State::Quoted:
      if (byte == '"') return go(State::QuotedEnd);
      if (byte == '\\') return go(State::Escaped);
      return is(CharClass::QuotedText, byte) ? Refusal::None : Refusal::BadChunk;
    case State::Escaped: return is(CharClass::FieldValue, byte) ? go(State::Quoted) : Refusal::BadChunk;
    case State::Value:
      if (is(CharClass::Token, byte)) return Refusal::None;
      [[fallthrough]];
    default:  // QuotedEnd
      if (byte == '\r') return go(State::SizeLineFeed);
      if (byte == ';') return go(State::NameStart);
      return is_blank(byte) ? go(State::BeforeSemicolon) : Refusal::BadChunk;
  }
}

Refusal BodyDecoder::finish_size_line(const Limits& limits) {
  if (left_ > limits.body_bytes_max - decoded_) return Refusal::BodyTooLarge;
  decoded_ += left_;
  // A body of one-byte chunks with long extensions would be a thousand times its limit (CVE-2023-39326). Sixteen bytes
  // a line and two for each of data are excused, so that a client that only flushes often is not refused.
  constexpr uint64_t kLineBytesExcused = 16;
  const uint64_t excused = kLineBytesExcused + 2 * left_;
  overhead_ += line_bytes_;
  overhead_ -= std::min(overhead_, excused);
  if (overhead_ > limits.chunk_overhead_bytes_max) return Refusal::BadChunk;
  state_ = left_ == 0 ? State::TrailerStart : State::Data;
  size_begun_ = false;
  line_bytes_ = 0;
  return Refusal::None;
}

// A trailer field is checked like any field line; whatever it says is dropped, above all framing (RFC 9110 6.5.1).
Refusal BodyDecoder::take_trailer_byte(char byte, const Limits& limits) {
  switch (state_) {
    case State::TrailerStart:
      if (byte == '\r') {
        state_ = State::LastLineFeed;
        return Refusal::None;
      }
      if (!is(CharClass::Token, byte)) return Refusal::BadTrailer;
      if (trailer_fields_++ == limits.fields_max) return Refusal::TooManyFields;
      state_ = State::TrailerName;
      return Refusal::None;
    case State::TrailerName:
      if (byte == ':') state_ = State::TrailerValue;
      return byte == ':' || is(CharClass::Token, byte) ? Refusal::None : Refusal::BadTrailer;
    case State::TrailerValue:
      if (byte == '\r') state_ = State::TrailerLineFeed;
      return byte == '\r' || is(CharClass::FieldValue, byte) ? Refusal::None : Refusal::BadTrailer;
    default:  // TrailerLineFeed, LastLineFeed
      if (byte != '\n') return Refusal::BadTrailer;
      state_ = state_ == State::LastLineFeed ? State::Done : State::TrailerStart;
      return Refusal::None;
  }
}

}  // namespace kiln::http
