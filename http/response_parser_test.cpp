#include "http/response_parser.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "http/every_prefix_test.h"
#include "http/response.h"

namespace kiln::http {
namespace {

using std::string_literals::operator""s;

struct Parsed {
  ResponseParseResult result;
  ResponseHead head;
};

Parsed parse(std::string_view text, Method method = Method::Get, const Limits& limits = {}) {
  Parsed parsed;
  parsed.result = parse_response_head(text, method, limits, parsed.head);
  return parsed;
}

ResponseParseResult parse_every_prefix(std::string_view text, Method method = Method::Get, const Limits& limits = {}) {
  ResponseHead head;
  return http::parse_every_prefix(
      text, [&](std::string_view part) { return parse_response_head(part, method, limits, head); },
      &ResponseParseResult::fault);
}

struct Row {
  const char* name;
  std::string text;
  ResponseFault fault = ResponseFault::None;  // None: complete
};

void check(const std::vector<Row>& rows) {
  for (const Row& row : rows) {
    SCOPED_TRACE(row.name);
    const ResponseParseResult result = parse_every_prefix(row.text);
    EXPECT_EQ(result.fault, row.fault) << response_fault_text(result.fault);
    EXPECT_EQ(result.outcome, row.fault == ResponseFault::None ? ParseOutcome::Complete : ParseOutcome::Invalid);
  }
}

// A response with these lines, each without its CR LF.
std::string with_fields(const std::vector<std::string_view>& lines, std::string_view start = "HTTP/1.1 200 OK") {
  std::string text = std::string(start) + "\r\n";
  for (const std::string_view line : lines) text.append(line).append("\r\n");
  return text + "\r\n";
}

TEST(ResponseParser, ReadsAWholeHead) {
  const std::string text =
      "HTTP/1.1 201 Created, \xe2\x9c\x93\tindeed\r\nServer: kiln\r\nX-Pod-Name:\t kiln-abc \t\r\nEmpty:\r\n"
      "Content-Length: 12\r\n\r\nleft over";
  const Parsed parsed = parse(text);
  ASSERT_EQ(parsed.result.outcome, ParseOutcome::Complete);
  EXPECT_EQ(text.substr(parsed.result.consumed), "left over");
  EXPECT_EQ(parsed.head.status, 201);
  EXPECT_EQ(parsed.head.reason, "Created, \xe2\x9c\x93\tindeed");
  EXPECT_EQ(parsed.head.minor_version, 1);
  EXPECT_EQ(parsed.head.framing, Framing::Length);
  EXPECT_EQ(parsed.head.content_length, 12u);
  EXPECT_TRUE(parsed.head.keep_alive);
  EXPECT_TRUE(parsed.head.persists());
  EXPECT_FALSE(parsed.head.is_interim());
  ASSERT_EQ(parsed.head.fields().size(), 4u);
  EXPECT_EQ(parsed.head.find("x-pod-name"), "kiln-abc");
  EXPECT_EQ(parsed.head.find("EMPTY"), "");
  EXPECT_EQ(parsed.head.find("absent"), std::nullopt);
  parse_every_prefix(text);
}

TEST(ResponseParser, ForgetsTheResponseBefore) {
  ResponseHead head;
  const std::string before = with_fields({"Content-Length: 5", "Connection: close"}, "HTTP/1.0 404 Not Found");
  ASSERT_EQ(parse_response_head(before, Method::Get, {}, head).outcome, ParseOutcome::Complete);
  ASSERT_EQ(parse_response_head("HTTP/1.1 204\r\n\r\n", Method::Get, {}, head).outcome, ParseOutcome::Complete);
  EXPECT_EQ(head.status, 204);
  EXPECT_EQ(head.reason, "");
  EXPECT_EQ(head.minor_version, 1);
  EXPECT_EQ(head.framing, Framing::None);
  EXPECT_EQ(head.content_length, 0u);
  EXPECT_TRUE(head.keep_alive);
  EXPECT_EQ(head.fields().size(), 0u);
}

TEST(ResponseParser, TakesStatusLinesStrictly) {
  const auto line = [](const std::string& text) { return text + "\r\nContent-Length: 0\r\n\r\n"; };
  using enum ResponseFault;
  check({{"usual", line("HTTP/1.1 200 OK")},
         {"empty reason", line("HTTP/1.1 200 ")},
         {"neither reason nor blank", line("HTTP/1.1 200")},
         {"blank reason", line("HTTP/1.1 200  \t ")},
         {"reason of obs-text", line("HTTP/1.1 404 \xff\x80")},
         {"reason with digits", line("HTTP/1.1 200 200")},
         {"1.0", line("HTTP/1.0 200 OK")},
         {"1.9", line("HTTP/1.9 200 OK")},
         {"lowest", line("HTTP/1.1 100 Continue")},
         {"beyond 599", line("HTTP/1.1 999 Odd")},
         {"2.0", line("HTTP/2.0 200 OK"), UnsupportedVersion},
         {"0.9", line("HTTP/0.9 200 OK"), UnsupportedVersion},
         {"HTTP/2 as some print it", line("HTTP/2 200 OK"), NotHttp},
         {"lower case", line("http/1.1 200 OK"), NotHttp},
         {"no minor digit", line("HTTP/1. 200 OK"), NotHttp},
         {"leading zero", line("HTTP/01.1 200 OK"), NotHttp},
         {"long minor", line("HTTP/1.10 200 OK"), BadStatusLine},
         {"tab before the status", line("HTTP/1.1\t200 OK"), BadStatusLine},
         {"two blanks before the status", line("HTTP/1.1  200 OK"), BadStatusLine},
         {"no status", line("HTTP/1.1"), BadStatusLine},
         {"blank instead of a status", line("HTTP/1.1 "), BadStatusLine},
         {"two digits", line("HTTP/1.1 20 OK"), BadStatusLine},
         {"four digits", line("HTTP/1.1 2000 OK"), BadStatusLine},
         {"below 100", line("HTTP/1.1 099 Odd"), BadStatusLine},
         {"sign", line("HTTP/1.1 +20 OK"), BadStatusLine},
         {"letters", line("HTTP/1.1 2x0 OK"), BadStatusLine},
         {"tab behind the status", line("HTTP/1.1 200\tOK"), BadStatusLine},
         {"NUL in the reason", line("HTTP/1.1 200 O\0K"s), BadStatusLine},
         {"DEL in the reason", line("HTTP/1.1 200 O\x7fK"), BadStatusLine},
         {"bare LF", "HTTP/1.1 200 OK\nContent-Length: 0\n\n", BadLineEnd},
         {"bare LF without a reason", "HTTP/1.1 200\n\n", BadLineEnd},
         {"bare CR", "HTTP/1.1 200 OK\rContent-Length: 0\r\r", BadLineEnd},
         {"empty line first", "\r\nHTTP/1.1 200 OK\r\n\r\n", NotHttp},
         {"TLS alert", "\x15\x03\x01\x00\x02\x02\x46"s, NotHttp},
         {"SSH", "SSH-2.0-OpenSSH_9.2\r\n", NotHttp},
         {"HTTP/0.9 page", "<html>", NotHttp},
         {"a request", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", NotHttp}});
  EXPECT_EQ(parse(line("HTTP/1.0 200 OK")).head.minor_version, 0);
  EXPECT_EQ(parse(line("HTTP/1.2 200 OK")).head.minor_version, 1);
  EXPECT_EQ(parse("S").result.fault, ResponseFault::NotHttp);
}

TEST(ResponseParser, RefusesBrokenFieldLines) {
  const auto field = [](std::string line) { return with_fields({"Content-Length: 0", line}); };
  using enum ResponseFault;
  check({{"space before the colon", field("Name : v"), BadField},
         {"no colon", field("Name"), BadField},
         {"no name", field(": v"), BadField},
         {"NUL in the value", field("Name: a\0b"s), BadField},
         {"control in the value", field("Name: a\x01"), BadField},
         {"folded", field("Name: v\r\n w"), BadField},
         {"blank before the first field", "HTTP/1.1 200 OK\r\n Name: v\r\n\r\n", BadField},
         {"bare CR in the value", field("Name: a\rb"), BadLineEnd},
         {"bare LF in the value", field("Name: a\nb: c"), BadLineEnd},
         {"bare LF as the blank line", "HTTP/1.1 200 OK\r\nName: v\r\n\n", BadLineEnd},
         {"obs-text in the value", field("Name: caf\xc3\xa9 \xff")},
         {"empty value", field("Name:")}});
}

TEST(ResponseParser, FramesBodiesBySection63) {
  struct Case {
    const char* name;
    Method method;
    std::string start;
    std::vector<std::string_view> lines;
    Framing framing;
  };
  const std::string_view length = "Content-Length: 5";
  const std::string_view chunked = "Transfer-Encoding: chunked";
  const std::vector<Case> rows = {
      {"length", Method::Get, "HTTP/1.1 200 OK", {length}, Framing::Length},
      {"chunked", Method::Get, "HTTP/1.1 200 OK", {chunked}, Framing::Chunked},
      {"neither", Method::Get, "HTTP/1.1 200 OK", {}, Framing::UntilClose},
      {"neither, of an error", Method::Post, "HTTP/1.0 500 No", {"Connection: keep-alive"}, Framing::UntilClose},
      {"205 as its fields say", Method::Get, "HTTP/1.1 205 Reset", {length}, Framing::Length},
      {"HEAD with a length", Method::Head, "HTTP/1.1 200 OK", {length}, Framing::None},
      {"HEAD chunked", Method::Head, "HTTP/1.1 200 OK", {chunked}, Framing::None},
      {"HEAD with neither", Method::Head, "HTTP/1.1 404 No", {}, Framing::None},
      {"HEAD with both", Method::Head, "HTTP/1.1 200 OK", {length, chunked}, Framing::None},
      {"HEAD with an odd coding", Method::Head, "HTTP/1.1 200 OK", {"Transfer-Encoding: gzip"}, Framing::None},
      {"100", Method::Get, "HTTP/1.1 100 Continue", {length}, Framing::None},
      {"199", Method::Get, "HTTP/1.1 199 Odd", {chunked}, Framing::None},
      {"204", Method::Get, "HTTP/1.1 204 No Content", {length}, Framing::None},
      {"204 of 1.0", Method::Get, "HTTP/1.0 204 No Content", {chunked}, Framing::None},
      {"304", Method::Get, "HTTP/1.1 304 Not Modified", {length, "Content-Length: 6"}, Framing::None}};
  for (const Case& row : rows) {
    SCOPED_TRACE(row.name);
    const std::string text = with_fields(row.lines, row.start);
    EXPECT_EQ(parse_every_prefix(text, row.method).outcome, ParseOutcome::Complete);
    const ResponseHead head = parse(text, row.method).head;
    EXPECT_EQ(head.framing, row.framing);
    EXPECT_EQ(head.content_length, row.framing == Framing::Length ? 5u : 0u);
    EXPECT_EQ(head.persists(), head.keep_alive && row.framing != Framing::UntilClose);
  }
}

TEST(ResponseParser, RefusesAmbiguousFraming) {
  const auto fields = [](std::string_view first, std::string_view second = {}) {
    return second.empty() ? with_fields({first}) : with_fields({first, second});
  };
  using enum ResponseFault;
  check({{"largest", fields("Content-Length: 18446744073709551615")},
         {"overflow", fields("Content-Length: 18446744073709551616"), BadContentLength},
         {"empty", fields("Content-Length:"), BadContentLength},
         {"minus", fields("Content-Length: -5"), BadContentLength},
         {"hex", fields("Content-Length: 0x5"), BadContentLength},
         {"list", fields("Content-Length: 5, 5"), BadContentLength},
         {"equals", fields("Content-Length: 5", "Content-Length: 5"), BadContentLength},
         {"differing", fields("Content-Length: 5", "Content-Length: 6"), BadContentLength},
         {"length then chunked", fields("Content-Length: 5", "Transfer-Encoding: chunked"), LengthAndChunked},
         {"chunked then length", fields("Transfer-Encoding: chunked", "Content-Length: 5"), LengthAndChunked},
         {"no coding", fields("Transfer-Encoding:"), BadTransferEncoding},
         {"repeated", fields("Transfer-Encoding: chunked, chunked"), BadTransferEncoding},
         {"two fields", fields("Transfer-Encoding: chunked", "transfer-encoding: chunked"), BadTransferEncoding},
         {"chunked not last", fields("Transfer-Encoding: chunked, gzip"), BadTransferEncoding},
         {"gzip", fields("Transfer-Encoding: gzip, chunked"), UnknownTransferCoding},
         {"identity", fields("Transfer-Encoding: identity"), UnknownTransferCoding},
         {"on 1.0", with_fields({"Transfer-Encoding: chunked"}, "HTTP/1.0 200 OK"), BadTransferEncoding}});
}

TEST(ResponseParser, ReadsConnectionOptions) {
  struct Option {
    const char* start;
    std::vector<std::string_view> lines;
    bool keep_alive;
  };
  const std::vector<Option> rows = {{"HTTP/1.1 204", {}, true},
                                    {"HTTP/1.0 204", {}, false},
                                    {"HTTP/1.0 204", {"Connection: Keep-Alive"}, true},
                                    {"HTTP/1.1 204", {"Connection: close"}, false},
                                    {"HTTP/1.1 204", {"Connection: x, ,CLOSE"}, false},
                                    {"HTTP/1.1 204", {"Connection: closed"}, true},
                                    {"HTTP/1.0 204", {"Connection: close", "Connection: keep-alive"}, false}};
  for (const Option& row : rows) {
    const std::string text = with_fields(row.lines, row.start);
    EXPECT_EQ(parse(text).result.outcome, ParseOutcome::Complete) << text;
    EXPECT_EQ(parse(text).head.keep_alive, row.keep_alive) << text;
  }
}

TEST(ResponseParser, LimitsTheHead) {
  const std::string head = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nName: value\r\n\r\n";
  for (const size_t bytes_max : {head.size() - 1, head.size(), head.size() + 1}) {
    SCOPED_TRACE(bytes_max);
    const Limits limits{.request_line_bytes_max = 1, .head_bytes_max = bytes_max};
    const ResponseFault fault = bytes_max >= head.size() ? ResponseFault::None : ResponseFault::HeadTooLarge;
    EXPECT_EQ(parse_every_prefix(head, Method::Get, limits).fault, fault);
    EXPECT_EQ(parse_every_prefix(head + "body", Method::Get, limits).fault, fault);
  }
  for (size_t bytes_max = 0; bytes_max < head.size(); ++bytes_max) {
    EXPECT_EQ(parse_every_prefix(head, Method::Get, {.head_bytes_max = bytes_max}).fault, ResponseFault::HeadTooLarge);
  }
  for (const size_t count : {2u, 3u, 4u}) {
    std::string text = "HTTP/1.1 200 OK\r\n";
    for (size_t field = 0; field < count; ++field) text += "n: v\r\n";
    EXPECT_EQ(parse_every_prefix(text + "\r\n", Method::Get, {.fields_max = 3}).fault,
              count <= 3 ? ResponseFault::None : ResponseFault::HeadTooLarge);
  }
}

TEST(ResponseParser, JudgesEveryByteOfAReason) {
  for (int value = 0; value < 256; ++value) {
    const std::string text = "HTTP/1.1 200 12345678"s + static_cast<char>(value) + "x\r\n\r\n";
    const bool good = value == '\t' || (value >= ' ' && value != 0x7f);
    EXPECT_EQ(parse(text).result.outcome, good ? ParseOutcome::Complete : ParseOutcome::Invalid) << value;
  }
}

TEST(ResponseParser, ReadsEveryStatusThatWeWrite) {
  for (int status = 100; status <= 999; ++status) {
    std::string text;
    write_response({.status = status, .content_type = "text/plain", .body = "hello"}, {}, "Server: kiln\r\n", text);
    const Parsed parsed = parse(text);
    ASSERT_EQ(parsed.result.outcome, ParseOutcome::Complete) << text;
    EXPECT_EQ(parsed.head.status, status);
    const std::string_view body = std::string_view(text).substr(parsed.result.consumed);
    EXPECT_EQ(body.size(), parsed.head.content_length) << text;
    EXPECT_NE(parsed.head.framing, Framing::UntilClose) << text;
  }
}

TEST(ResponseFault, HasASentenceForEach) {
  for (int value = 0; value <= static_cast<int>(ResponseFault::TruncatedBody); ++value) {
    const std::string_view text = response_fault_text(static_cast<ResponseFault>(value));
    EXPECT_GT(text.size(), 20u) << value;
    EXPECT_FALSE(text.ends_with('.')) << value;
  }
}

}  // namespace
}  // namespace kiln::http
