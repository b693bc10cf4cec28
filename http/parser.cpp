//   *8( CR LF )  method SP target SP HTTP/d.d CR LF  *( name ":" OWS value OWS CR LF )  CR LF
#include "http/parser.h"

#include <algorithm>

#include "http/ascii.h"
#include "http/authority.h"
#include "http/head_walk.h"

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

class RequestParser : HeadWalk {
 public:
  RequestParser(std::string_view input, const Limits& limits, RequestHead& head)
      : HeadWalk(input, limits, head), head_(head) {
    head.method = Method::Other;
    head.form = TargetForm::Origin;
    head.expects_continue = false;
    head.method_text = head.target = head.path = head.query = head.host = {};
  }

  ParseResult run() {
    ParseOutcome outcome = skip_empty_lines();
    if (outcome == ParseOutcome::Complete) outcome = parse_request_line();
    if (outcome == ParseOutcome::Complete) {
      stop_at(limits_.head_bytes_max, Refusal::HeadTooLarge);
      outcome = parse_fields([this](std::string_view name, std::string_view value) { return note_field(name, value); });
    }
    if (outcome == ParseOutcome::Complete) outcome = judge_whole();
    return {outcome, outcome == ParseOutcome::Complete ? offset() : 0, refusal_};
  }

 private:
  ParseOutcome skip_empty_lines();
  ParseOutcome parse_request_line();
  ParseOutcome parse_target();
  ParseOutcome judge_whole();

  Refusal judge_target(std::string_view target);
  Refusal judge_absolute(std::string_view target);
  Refusal note_field(std::string_view name, std::string_view value);
  Refusal note_host(std::string_view value);
  Refusal note_expect(std::string_view value);

  ParseOutcome judged(Refusal refusal) { return refusal == Refusal::None ? ParseOutcome::Complete : refuse(refusal); }

  RequestHead& head_;
  bool host_seen_ = false;
};

// RFC 9112 section 2.2: at least one empty line before the request line is to be ignored; some clients send one after
// a body.
ParseOutcome RequestParser::skip_empty_lines() {
  for (size_t line = 0; line < kEmptyLinesMax; ++line) {
    if (at_ == end_) return out_of_bytes();
    if (*at_ != '\r') break;
    if (const auto outcome = finish_line(); outcome != ParseOutcome::Complete) return outcome;
  }
  return ParseOutcome::Complete;
}

ParseOutcome RequestParser::parse_request_line() {
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
  char major = 0;
  if (const auto outcome = parse_version(major); outcome != ParseOutcome::Complete) return outcome;
  if (at_ == end_) return out_of_bytes();
  if (*at_ != '\r' && *at_ != '\n') return refuse(Refusal::BadVersion);
  if (const auto outcome = finish_line(); outcome != ParseOutcome::Complete) return outcome;
  return judged(major == '1' ? Refusal::None : Refusal::UnsupportedVersion);
}

ParseOutcome RequestParser::parse_target() {
  const char* const target = at_;
  skip(CharClass::Query);
  if (at_ == end_) return out_of_bytes();
  if (*at_ != ' ') return refuse(Refusal::BadTarget);
  head_.target = since(target);
  ++at_;
  return judged(judge_target(head_.target));
}

// RFC 9112 section 3.2 names the four forms.
Refusal RequestParser::judge_target(std::string_view target) {
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
Refusal RequestParser::judge_absolute(std::string_view target) {
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

Refusal RequestParser::note_field(std::string_view name, std::string_view value) {
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
Refusal RequestParser::note_host(std::string_view value) {
  if (host_seen_) return Refusal::BadHost;
  host_seen_ = true;
  const auto authority = parse_authority(value);
  if (!authority || value.find(',') != std::string_view::npos) return Refusal::BadHost;
  if (head_.form == TargetForm::Absolute) return Refusal::None;
  if (authority->host.empty() && (authority->port || head_.form != TargetForm::Asterisk)) return Refusal::BadHost;
  head_.host = value;
  return Refusal::None;
}

// RFC 9110 section 10.1.1: from HTTP/1.0 it must be ignored.
Refusal RequestParser::note_expect(std::string_view value) {
  if (head_.minor_version == 0) return Refusal::None;
  const bool known = each_element(value, [this](std::string_view expectation) {
    if (expectation.empty()) return true;
    head_.expects_continue = equal_without_case(expectation, "100-continue");
    return head_.expects_continue;
  });
  return known ? Refusal::None : Refusal::UnknownExpectation;
}

ParseOutcome RequestParser::judge_whole() {
  if (!host_seen_ && head_.minor_version != 0) return refuse(Refusal::MissingHost);
  judge_persistence();
  return ParseOutcome::Complete;
}

}  // namespace

ParseResult parse_head(std::string_view input, const Limits& limits, RequestHead& head) {
  return RequestParser(input, limits, head).run();
}

}  // namespace kiln::http
