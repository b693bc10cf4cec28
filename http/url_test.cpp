#include "http/url.h"

#include <gtest/gtest.h>

#include <vector>

#include "http/parser.h"
#include "http/request_writer.h"

namespace kiln::http {
namespace {

using std::string_literals::operator""s;

TEST(Url, SplitsWhatAClientNeeds) {
  struct Row {
    std::string text, host;
    uint16_t port;
    std::string authority, target;
  };
  const std::vector<Row> rows = {
      {"http://localhost", "localhost", 80, "localhost", "/"},
      {"http://localhost:8080/load?ms=5", "localhost", 8080, "localhost:8080", "/load?ms=5"},
      {"HTTP://Kiln.Example/A", "Kiln.Example", 80, "Kiln.Example", "/A"},
      {"http://a_b-c.d/", "a_b-c.d", 80, "a_b-c.d", "/"},
      {"http://127.0.0.1:1", "127.0.0.1", 1, "127.0.0.1:1", "/"},
      {"http://a:65535", "a", 65535, "a:65535", "/"},
      {"http://a:80/", "a", 80, "a:80", "/"},
      {"http://a:/x", "a", 80, "a", "/x"},
      {"http://[::1]", "::1", 80, "[::1]", "/"},
      {"http://[fe80::1]:8080/x", "fe80::1", 8080, "[fe80::1]:8080", "/x"},
      {"http://a?q", "a", 80, "a", "/?q"},
      {"http://a?q/r?s", "a", 80, "a", "/?q/r?s"},
      {"http://a#part", "a", 80, "a", "/"},
      {"http://a/x#part?no", "a", 80, "a", "/x"},
      {"http://a/x?y#part#\"<", "a", 80, "a", "/x?y"},
      {"http://a/@x:y/%2F;v=1,2", "a", 80, "a", "/@x:y/%2F;v=1,2"},
      {"http://a/?next=http://b/&c[]={d}", "a", 80, "a", "/?next=http://b/&c[]={d}"}};
  for (const Row& row : rows) {
    SCOPED_TRACE(row.text);
    const UrlResult result = parse_url(row.text);
    EXPECT_EQ(result.fault, UrlFault::None) << url_fault_text(result.fault);
    EXPECT_EQ(result.url.host, row.host);
    EXPECT_EQ(result.url.port, row.port);
    EXPECT_EQ(result.url.authority, row.authority);
    EXPECT_EQ(result.url.target, row.target);
    std::string text;
    const RequestToWrite request{.target = result.url.target, .host = result.url.authority};
    EXPECT_EQ(write_request_head(request, text).fault, RequestFault::None);
    RequestHead head;
    EXPECT_EQ(parse_head(text, {}, head).outcome, ParseOutcome::Complete);
    EXPECT_EQ(head.target, row.target);
    EXPECT_EQ(head.host, row.authority);
  }
}

TEST(Url, SaysWhatIsWrongAndWhere) {
  struct Row {
    std::string text;
    UrlFault fault;
    size_t at;
  };
  using enum UrlFault;
  const std::vector<Row> rows = {
      {"", NoScheme, 0},
      {"localhost:8080/", NoScheme, 0},
      {"//localhost/", NoScheme, 0},
      {"/load", NoScheme, 0},
      {"http:/localhost/", NoScheme, 0},
      {"ftp://localhost/", NoScheme, 0},
      {"://localhost", NoScheme, 0},
      {"localhost/?u=http://b/", NoScheme, 0},
      {"https", NoScheme, 0},
      {"https://localhost/", Https, 0},
      {"HttpS://localhost/", Https, 0},
      {"http://u@localhost/", UserInformation, 7},
      {"http://u:p@localhost/", UserInformation, 7},
      {"http://", NoHost, 7},
      {"http:///x", NoHost, 7},
      {"http://?x", NoHost, 7},
      {"http://#x", NoHost, 7},
      {"http://:80/", NoHost, 7},
      {"http://a,b/", BadHost, 7},
      {"http://a%20b/", BadHost, 7},
      {"http://a!/", BadHost, 7},
      {"http://[::1/", BadHost, 7},
      {"http://[]/", BadHost, 7},
      {"http://[a]/", BadHost, 7},
      {"http://[::1]x/", BadHost, 7},
      {"http://[v1.a]/", BadHost, 7},
      {"http://[fe80::1%25eth0]/", BadHost, 7},
      {"http://a]/", BadHost, 7},
      {"http://::1/", BadHost, 7},
      {"http://fe80::1:8080/", BadHost, 7},
      {"http://a:0/", BadPort, 9},
      {"http://a:65536/", BadPort, 9},
      {"http://a:99999999999/", BadPort, 9},
      {"http://a:-1/", BadPort, 9},
      {"http://a:+1/", BadPort, 9},
      {"http://a:80x/", BadPort, 9},
      {"http://a:b/", BadPort, 9},
      {"http://[::1]:x/", BadPort, 13},
      {"http://a/ b", BadCharacter, 9},
      {" http://a/", BadCharacter, 0},
      {"http://a/\r\nX: y", BadCharacter, 9},
      {"http://a/x\ny", BadCharacter, 10},
      {"http://a/\0"s, BadCharacter, 9},
      {"http://a/\x7f", BadCharacter, 9},
      {"http://a/caf\xc3\xa9", BadCharacter, 12},
      {"http://a/#\t", BadCharacter, 10},
      {"http://a\tb/", BadCharacter, 8},
      {"http://a/x\"", BadCharacter, 10},
      {"http://a/<", BadCharacter, 9},
      {"http://a/a[1]", BadCharacter, 10},
      {"http://a/a|b", BadCharacter, 10},
      {"http://a/?x=<y>", BadCharacter, 12},
      {"http://a/%", BadEscape, 9},
      {"http://a/%2", BadEscape, 9},
      {"http://a/%zz", BadEscape, 9},
      {"http://a/?x=%20%g0", BadEscape, 15}};
  for (const Row& row : rows) {
    SCOPED_TRACE(row.text);
    const UrlResult result = parse_url(row.text);
    EXPECT_EQ(result.fault, row.fault) << url_fault_text(result.fault);
    EXPECT_EQ(result.at, row.at);
    EXPECT_EQ(result.url.host, "") << "nothing of a bad URL is of use";
    EXPECT_FALSE(url_fault_text(result.fault).ends_with('.'));
  }
}

TEST(Url, JudgesEveryByte) {
  for (int value = 0; value < 256; ++value) {
    const char byte = static_cast<char>(value);
    for (const std::string& text :
         {"http://a/x"s + byte + "20", "http://a/?x"s + byte + "20", "http://a"s + byte + "b/"}) {
      const UrlResult result = parse_url(text);
      if (value <= ' ' || value >= 0x7f) {
        EXPECT_EQ(result.fault, UrlFault::BadCharacter) << text;
      }
      if (result.fault != UrlFault::None) continue;
      std::string written;
      const RequestToWrite request{.target = result.url.target, .host = result.url.authority};
      EXPECT_EQ(write_request_head(request, written).fault, RequestFault::None) << text;
      RequestHead head;
      EXPECT_EQ(parse_head(written, {}, head).consumed, written.size()) << text;
    }
  }
}

}  // namespace
}  // namespace kiln::http
