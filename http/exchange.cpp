#include "http/exchange.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/check.h"
#include "http/ascii.h"
#include "http/parser.h"

namespace kiln::http {
namespace {

constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
constexpr std::string_view kRequestIdName = "x-request-id";
constexpr size_t kRequestIdBytesMax = 128;

bool is_request_id(std::string_view text) {
  return !text.empty() && text.size() <= kRequestIdBytesMax && all_are(CharClass::RequestId, text);
}

// SplitMix64 (Steele, Lea, Flood 2014): every state gives another number, which is all that an id needs.
uint64_t next_request_id(uint64_t& state) {
  state += 0x9e3779b97f4a7c15;
  uint64_t mixed = state;
  mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9;
  mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111eb;
  return mixed ^ (mixed >> 31);
}

using HexDigits = std::array<char, 16>;

HexDigits hex_digits(uint64_t number) {
  HexDigits digits;
  for (auto digit = digits.rbegin(); digit != digits.rend(); ++digit, number >>= 4) {
    *digit = "0123456789abcdef"[number & 15];
  }
  return digits;
}

}  // namespace

void Reply::send(const Response& response) { exchange_.answer(response, output_); }

size_t Exchange::receive(std::string_view input, std::string& output) {
  const Limits& limits = context_->limits;
  const size_t output_bytes_before = output.size();
  const uint64_t answered_before = answered_;
  batch_ended_ = false;
  input_left_ = false;

  size_t taken = 0;
  while (taken < input.size() && (phase_ == Phase::Head || phase_ == Phase::Body)) {
    if (answered_ - answered_before >= limits.requests_a_batch_max ||
        output.size() - output_bytes_before >= limits.output_batch_bytes_max) {
      batch_ended_ = true;
      break;
    }
    const std::string_view rest = input.substr(taken);
    const size_t bytes = phase_ == Phase::Head ? receive_head(rest, output) : receive_body(rest, output);
    if (bytes == 0) break;
    taken += bytes;
  }
  input_left_ = taken < input.size();
  if (phase_ == Phase::Finished && input_left_) must_linger_ = !input_ended_;
  if (input_ended_ && !batch_ended_) drop_incomplete();
  return taken;
}

void Exchange::end_of_input() {
  input_ended_ = true;
  must_linger_ = false;
  drop_incomplete();
}

void Exchange::drop_incomplete() {
  if (phase_ != Phase::Head && phase_ != Phase::Body) return;
  body_.reset();
  phase_ = Phase::Finished;
}

// Parsing starts anew each time, so a head that trickles in is looked at again only when that can change the outcome:
// at its first byte, with a line end, and when a limit is reached. Otherwise its cost would grow with its square.
bool Exchange::deserves_look(std::string_view input) const {
  if (looked_at_ == 0) return true;
  const auto reaches = [&](size_t bytes) { return looked_at_ < bytes && bytes <= input.size(); };
  constexpr size_t kEmptyLinesBytesMax = 2 * kEmptyLinesMax;
  const Limits& limits = context_->limits;
  return input.substr(std::min(looked_at_, input.size())).find('\n') != std::string_view::npos ||
         reaches(limits.request_line_bytes_max) || reaches(limits.request_line_bytes_max + kEmptyLinesBytesMax) ||
         reaches(limits.head_bytes_max);
}

size_t Exchange::receive_head(std::string_view input, std::string& output) {
  const bool deserved = deserves_look(input);
  looked_at_ = input.size();
  if (!deserved) return 0;

  const Limits& limits = context_->limits;
  RequestHead& head = context_->head;
  const ParseResult parsed = parse_head(input, limits, head);
  if (parsed.outcome == ParseOutcome::NeedMore) {
    head_begun_ = input.find_first_not_of("\r\n") != std::string_view::npos;
    if (!head_begun_) looked_at_ = 0;
    return 0;
  }
  note_head(head);
  if (parsed.outcome == ParseOutcome::Invalid) {
    finish_refused(parsed.refusal, output);
    return 0;
  }
  const std::string_view rest = input.substr(parsed.consumed);
  if (head.framing == Framing::None) {
    handle({}, output);
    return parsed.consumed;
  }
  const uint64_t bytes_max = context_->handler->body_bytes_max(head, limits.body_bytes_max);
  if (head.framing == Framing::Length && head.content_length <= std::min<uint64_t>(rest.size(), bytes_max)) {
    // A body that came with its head is not copied.
    const auto body_bytes = static_cast<size_t>(head.content_length);
    handle(rest.substr(0, body_bytes), output);
    return parsed.consumed + body_bytes;
  }
  return begin_body(input.substr(0, parsed.consumed), rest.empty(), bytes_max, output);
}

size_t Exchange::begin_body(std::string_view head_text, bool nothing_arrived, uint64_t bytes_max,
                            std::string& output) {
  auto body = std::make_unique<Body>();
  body->limits = context_->limits;
  body->limits.body_bytes_max = bytes_max;
  body->decoder.begin(context_->head, body->limits);
  // A length that is too large is refused before the client is told to go on.
  const ParseResult begun = body->decoder.decode({}, body->limits, body->decoded);
  if (begun.outcome == ParseOutcome::Invalid) {
    finish_refused(begun.refusal, output);
    return 0;
  }
  body->head = head_text;
  body_ = std::move(body);
  phase_ = Phase::Body;
  if (context_->head.expects_continue && nothing_arrived) output += kContinue;
  return head_text.size();
}

size_t Exchange::receive_body(std::string_view input, std::string& output) {
  const ParseResult decoded = body_->decoder.decode(input, body_->limits, body_->decoded);
  if (decoded.outcome == ParseOutcome::Invalid) {
    finish_refused(decoded.refusal, output);
  } else if (decoded.outcome == ParseOutcome::Complete) {
    const auto body = std::move(body_);
    const ParseResult parsed = parse_head(body->head, context_->limits, context_->head);
    CHECK(parsed.outcome == ParseOutcome::Complete);
    handle(body->decoded, output);
  }
  return decoded.consumed;
}

// Also of a head that was refused: then what it says up to the fault.
void Exchange::note_head(const RequestHead& head) {
  head_begun_ = true;
  minor_version_ = head.minor_version;
  is_head_method_ = head.method == Method::Head;
  keep_alive_ = head.keep_alive;
  note_request_id(head);
}

void Exchange::note_request_id(const RequestHead& head) {
  const auto given = head.find(kRequestIdName);
  if (given && is_request_id(*given)) {
    given_request_id_ = *given;
  } else {
    given_request_id_.clear();
    made_request_id_ = next_request_id(context_->request_id_state);
  }
}

// The request whose head is in the context.
void Exchange::handle(std::string_view body, std::string& output) {
  phase_ = Phase::Handling;
  looked_at_ = 0;
  Reply reply(*this, output);
  context_->handler->handle(Request{context_->head, body}, reply);
}

void Exchange::answer(const Response& response, std::string& output) {
  CHECK(phase_ == Phase::Handling);
  // On HTTP/1.0 the end of a body of unknown length is the end of the connection.
  const bool ends_with_connection = response.chunked && minor_version_ == 0;
  const bool nothing_follows = input_ended_ && !input_left_;
  const bool last = response.close || !keep_alive_ || closing_ || nothing_follows || ends_with_connection;
  write(response, last, output);
  head_begun_ = input_left_;  // the next request waited for this answer
  phase_ = last ? Phase::Finished : Phase::Head;
  must_linger_ = last && input_left_ && !input_ended_;
}

void Exchange::refuse(Refusal refusal, std::string& output) {
  CHECK(phase_ == Phase::Head || phase_ == Phase::Body);
  if (phase_ == Phase::Head) {
    // Nothing is known yet of this request; what was noted is the one before.
    minor_version_ = 1;
    is_head_method_ = false;
    given_request_id_.clear();
    made_request_id_ = next_request_id(context_->request_id_state);
  }
  finish_refused(refusal, output);
}

void Exchange::finish_refused(Refusal refusal, std::string& output) {
  const RefusalInfo& info = refusal_info(refusal);
  const std::string problem = problem_json(info.status, info.title, info.detail);
  write({.status = info.status, .content_type = kProblemType, .body = problem, .fields = info.fields}, true, output);
  body_.reset();
  phase_ = Phase::Finished;
  must_linger_ = !input_ended_;
  context_->handler->refused(refusal, info.status);
}

void Exchange::write(const Response& response, bool last, std::string& output) {
  const HexDigits made_request_id = hex_digits(made_request_id_);
  const bool was_given = !given_request_id_.empty();
  const ResponseFraming framing = {
      .minor_version = minor_version_,
      .head = is_head_method_,
      .keep_alive = !last,
      .request_id = was_given ? given_request_id_ : std::string_view(made_request_id.data(), made_request_id.size())};
  write_response(response, framing, context_->common_fields, output);
  ++answered_;
}

}  // namespace kiln::http
