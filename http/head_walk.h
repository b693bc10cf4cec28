// One walk over the bytes of a head, left to right: what the parsers of requests and of responses share. Every decision
// depends on the bytes up to the place where it is taken and on no later one; this alone makes the outcome the same
// however the input was split.
//
//   start line (the parsers' own)  *( name ":" OWS value OWS CR LF )  CR LF
//
// For parser.cpp and response_parser.cpp only.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "base/check.h"
#include "http/ascii.h"
#include "http/limits.h"
#include "http/message.h"
#include "http/parser.h"
#include "http/status.h"

namespace kiln::http {

class HeadWalk {
 protected:
  // Clears what it writes of `message`, but the storage of the fields, which is large and guarded by its count.
  HeadWalk(std::string_view input, const Limits& limits, MessageHead& message)
      : limits_(limits), begin_(input.data()), at_(input.data()), input_bytes_(input.size()), message_(message) {
    CHECK(limits.fields_max <= kFieldsCapacity);
    message.framing = Framing::None;
    message.minor_version = 1;
    message.keep_alive = true;
    message.content_length = 0;
    message.field_count = 0;
    stop_at(limits.head_bytes_max, Refusal::HeadTooLarge);
  }

  // The walk ends `bytes_max` bytes from the front of the input. Who would need more is refused.
  void stop_at(size_t bytes_max, Refusal past_it) {
    end_ = begin_ + std::min(bytes_max, input_bytes_);
    at_end_ = bytes_max <= input_bytes_ ? past_it : Refusal::None;
  }

  void skip(CharClass char_class) {
    const char* at = at_;
    while (at != end_ && is(char_class, *at)) ++at;
    at_ = at;
  }

  // skip(CharClass::FieldValue), eight bytes at a time as long as none is a control: most of a head is values.
  void skip_field_value() {
    constexpr uint64_t kOnes = 0x0101010101010101;
    const char* at = at_;
    for (uint64_t bytes = 0; static_cast<size_t>(end_ - at) >= sizeof bytes; at += sizeof bytes) {
      std::memcpy(&bytes, at, sizeof bytes);
      // A high bit is set if any byte is below 0x20, or is 0x7f: "Bit Twiddling Hacks" (Anderson), hasless and haszero.
      const uint64_t controls = (bytes - kOnes * 0x20) & ~bytes;
      const uint64_t deletes = ((bytes ^ kOnes * 0x7f) - kOnes) & ~(bytes ^ kOnes * 0x7f);
      if (((controls | deletes) & kOnes * 0x80) != 0) break;
    }
    at_ = at;
    skip(CharClass::FieldValue);
  }

  // "HTTP/d.d" (RFC 9112 section 2.3), of which `major` is the first digit.
  ParseOutcome parse_version(char& major);

  // CR LF, nothing else (RFC 9112 section 2.2 would let us take a bare LF; a proxy in front of us might not).
  ParseOutcome finish_line() {
    if (at_ == end_) return out_of_bytes();
    if (*at_ != '\r') return refuse(Refusal::BadLineEnd);
    ++at_;
    if (at_ == end_) return out_of_bytes();
    if (*at_ != '\n') return refuse(Refusal::BadLineEnd);
    ++at_;
    return ParseOutcome::Complete;
  }

  // All field lines and the blank one. `note(name, value)` judges each and gives a Refusal.
  template <typename Note>
  ParseOutcome parse_fields(Note note) {
    for (;;) {
      if (at_ == end_) return out_of_bytes();
      if (*at_ == '\r' || *at_ == '\n') return finish_line();
      if (is_blank(*at_)) return refuse(Refusal::FoldedField);
      if (message_.field_count == limits_.fields_max) return refuse(Refusal::TooManyFields);

      const char* const name_begin = at_;
      skip(CharClass::Token);
      if (at_ == end_) return out_of_bytes();
      if (*at_ != ':' || at_ == name_begin) return refuse(Refusal::BadFieldName);
      const std::string_view name = since(name_begin);
      ++at_;

      const char* const value_begin = at_;
      skip_field_value();
      if (at_ == end_) return out_of_bytes();
      const std::string_view value = trim_blanks(since(value_begin));
      if (*at_ != '\r' && *at_ != '\n') return refuse(Refusal::BadFieldValue);
      if (const auto outcome = finish_line(); outcome != ParseOutcome::Complete) return outcome;

      message_.field_storage[message_.field_count++] = {name, value};
      if (const Refusal refusal = note(name, value); refusal != Refusal::None) return refuse(refusal);
    }
  }

  Refusal note_content_length(std::string_view value);
  Refusal note_transfer_encoding(std::string_view value);
  void note_connection(std::string_view value);

  // To be called behind the last field.
  void judge_persistence() {
    message_.keep_alive = !close_seen_ && (keep_alive_seen_ || message_.minor_version != 0);
  }

  [[nodiscard]] size_t offset() const { return static_cast<size_t>(at_ - begin_); }
  [[nodiscard]] std::string_view since(const char* start) const { return {start, static_cast<size_t>(at_ - start)}; }

  ParseOutcome refuse(Refusal refusal) {
    refusal_ = refusal;
    return ParseOutcome::Invalid;
  }

  ParseOutcome out_of_bytes() { return at_end_ == Refusal::None ? ParseOutcome::NeedMore : refuse(at_end_); }

  const Limits& limits_;
  const char* begin_;
  const char* at_;
  const char* end_ = nullptr;
  size_t input_bytes_;
  Refusal at_end_ = Refusal::None;  // what it means to reach end_; None: more bytes may come
  Refusal refusal_ = Refusal::None;

 private:
  MessageHead& message_;
  bool length_seen_ = false;
  bool close_seen_ = false;
  bool keep_alive_seen_ = false;
};

}  // namespace kiln::http
