#include "http/head_walk.h"

#include <charconv>

namespace kiln::http {

ParseOutcome HeadWalk::parse_version(char& major) {
  constexpr std::string_view kUsual = "HTTP/1.1";
  if (static_cast<size_t>(end_ - at_) >= kUsual.size() && std::memcmp(at_, kUsual.data(), kUsual.size()) == 0) {
    at_ += kUsual.size();
    major = '1';
    return ParseOutcome::Complete;
  }
  constexpr std::string_view kForm = "HTTP/0.0";  // each 0 stands for any digit
  const char* const version = at_;
  for (const char expected : kForm) {
    if (at_ == end_) return out_of_bytes();
    if (expected == '0' ? !is_digit(*at_) : *at_ != expected) return refuse(Refusal::BadVersion);
    ++at_;
  }
  major = version[kForm.find('0')];
  message_.minor_version = version[kForm.size() - 1] == '0' ? 0 : 1;
  return ParseOutcome::Complete;
}

// RFC 9110 section 8.6 lets us refuse repeated equal lengths, and nobody honest sends them.
Refusal HeadWalk::note_content_length(std::string_view value) {
  if (length_seen_) return Refusal::BadContentLength;
  length_seen_ = true;
  if (message_.framing == Framing::Chunked) return Refusal::LengthAndChunked;
  if (value.empty() || !is_digit(value.front())) return Refusal::BadContentLength;
  const char* const end = value.data() + value.size();
  const auto [stopped, error] = std::from_chars(value.data(), end, message_.content_length);
  if (error != std::errc{} || stopped != end) return Refusal::BadContentLength;
  message_.framing = Framing::Length;
  return Refusal::None;
}

// RFC 9112 section 6.1. Empty list elements are refused too: implementations differ on them, and chunked alone is all
// that a client has reason to send, and all that a server may answer to one that has not sent TE (section 7.4).
Refusal HeadWalk::note_transfer_encoding(std::string_view value) {
  if (message_.minor_version == 0) return Refusal::BadTransferEncoding;
  if (length_seen_) return Refusal::LengthAndChunked;
  Refusal refusal = Refusal::None;
  each_element(value, [&](std::string_view coding) {
    const std::string_view name = trim_blanks(coding.substr(0, coding.find(';')));
    if (name.empty() || !all_are(CharClass::Token, name) || message_.framing == Framing::Chunked) {
      refusal = Refusal::BadTransferEncoding;
    } else if (!equal_without_case(name, "chunked")) {
      refusal = Refusal::UnknownTransferCoding;
    } else if (name.size() != coding.size()) {
      refusal = Refusal::BadTransferEncoding;  // chunked takes no parameters: RFC 9112 section 7.1
    }
    message_.framing = Framing::Chunked;
    return refusal == Refusal::None;
  });
  return refusal;
}

void HeadWalk::note_connection(std::string_view value) {
  each_element(value, [this](std::string_view option) {
    if (equal_without_case(option, "close")) close_seen_ = true;
    if (equal_without_case(option, "keep-alive")) keep_alive_seen_ = true;
    return true;
  });
}

}  // namespace kiln::http
