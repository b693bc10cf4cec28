#include "http/response.h"

#include <algorithm>
#include <charconv>
#include <cstddef>

#include "base/check.h"
#include "http/status.h"

namespace kiln::http {
namespace {

// Longer than all the text of ours around the caller's: status line, field names, chunk lines, integers.
constexpr size_t kOwnBytesMax = 320;

// Writes into room that was made beforehand.
class Writer {
 public:
  explicit Writer(char* at) : at_(at) {}

  void text(std::string_view text) { at_ = std::copy(text.begin(), text.end(), at_); }

  void number(size_t value, int base = 10) {
    constexpr size_t kDigitsMax = 20;
    at_ = std::to_chars(at_, at_ + kDigitsMax, value, base).ptr;
  }

  [[nodiscard]] char* at() const { return at_; }

 private:
  char* at_;
};

// RFC 9110 sections 15.2, 15.3.5, 15.3.6 and 15.4.5: these never have content.
bool has_content(int status) { return status >= 200 && status != 204 && status != 205 && status != 304; }

bool is_json(std::string_view content_type) {
  return content_type.starts_with("application/json") || content_type.starts_with(kProblemType);
}

void write_head(const Response& response, const ResponseFraming& framing, std::string_view common_fields, Writer& out) {
  const bool content = has_content(response.status);
  out.text("HTTP/1.1 ");
  out.number(static_cast<size_t>(response.status));
  out.text(" ");
  out.text(reason_phrase(response.status));
  out.text("\r\n");
  out.text(common_fields);
  if (!framing.request_id.empty()) {
    out.text("X-Request-Id: ");
    out.text(framing.request_id);
    out.text("\r\n");
  }
  if (content && !response.content_type.empty()) {
    out.text("Content-Type: ");
    out.text(response.content_type);
    out.text("\r\n");
    if (is_json(response.content_type)) out.text("Cache-Control: no-store\r\n");
  }
  out.text(response.fields);

  const bool chunked = content && response.chunked;
  const bool until_close = chunked && framing.minor_version == 0;
  if (chunked && !until_close) {
    out.text("Transfer-Encoding: chunked\r\n");
  } else if (response.status == 205) {
    out.text("Content-Length: 0\r\n");
  } else if (content && !chunked) {
    out.text("Content-Length: ");
    out.number(response.body.size());
    out.text("\r\n");
  }
  if (response.close || !framing.keep_alive || until_close) {
    out.text("Connection: close\r\n");
  } else if (framing.minor_version == 0) {
    out.text("Connection: keep-alive\r\n");
  }
  out.text("\r\n");
}

void write_content(const Response& response, const ResponseFraming& framing, Writer& out) {
  if (framing.head || !has_content(response.status)) return;
  const bool in_chunks = response.chunked && framing.minor_version != 0;
  if (!in_chunks) return out.text(response.body);
  if (!response.body.empty()) {
    out.number(response.body.size(), 16);
    out.text("\r\n");
    out.text(response.body);
    out.text("\r\n");
  }
  out.text("0\r\n\r\n");
}

// The length of the UTF-8 sequence that `text` begins with, 0 when it is none (RFC 3629 section 4).
size_t utf8_sequence(std::string_view text) {
  const auto byte = [text](size_t at) { return static_cast<unsigned char>(text[at]); };
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  const size_t bytes = first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
  if (bytes == 0 || text.size() < bytes) return 0;
  for (size_t at = 1; at < bytes; ++at) {
    if ((byte(at) & 0xc0) != 0x80) return 0;
  }
  const unsigned second = byte(1);
  const bool overlong = (first == 0xe0 && second < 0xa0) || (first == 0xf0 && second < 0x90);
  const bool surrogate = first == 0xed && second >= 0xa0;
  const bool beyond = first == 0xf4 && second >= 0x90;
  return overlong || surrogate || beyond ? 0 : bytes;
}

void append_control(unsigned char control, std::string& escaped) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  switch (control) {
    case '\n': escaped += "\\n"; return;
    case '\r': escaped += "\\r"; return;
    case '\t': escaped += "\\t"; return;
    default:
      escaped += "\\u00";
      escaped += kDigits[control >> 4];
      escaped += kDigits[control & 15];
  }
}

}  // namespace

void write_response(const Response& response, const ResponseFraming& framing, std::string_view common_fields,
                    std::string& output) {
  CHECK(response.status >= 100);
  CHECK(response.status <= 999);
  const size_t begin = output.size();
  const size_t bytes_max = kOwnBytesMax + common_fields.size() + framing.request_id.size() +
                           response.content_type.size() + response.fields.size() + response.body.size();
  if (output.capacity() - begin < bytes_max) output.reserve(begin + bytes_max);
  // The room is part of the string only while it is written, and is not zeroed first.
  output.resize_and_overwrite(begin + bytes_max, [&](char* text, size_t) {
    Writer out(text + begin);
    write_head(response, framing, common_fields, out);
    write_content(response, framing, out);
    return static_cast<size_t>(out.at() - text);
  });
  CHECK(output.size() - begin <= bytes_max);
}

std::string problem_json(int status, std::string_view title, std::string_view detail) {
  std::string json = R"({"type":"about:blank","title":")";
  json += json_escape(title);
  json += R"(","status":)";
  json += std::to_string(status);
  json += R"(,"detail":")";
  json += json_escape(detail);
  json += R"("})";
  return json;
}

std::string json_escape(std::string_view text) {
  constexpr std::string_view kReplacement = "\xef\xbf\xbd";  // U+FFFD
  std::string escaped;
  escaped.reserve(text.size());
  while (!text.empty()) {
    const size_t bytes = utf8_sequence(text);
    const char first = text.front();
    if (bytes == 0) {
      escaped += kReplacement;
    } else if (first == '"' || first == '\\') {
      escaped += '\\';
      escaped += first;
    } else if (bytes == 1 && static_cast<unsigned char>(first) < ' ') {
      append_control(static_cast<unsigned char>(first), escaped);
    } else {
      escaped += text.substr(0, bytes);
    }
    text.remove_prefix(bytes == 0 ? 1 : bytes);
  }
  return escaped;
}

}  // namespace kiln::http
