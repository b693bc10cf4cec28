//   HTTP/d.d SP 3DIGIT [ SP reason ] CR LF  *( name ":" OWS value OWS CR LF )  CR LF
#include "http/response_parser.h"

#include "http/ascii.h"
#include "http/head_walk.h"

namespace kiln::http {
namespace {

class ResponseParser : HeadWalk {
 public:
  ResponseParser(std::string_view input, Method method, const Limits& limits, ResponseHead& head)
      : HeadWalk(input, limits, head), head_(head), to_head_(method == Method::Head) {
    head.status = 0;
    head.reason = {};
  }

  ResponseParseResult run() {
    ParseOutcome outcome = parse_status_line();
    if (outcome == ParseOutcome::Complete) {
      bodiless_ = to_head_ || head_.is_interim() || head_.status == 204 || head_.status == 304;
      outcome = parse_fields([this](std::string_view name, std::string_view value) { return note_field(name, value); });
    }
    if (outcome == ParseOutcome::Invalid) {
      return {outcome, 0, bad_status_line_ ? ResponseFault::BadStatusLine : response_fault_of(refusal_)};
    }
    if (outcome == ParseOutcome::NeedMore) return {};
    judge_persistence();
    if (!bodiless_ && head_.framing == Framing::None) head_.framing = Framing::UntilClose;
    return {outcome, offset(), ResponseFault::None};
  }

 private:
  ParseOutcome parse_status_line();
  ParseOutcome parse_status();
  Refusal note_field(std::string_view name, std::string_view value);

  ParseOutcome refuse_status_line() {
    bad_status_line_ = true;
    return ParseOutcome::Invalid;
  }

  ResponseHead& head_;
  bool to_head_;                  // true when the request was HEAD
  bool bodiless_ = false;         // true when no body follows whatever the fields say
  bool bad_status_line_ = false;  // true when refused for what no request has
};

// RFC 9112 section 4. The blank before the reason is due even when there is none, but many leave it out.
ParseOutcome ResponseParser::parse_status_line() {
  char major = 0;
  if (const auto outcome = parse_version(major); outcome != ParseOutcome::Complete) return outcome;
  if (major != '1') return refuse(Refusal::UnsupportedVersion);
  if (at_ == end_) return out_of_bytes();
  if (*at_ != ' ') return refuse_status_line();
  ++at_;
  if (const auto outcome = parse_status(); outcome != ParseOutcome::Complete) return outcome;
  if (at_ == end_) return out_of_bytes();
  if (*at_ == ' ') {
    ++at_;
    const char* const reason = at_;
    skip_field_value();
    if (at_ == end_) return out_of_bytes();
    head_.reason = since(reason);
  }
  if (*at_ != '\r' && *at_ != '\n') return refuse_status_line();
  return finish_line();
}

ParseOutcome ResponseParser::parse_status() {
  constexpr int kDigits = 3;
  for (int digit = 0; digit < kDigits; ++digit, ++at_) {
    if (at_ == end_) return out_of_bytes();
    if (!is_digit(*at_) || (digit == 0 && *at_ == '0')) return refuse_status_line();
    head_.status = head_.status * 10 + (*at_ - '0');
  }
  return ParseOutcome::Complete;
}

Refusal ResponseParser::note_field(std::string_view name, std::string_view value) {
  const auto is_named = [name](std::string_view other) { return equal_without_case(name, other); };
  switch (name.size()) {
    case 10:
      if (is_named("connection")) note_connection(value);
      return Refusal::None;
    case 14: return !bodiless_ && is_named("content-length") ? note_content_length(value) : Refusal::None;
    case 17: return !bodiless_ && is_named("transfer-encoding") ? note_transfer_encoding(value) : Refusal::None;
    default: return Refusal::None;
  }
}

}  // namespace

ResponseParseResult parse_response_head(std::string_view input, Method method, const Limits& limits,
                                        ResponseHead& head) {
  return ResponseParser(input, method, limits, head).run();
}

}  // namespace kiln::http
