#include "http/response_reader.h"

#include <algorithm>

#include "base/check.h"

namespace kiln::http {

using Kind = ResponseStep::Kind;

void ResponseReader::expect(Method method) {
  CHECK(can_expect());
  CHECK(method != Method::Connect);
  to_head_ |= static_cast<uint64_t>(method == Method::Head) << due_;
  ++due_;
}

ResponseStep ResponseReader::next(std::string_view input, ResponseHead& head) {
  switch (phase_) {
    case Phase::Head: return next_head(input, head);
    case Phase::Body: return next_data(input);
    case Phase::Finished: return input.empty() ? ResponseStep{} : fail(ResponseFault::AfterLast);
    case Phase::Failed: break;
  }
  return fail(fault_);
}

ResponseStep ResponseReader::end_of_input() {
  if (phase_ == Phase::Failed) return fail(fault_);
  if (phase_ == Phase::Body) return until_close_ ? end(0) : fail(ResponseFault::TruncatedBody);
  if (looked_at_ > 0) return fail(ResponseFault::TruncatedHead);
  if (due_ > 0) return fail(ResponseFault::Unanswered);
  phase_ = Phase::Finished;
  return {.kind = Kind::Closed};
}

// Parsing starts anew each time, so a head that trickles in is looked at again only when that can change the outcome:
// at its first byte, with a line end, and at the limit. Otherwise its cost would grow with its square.
bool ResponseReader::deserves_look(std::string_view input) const {
  return looked_at_ == 0 || input.substr(std::min(looked_at_, input.size())).contains('\n') ||
         (looked_at_ < limits_->head_bytes_max && limits_->head_bytes_max <= input.size());
}

ResponseStep ResponseReader::next_head(std::string_view input, ResponseHead& head) {
  size_t skipped = 0;  // interim responses
  for (;;) {
    const std::string_view rest = input.substr(skipped);
    if (rest.empty()) return {.consumed = skipped};
    if (due_ == 0) return fail(ResponseFault::NotAsked);
    const bool deserved = deserves_look(rest);
    looked_at_ = rest.size();
    if (!deserved) return {.consumed = skipped};

    const Method method = (to_head_ & 1) != 0 ? Method::Head : Method::Other;
    const ResponseParseResult parsed = parse_response_head(rest, method, *limits_, head);
    if (parsed.outcome == ParseOutcome::NeedMore) return {.consumed = skipped};
    if (parsed.outcome == ParseOutcome::Invalid) return fail(parsed.fault, skipped);
    if (head.status == 101) return fail(ResponseFault::SwitchedProtocols, skipped);
    looked_at_ = 0;
    skipped += parsed.consumed;
    if (!head.is_interim()) break;
    ++interims_;
  }
  phase_ = Phase::Body;
  body_bytes_ = 0;
  persists_ = head.persists();
  until_close_ = head.framing == Framing::UntilClose;
  if (!until_close_) decoder_.begin(head, *limits_);
  return {.kind = Kind::Head, .consumed = skipped};
}

ResponseStep ResponseReader::next_data(std::string_view input) {
  if (until_close_) {
    const auto bytes = static_cast<size_t>(std::min<uint64_t>(input.size(), limits_->body_bytes_max - body_bytes_));
    if (bytes > 0) return take(input.substr(0, bytes), bytes);
    return input.empty() ? ResponseStep{} : fail(ResponseFault::BodyTooLarge);
  }
  std::string_view data;
  const ParseResult decoded = decoder_.decode_run(input, *limits_, data);
  if (!data.empty()) return take(data, decoded.consumed);
  switch (decoded.outcome) {
    case ParseOutcome::Complete: return end(decoded.consumed);
    case ParseOutcome::NeedMore: return {.consumed = decoded.consumed};
    case ParseOutcome::Invalid: break;
  }
  return fail(response_fault_of(decoded.refusal), decoded.consumed);
}

ResponseStep ResponseReader::take(std::string_view data, size_t consumed) {
  body_bytes_ += data.size();
  return {.kind = Kind::Data, .consumed = consumed, .data = data};
}

ResponseStep ResponseReader::end(size_t consumed) {
  CHECK(due_ > 0);
  --due_;
  to_head_ >>= 1;
  phase_ = persists_ ? Phase::Head : Phase::Finished;
  return {.kind = Kind::End, .consumed = consumed};
}

ResponseStep ResponseReader::fail(ResponseFault fault, size_t consumed) {
  phase_ = Phase::Failed;
  fault_ = fault;
  return {.kind = Kind::Invalid, .fault = fault, .consumed = consumed};
}

}  // namespace kiln::http
