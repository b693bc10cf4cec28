// One walk over the bytes, left to right. Every decision depends on the bytes up to the place where it is taken and on
// no later one; this alone makes the outcome the same however the input was split.
//
//   *8( CR LF )  method SP target SP HTTP/d.d CR LF  *( name ":" OWS value OWS CR LF )  CR LF
#include "http/parser.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstring>

#include "base/check.h"
#include "http/ascii.h"
#include "http/authority.h"

namespace kiln::http {
namespace {

// Methods are case-sensitive (RFC 9110 section 9.1).
Method method_of(std::string_view text) {
  switch (text.size()) {
    case 3: return text == "GET" ? Method::Get : text == "PUT" ? Method::Put : Method::Other;
    case 4: return text == "POST" ? Method::Post : text == "HEAD" ? Method::Head : Method::Other;
    case 5: return text == "PATCH" ? Method::Patch : text == "TRACE" ? Method::Trace : Method::Other;
    case 6: return text == "DELETE" ? Method::Delete : Method::Other;
    case 7: return text == "OPTIONS" ? Method::Options : text == "CONNECT" ? Method::Connect : Method::Other;
    default: return Method::Other;
  }
}

class HeadParser {
 public:
  HeadParser(std::string_view input, const Limits& limits, RequestHead& head)
      : limits_(limits), head_(head), begin_(input.data()), at_(input.data()), input_bytes_(input.size()) {}

  ParseResult run() {
    stop_at(limits_.head_bytes_max, Refusal::HeadTooLarge);
    ParseOutcome outcome = skip_empty_lines();
    if (outcome == ParseOutcome::Complete) outcome = parse_request_line();
    if (outcome == ParseOutcome::Complete) outcome = parse_fields();
    if (outcome == ParseOutcome::Complete) outcome = judge_whole();
    return {outcome, outcome == ParseOutcome::Complete ? offset() : 0, refusal_};
  }

 private:
  ParseOutcome skip_empty_lines();
  ParseOutcome parse_request_line();
  ParseOutcome parse_target();
  ParseOutcome parse_version();
  ParseOutcome parse_fields();
  ParseOutcome finish_line();
  ParseOutcome judge_whole();

  Refusal judge_target(std::string_view target);
  Refusal judge_absolute(std::string_view target);
  Refusal note_field(std::string_view name, std::string_view value);
  Refusal note_host(std::string_view value);
  Refusal note_content_length(std::string_view value);
  Refusal note_transfer_encoding(std::string_view value);
  void note_connection(std::string_view value);
  Refusal note_expect(std::string_view value);

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

  [[nodiscard]] size_t offset() const { return static_cast<size_t>(at_ - begin_); }
  [[nodiscard]] std::string_view since(const char* start) const { return {start, static_cast<size_t>(at_ - start)}; }

  ParseOutcome refuse(Refusal refusal) {
    refusal_ = refusal;
    return ParseOutcome::Invalid;
  }

  ParseOutcome out_of_bytes() { return at_end_ == Refusal::None ? ParseOutcome::NeedMore : refuse(at_end_); }

  ParseOutcome judged(Refusal refusal) { return refusal == Refusal::None ? ParseOutcome::Complete : refuse(refusal); }

