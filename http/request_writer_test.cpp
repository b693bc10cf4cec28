#include "http/request_writer.h"

#include <gtest/gtest.h>

#include <vector>

#include "http/parser.h"

namespace kiln::http {
namespace {

using std::string_literals::operator""s;

std::string written(const RequestToWrite& request) {
  std::string output;
  EXPECT_EQ(write_request_head(request, output).fault, RequestFault::None);
  return output;
}

TEST(RequestWriter, WritesEveryPartInOrder) {
  const std::vector<Field> fields = {{"Accept", "*/*"}, {"X-Odd", "caf\xc3\xa9\t1"}, {"Empty", ""}};
  EXPECT_EQ(written({.host = "a"}), "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_EQ(written({.method = "POST", .target = "/data?x=%20", .host = "[::1]:80", .fields = fields,
                     .content_length = 5, .keep_alive = false}),
            "POST /data?x=%20 HTTP/1.1\r\nHost: [::1]:80\r\nAccept: */*\r\nX-Odd: caf\xc3\xa9\t1\r\nEmpty: \r\n"
            "Content-Length: 5\r\nConnection: close\r\n\r\n");
  EXPECT_EQ(written({.method = "OPTIONS", .target = "*", .host = "a"}), "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
}

TEST(RequestWriter, SaysALengthWhereOneIsExpected) {
  const auto says_length = [](std::string_view method, uint64_t length) {
    return written({.method = method, .host = "a", .content_length = length}).find("Content-Length") !=
           std::string::npos;
  };
  for (const char* const method : {"POST", "PUT", "PATCH"}) EXPECT_TRUE(says_length(method, 0)) << method;
  for (const char* const method : {"GET", "HEAD", "DELETE", "X"}) {
    EXPECT_FALSE(says_length(method, 0)) << method;
    EXPECT_TRUE(says_length(method, 1)) << method;
  }
}

TEST(RequestWriter, AppendsToWhatIsThere) {
  std::string output = "before";
  write_request_head({.host = "a"}, output);
  write_request_head({.target = "/2", .host = "a"}, output);
  EXPECT_EQ(output, "beforeGET / HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n");
}

TEST(RequestWriter, LetsNobodySplitARequest) {
  struct Row {
    const char* name;
    RequestToWrite request;
    RequestFault fault;
  };
  using enum RequestFault;
  const std::string nul_target = "/\0"s;
  const std::vector<Row> rows = {
      {"method with a blank", {.method = "GET /x", .host = "a"}, BadMethod},
      {"method with a line end", {.method = "GET\r\n", .host = "a"}, BadMethod},
      {"no method", {.method = "", .host = "a"}, BadMethod},
      {"CONNECT", {.method = "CONNECT", .target = "/", .host = "a"}, BadMethod},
      {"target with a line end", {.target = "/ HTTP/1.1\r\nX: y\r\n\r\nGET /", .host = "a"}, BadTarget},
      {"target with a bare LF", {.target = "/\nX: y", .host = "a"}, BadTarget},
      {"target with a blank", {.target = "/a b", .host = "a"}, BadTarget},
      {"target with NUL", {.target = nul_target, .host = "a"}, BadTarget},
      {"target that is a URL", {.target = "http://a/", .host = "a"}, BadTarget},
      {"target with half an escape", {.target = "/%2", .host = "a"}, BadTarget},
      {"target with a bracket in its path", {.target = "/[", .host = "a"}, BadTarget},
      {"asterisk of GET", {.target = "*", .host = "a"}, BadTarget},
      {"no target", {.target = "", .host = "a"}, BadTarget},
      {"no host", {.host = ""}, BadHost},
      {"host with a line end", {.host = "a\r\nX: y"}, BadHost},
      {"host with user information", {.host = "u@a"}, BadHost},
      {"two hosts", {.host = "a,b"}, BadHost},
      {"port alone", {.host = ":80"}, BadHost}};
  for (const Row& row : rows) {
    std::string output = "before";
    EXPECT_EQ(write_request_head(row.request, output).fault, row.fault) << row.name;
    EXPECT_EQ(output, "before") << row.name;
    EXPECT_FALSE(request_fault_text(row.fault).ends_with('.')) << row.name;
  }
}

TEST(RequestWriter, JudgesFieldsAndSaysWhichOneIsBad) {
  struct Row {
    Field field;
    RequestFault fault;
  };
  using enum RequestFault;
  const std::string nul = "a\0b"s;
  const std::vector<Row> rows = {{{"X", "a\r\nY: b"}, BadFieldValue},
                                 {{"X", "a\nY: b"}, BadFieldValue},
                                 {{"X", "a\rb"}, BadFieldValue},
                                 {{"X", nul}, BadFieldValue},
                                 {{"X", "\x7f"}, BadFieldValue},
                                 {{"", "a"}, BadFieldName},
                                 {{"X ", "a"}, BadFieldName},
                                 {{"X:", "a"}, BadFieldName},
                                 {{"X\r\nY", "a"}, BadFieldName},
                                 {{nul, "a"}, BadFieldName},
                                 {{"hOST", "a"}, FieldIsOurs},
                                 {{"Content-length", "5"}, FieldIsOurs},
                                 {{"Transfer-Encoding", "chunked"}, FieldIsOurs},
                                 {{"Connection", "close"}, FieldIsOurs}};
  for (const Row& row : rows) {
    const std::vector<Field> fields = {{"Accept", "*/*"}, row.field, {"Also", "bad\r\n"}};
    std::string output;
    const RequestWritten result = write_request_head({.host = "a", .fields = fields}, output);
    EXPECT_EQ(result.fault, row.fault) << row.field.name << ": " << row.field.value;
    EXPECT_EQ(result.field, 1u);
    EXPECT_TRUE(output.empty());
    EXPECT_FALSE(request_fault_text(row.fault).ends_with('.'));
  }
}

TEST(RequestWriter, WritesWhatWeRead) {
  for (int value = 0; value < 256; ++value) {
    const std::string odd = "x"s + static_cast<char>(value) + "y";
    const std::vector<Field> fields = {{"Odd", odd}};
    const std::vector<Field> names = {{odd, "v"}};
    const std::string target = "/?" + odd;
    for (const RequestToWrite& request :
         {RequestToWrite{.host = "a", .fields = fields}, RequestToWrite{.host = "a", .fields = names},
          RequestToWrite{.target = target, .host = "a"}, RequestToWrite{.host = odd},
          RequestToWrite{.method = odd, .host = "a"}}) {
      std::string text;
      if (write_request_head(request, text).fault != RequestFault::None) continue;
      RequestHead head;
      const ParseResult result = parse_head(text, {}, head);
      EXPECT_EQ(result.consumed, text.size()) << text;
      EXPECT_EQ(head.fields().size(), 1 + request.fields.size()) << text;
      EXPECT_EQ(head.target, request.target);
      EXPECT_EQ(head.host, request.host);
    }
  }
}

}  // namespace
}  // namespace kiln::http
