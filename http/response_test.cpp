#include "http/response.h"

#include <gtest/gtest.h>

#include <vector>

#include "http/status.h"

namespace kiln::http {
namespace {

using std::string_literals::operator""s;

constexpr std::string_view kCommon = "Server: kiln\r\n";

std::string written(const Response& response, const ResponseFraming& framing = {}) {
  std::string output;
  write_response(response, framing, kCommon, output);
  return output;
}

TEST(Response, WritesEveryPartInOrder) {
  EXPECT_EQ(written({.status = 201, .content_type = "text/plain", .body = "hello", .fields = "Location: /x\r\n"},
                    {.request_id = "abc"}),
            "HTTP/1.1 201 Created\r\nServer: kiln\r\nX-Request-Id: abc\r\nContent-Type: text/plain\r\n"
            "Location: /x\r\nContent-Length: 5\r\n\r\nhello");
}

TEST(Response, AppendsToWhatIsThere) {
  std::string output = "before";
  write_response({.body = "1"}, {}, kCommon, output);
  write_response({.body = "2"}, {}, kCommon, output);
  const std::string_view head = "HTTP/1.1 200 OK\r\nServer: kiln\r\nContent-Length: 1\r\n\r\n";
  EXPECT_EQ(output, "before" + std::string(head) + "1" + std::string(head) + "2");
}

TEST(Response, KeepsJsonOutOfCaches) {
  const auto is_stored = [](std::string_view type) {
    return written({.content_type = type}).find("Cache-Control: no-store\r\n") == std::string::npos;
  };
  EXPECT_FALSE(is_stored("application/json"));
  EXPECT_FALSE(is_stored("application/json; charset=utf-8"));
  EXPECT_FALSE(is_stored("application/problem+json"));
  EXPECT_TRUE(is_stored("text/html"));
}

TEST(Response, SaysWhetherTheConnectionPersists) {
  struct Row {
    uint8_t minor_version;
    bool keep_alive, close;
    const char* line;
  };
  for (const Row& row : {Row{1, true, false, ""}, Row{1, false, false, "Connection: close\r\n"},
                         Row{1, true, true, "Connection: close\r\n"}, Row{0, true, false, "Connection: keep-alive\r\n"},
                         Row{0, false, false, "Connection: close\r\n"}, Row{0, true, true, "Connection: close\r\n"}}) {
    EXPECT_EQ(written({.close = row.close}, {.minor_version = row.minor_version, .keep_alive = row.keep_alive}),
              "HTTP/1.1 200 OK\r\nServer: kiln\r\nContent-Length: 0\r\n"s + row.line + "\r\n");
  }
}

TEST(Response, WritesChunks) {
  const std::string head = "HTTP/1.1 200 OK\r\nServer: kiln\r\nTransfer-Encoding: chunked\r\n\r\n";
  EXPECT_EQ(written({.body = "0123456789abcdef!", .chunked = true}), head + "11\r\n0123456789abcdef!\r\n0\r\n\r\n");
  EXPECT_EQ(written({.chunked = true}), head + "0\r\n\r\n");
  EXPECT_EQ(written({.body = "x", .chunked = true}, {.head = true}), head);
}

TEST(Response, EndsAnUnknownLengthByClosingOnOldVersions) {
  EXPECT_EQ(written({.body = "hello", .chunked = true}, {.minor_version = 0}),
            "HTTP/1.1 200 OK\r\nServer: kiln\r\nConnection: close\r\n\r\nhello");
}

TEST(Response, GivesHeadTheLengthWithoutTheBody) {
  EXPECT_EQ(written({.content_type = "text/plain", .body = "hello"}, {.head = true}),
            "HTTP/1.1 200 OK\r\nServer: kiln\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\n");
}

TEST(Response, HasNoContentWhereNoneIsAllowed) {
  for (const int status : {100, 103, 204, 304}) {
    const std::string text = written({.status = status, .content_type = "text/plain", .body = "x", .chunked = true});
    EXPECT_TRUE(text.ends_with("kiln\r\n\r\n")) << text;
  }
  EXPECT_TRUE(written({.status = 205, .body = "x"}).ends_with("kiln\r\nContent-Length: 0\r\n\r\n"));
}

TEST(Response, HasRoomForAnyBody) {
  for (const size_t bytes : {size_t{0}, size_t{1}, size_t{4096}, size_t{1} << 20}) {
    const std::string body(bytes, 'x');
    for (const bool chunked : {false, true}) {
      const std::string text =
          written({.status = 431, .content_type = "application/json", .body = body, .chunked = chunked},
                  {.request_id = "0123456789abcdef"});
      EXPECT_NE(text.find(body), std::string::npos);
    }
  }
}

TEST(Problem, IsJson) {
  EXPECT_EQ(problem_json(404, "Not \"found\"", "No \\ here.\n"),
            R"({"type":"about:blank","title":"Not \"found\"","status":404,"detail":"No \\ here.\n"})");
}

TEST(Json, EscapesWhatAStringMayNotHold) {
  const std::vector<std::pair<std::string, std::string>> rows = {
      {"", ""},
      {"plain / text", "plain / text"},
      {"\"\\", "\\\"\\\\"},
      {"\n\r\t\b\0\x1f\x7f"s, "\\n\\r\\t\\u0008\\u0000\\u001f\x7f"},
      {"caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x94\xa5", "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x94\xa5"},
      {"\x80", "\xef\xbf\xbd"},
      {"\xc3", "\xef\xbf\xbd"},
      {"\xc3(", "\xef\xbf\xbd("},
      {"\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd"},
      {"\xe0\x80\xaf", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
      {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
      {"\xf4\x90\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
      {"\xff", "\xef\xbf\xbd"}};
  for (const auto& [text, escaped] : rows) EXPECT_EQ(json_escape(text), escaped);
}

TEST(Status, HasAPhraseAndARowForEveryRefusal) {
  for (int value = 1; value <= static_cast<int>(Refusal::BodyTimeout); ++value) {
    const RefusalInfo& info = refusal_info(static_cast<Refusal>(value));
    EXPECT_GE(info.status, 400) << value;
    EXPECT_NE(reason_phrase(info.status), "Unknown") << info.status;
    EXPECT_FALSE(info.title.empty()) << value;
    EXPECT_TRUE(info.detail.ends_with('.')) << value;
  }
  EXPECT_EQ(reason_phrase(299), "Unknown");
}

TEST(Status, IsWhatTheRfcsAskFor) {
  EXPECT_EQ(refusal_info(Refusal::UnsupportedVersion).status, 505);
  EXPECT_EQ(refusal_info(Refusal::UnknownTransferCoding).status, 501);
  EXPECT_EQ(refusal_info(Refusal::UnknownExpectation).status, 417);
  EXPECT_EQ(refusal_info(Refusal::RequestLineTooLong).status, 414);
  EXPECT_EQ(refusal_info(Refusal::HeadTooLarge).status, 431);
  EXPECT_EQ(refusal_info(Refusal::BodyTooLarge).status, 413);
  EXPECT_EQ(refusal_info(Refusal::HeadTimeout).status, 408);
  EXPECT_EQ(refusal_info(Refusal::LengthAndChunked).status, 400);
}

}  // namespace
}  // namespace kiln::http