  const Limits& limits_;
  RequestHead& head_;
  const char* begin_;
  const char* at_;
  const char* end_ = nullptr;
  size_t input_bytes_;
  Refusal at_end_ = Refusal::None;  // what it means to reach end_; None: more bytes may come
  Refusal refusal_ = Refusal::None;
  bool host_seen_ = false;
  bool length_seen_ = false;
  bool close_seen_ = false;
  bool keep_alive_seen_ = false;
};

// RFC 9112 section 2.2: at least one empty line before the request line is to be ignored; some clients send one after
// a body.
ParseOutcome HeadParser::skip_empty_lines() {
  for (size_t line = 0; line < kEmptyLinesMax; ++line) {
    if (at_ == end_) return out_of_bytes();
    if (*at_ != '\r') break;
    if (const auto outcome = finish_line(); outcome != ParseOutcome::Complete) return outcome;
  }
  return ParseOutcome::Complete;
}

ParseOutcome HeadParser::parse_request_line() {
  const size_t line_bytes_max = std::min(limits_.request_line_bytes_max, limits_.head_bytes_max - offset());
  stop_at(offset() + line_bytes_max, Refusal::MethodTooLong);

  const char* const method = at_;
  skip(CharClass::Token);
  if (at_ == end_) return out_of_bytes();
  if (*at_ != ' ' || at_ == method) return refuse(Refusal::BadMethod);
  head_.method_text = since(method);
  head_.method = method_of(head_.method_text);
  ++at_;
  if (at_end_ != Refusal::None) at_end_ = Refusal::RequestLineTooLong;  // not the method's fault any more

  if (const auto outcome = parse_target(); outcome != ParseOutcome::Complete) return outcome;
  return parse_version();
}

ParseOutcome HeadParser::parse_target() {
  const char* const target = at_;
  skip(CharClass::Query);
  if (at_ == end_) return out_of_bytes();
  if (*at_ != ' ') return refuse(Refusal::BadTarget);
  head_.target = since(target);
  ++at_;
  return judged(judge_target(head_.target));
}

// RFC 9112 section 3.2 names the four forms.
Refusal HeadParser::judge_target(std::string_view target) {
  if (head_.method == Method::Connect) {
    head_.form = TargetForm::Authority;
    const auto authority = parse_authority(target);
    const bool whole = authority && !authority->host.empty() && authority->port && !authority->port->empty();
    return whole ? Refusal::ConnectNotSupported : Refusal::BadTarget;
  }
  if (target == "*") {
    head_.form = TargetForm::Asterisk;
    head_.path = target;
    return head_.method == Method::Options ? Refusal::None : Refusal::BadTarget;
  }
  if (!escapes_are_whole(target)) return Refusal::BadTarget;
  if (!target.starts_with('/')) return judge_absolute(target);

  head_.form = TargetForm::Origin;
  const size_t mark = target.find('?');
  head_.path = target.substr(0, mark);
  if (mark != std::string_view::npos) head_.query = target.substr(mark + 1);
  return all_are(CharClass::Path, head_.path) ? Refusal::None : Refusal::BadTarget;
}

// RFC 9110 section 4.2: an http URI has a host, and user information in it is an error.
Refusal HeadParser::judge_absolute(std::string_view target) {
  head_.form = TargetForm::Absolute;
  const size_t colon = target.find("://");
  if (colon == std::string_view::npos) return Refusal::BadTarget;
  const std::string_view scheme = target.substr(0, colon);
  if (!equal_without_case(scheme, "http") && !equal_without_case(scheme, "https")) return Refusal::BadTarget;

  const std::string_view rest = target.substr(colon + 3);
  const size_t authority_bytes = std::min(rest.find_first_of("/?"), rest.size());
  head_.host = rest.substr(0, authority_bytes);
  const auto authority = parse_authority(head_.host);
  if (!authority || authority->host.empty()) return Refusal::BadTarget;

  const std::string_view path_and_query = rest.substr(authority_bytes);
  const size_t mark = path_and_query.find('?');
  head_.path = path_and_query.substr(0, mark);
  if (mark != std::string_view::npos) head_.query = path_and_query.substr(mark + 1);
  if (head_.path.empty()) {
    // RFC 9112 section 3.2.4: OPTIONS for a URI with neither path nor query asks about the server as a whole.
    head_.path = head_.method == Method::Options && path_and_query.empty() ? "*" : "/";
    return Refusal::None;
  }
  return all_are(CharClass::Path, head_.path) ? Refusal::None : Refusal::BadTarget;
}

ParseOutcome HeadParser::parse_version() {
  constexpr std::string_view kUsual = "HTTP/1.1\r\n";
  if (static_cast<size_t>(end_ - at_) >= kUsual.size() && std::memcmp(at_, kUsual.data(), kUsual.size()) == 0) {
    at_ += kUsual.size();
    return ParseOutcome::Complete;
  }
  constexpr std::string_view kForm = "HTTP/0.0";  // each 0 stands for any digit
  const char* const version = at_;
  for (const char expected : kForm) {
    if (at_ == end_) return out_of_bytes();
    if (expected == '0' ? !is_digit(*at_) : *at_ != expected) return refuse(Refusal::BadVersion);
    ++at_;
  }
  if (at_ == end_) return out_of_bytes();
  if (*at_ != '\r' && *at_ != '\n') return refuse(Refusal::BadVersion);
  if (const auto outcome = finish_line(); outcome != ParseOutcome::Complete) return outcome;
  head_.minor_version = version[kForm.size() - 1] == '0' ? 0 : 1;
  return judged(version[kForm.find('0')] == '1' ? Refusal::None : Refusal::UnsupportedVersion);
}

ParseOutcome HeadParser::parse_fields() {
  stop_at(limits_.head_bytes_max, Refusal::HeadTooLarge);
  for (;;) {
    if (at_ == end_) return out_of_bytes();
    if (*at_ == '\r' || *at_ == '\n') return finish_line();
    if (is_blank(*at_)) return refuse(Refusal::FoldedField);
    if (head_.field_count == limits_.fields_max) return refuse(Refusal::TooManyFields);

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

    head_.field_storage[head_.field_count++] = {name, value};
    if (const Refusal refusal = note_field(name, value); refusal != Refusal::None) return refuse(refusal);
  }
}

// CR LF, nothing else (RFC 9112 section 2.2 would let us take a bare LF; a proxy in front of us might not).
ParseOutcome HeadParser::finish_line() {
  if (at_ == end_) return out_of_bytes();
  if (*at_ != '\r') return refuse(Refusal::BadLineEnd);
  ++at_;
  if (at_ == end_) return out_of_bytes();
  if (*at_ != '\n') return refuse(Refusal::BadLineEnd);
  ++at_;
  return ParseOutcome::Complete;
}

Refusal HeadParser::note_field(std::string_view name, std::string_view value) {
  const auto is_named = [name](std::string_view other) { return equal_without_case(name, other); };
  switch (name.size()) {
    case 4: return is_named("host") ? note_host(value) : Refusal::None;
    case 6: return is_named("expect") ? note_expect(value) : Refusal::None;
    case 10:
      if (is_named("connection")) note_connection(value);
      return Refusal::None;
    case 14: return is_named("content-length") ? note_content_length(value) : Refusal::None;
    case 17: return is_named("transfer-encoding") ? note_transfer_encoding(value) : Refusal::None;
    default: return Refusal::None;
  }
}

// An http URI has a host (RFC 9110 section 4.2.1), so an empty one names nothing here but the server as a whole. A
// comma may stand in a host (RFC 3986), but in no name that DNS has: it comes from two lines that somebody has joined.
Refusal HeadParser::note_host(std::string_view value) {
  if (host_seen_) return Refusal::BadHost;
  host_seen_ = true;
  const auto authority = parse_authority(value);
  if (!authority || value.find(',') != std::string_view::npos) return Refusal::BadHost;
  if (head_.form == TargetForm::Absolute) return Refusal::None;
  if (authority->host.empty() && (authority->port || head_.form != TargetForm::Asterisk)) return Refusal::BadHost;
  head_.host = value;
  return Refusal::None;
}

// RFC 9110 section 8.6 lets us refuse repeated equal lengths, and nobody honest sends them.
Refusal HeadParser::note_content_length(std::string_view value) {
  if (length_seen_) return Refusal::BadContentLength;
  length_seen_ = true;
  if (head_.framing == Framing::Chunked) return Refusal::LengthAndChunked;
  if (value.empty() || !is_digit(value.front())) return Refusal::BadContentLength;
  const char* const end = value.data() + value.size();
  const auto [stopped, error] = std::from_chars(value.data(), end, head_.content_length);
  if (error != std::errc{} || stopped != end) return Refusal::BadContentLength;
  head_.framing = Framing::Length;
  return Refusal::None;
}

// RFC 9112 section 6.1. Empty list elements are refused too: implementations differ on them, and chunked alone is all
// that a client has reason to send.
Refusal HeadParser::note_transfer_encoding(std::string_view value) {
  if (head_.minor_version == 0) return Refusal::BadTransferEncoding;
  if (length_seen_) return Refusal::LengthAndChunked;
  Refusal refusal = Refusal::None;
  each_element(value, [&](std::string_view coding) {
    const std::string_view name = trim_blanks(coding.substr(0, coding.find(';')));
    if (name.empty() || !all_are(CharClass::Token, name) || head_.framing == Framing::Chunked) {
      refusal = Refusal::BadTransferEncoding;
    } else if (!equal_without_case(name, "chunked")) {
      refusal = Refusal::UnknownTransferCoding;
    } else if (name.size() != coding.size()) {
      refusal = Refusal::BadTransferEncoding;  // chunked takes no parameters: RFC 9112 section 7.1
    }
    head_.framing = Framing::Chunked;
    return refusal == Refusal::None;
  });
  return refusal;
}

void HeadParser::note_connection(std::string_view value) {
  each_element(value, [this](std::string_view option) {
    if (equal_without_case(option, "close")) close_seen_ = true;
    if (equal_without_case(option, "keep-alive")) keep_alive_seen_ = true;
    return true;
  });
}

// RFC 9110 section 10.1.1: from HTTP/1.0 it must be ignored.
Refusal HeadParser::note_expect(std::string_view value) {
  if (head_.minor_version == 0) return Refusal::None;
  const bool known = each_element(value, [this](std::string_view expectation) {
    if (expectation.empty()) return true;
    head_.expects_continue = equal_without_case(expectation, "100-continue");
    return head_.expects_continue;
  });
  return known ? Refusal::None : Refusal::UnknownExpectation;
}

ParseOutcome HeadParser::judge_whole() {
  if (!host_seen_ && head_.minor_version != 0) return refuse(Refusal::MissingHost);
  head_.keep_alive = !close_seen_ && (keep_alive_seen_ || head_.minor_version != 0);
  return ParseOutcome::Complete;
}

// Everything but the storage of the fields, which is large and guarded by its count.
void clear(RequestHead& head) {
  head.method = Method::Other;
  head.form = TargetForm::Origin;
  head.framing = Framing::None;
  head.minor_version = 1;
  head.keep_alive = true;
  head.expects_continue = false;
  head.content_length = 0;
  head.method_text = head.target = head.path = head.query = head.host = {};
  head.field_count = 0;
}

}  // namespace

ParseResult parse_head(std::string_view input, const Limits& limits, RequestHead& head) {
  CHECK(limits.fields_max <= kFieldsCapacity);
  clear(head);
  return HeadParser(input, limits, head).run();
}

}  // namespace kiln::http
