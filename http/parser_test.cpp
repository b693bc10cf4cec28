#include "http/parser.h"

#include <gtest/gtest.h>

#include <cctype>
#include <string>
#include <vector>

#include "http/every_prefix_test.h"

namespace kiln::http {
namespace {

using std::string_literals::operator""s;

struct Parsed {
  ParseResult result;
  RequestHead head;
};

Parsed parse(std::string_view text, const Limits& limits = {}) {
  Parsed parsed;
  parsed.result = parse_head(text, limits, parsed.head);
  return parsed;
}

ParseResult parse_every_prefix(std::string_view text, const Limits& limits = {}) {
  RequestHead head;
  return http::parse_every_prefix(
      text, [&](std::string_view part) { return parse_head(part, limits, head); }, &ParseResult::refusal);
}

struct Row {
  const char* name;
  std::string text;
  Refusal refusal = Refusal::None;  // None: complete
};

void check(const std::vector<Row>& rows) {
  for (const Row& row : rows) {
    SCOPED_TRACE(row.name);
    const ParseResult result = parse_every_prefix(row.text);
    EXPECT_EQ(result.refusal, row.refusal);
    EXPECT_EQ(result.outcome, row.refusal == Refusal::None ? ParseOutcome::Complete : ParseOutcome::Invalid);
  }
}

// A request with these lines, each without its CR LF.
std::string with_fields(const std::vector<std::string_view>& lines, std::string_view version = "HTTP/1.1") {
  std::string text = "POST / " + std::string(version) + "\r\n";
  for (const std::string_view line : lines) text.append(line).append("\r\n");
  return text + "\r\n";
}

std::string with_target(std::string_view method, std::string_view target) {
  return std::string(method) + " " + std::string(target) + " HTTP/1.1\r\nHost: a\r\n\r\n";
}

TEST(Parser, ReadsAWholeRequest) {
  const std::string text =
      "POST /load?ms=5&x=?y HTTP/1.1\r\nHost: kiln:8080\r\nAccept:\t text/html \t\r\nEmpty:\r\n"
      "Content-Length: 12\r\nExpect: 100-Continue\r\n\r\nleft over";
  const Parsed parsed = parse(text);
  ASSERT_EQ(parsed.result.outcome, ParseOutcome::Complete);
  EXPECT_EQ(text.substr(parsed.result.consumed), "left over");
  EXPECT_EQ(parsed.head.method, Method::Post);
  EXPECT_EQ(parsed.head.method_text, "POST");
  EXPECT_EQ(parsed.head.target, "/load?ms=5&x=?y");
  EXPECT_EQ(parsed.head.form, TargetForm::Origin);
  EXPECT_EQ(parsed.head.path, "/load");
  EXPECT_EQ(parsed.head.query, "ms=5&x=?y");
  EXPECT_EQ(parsed.head.host, "kiln:8080");
  EXPECT_EQ(parsed.head.minor_version, 1);
  EXPECT_EQ(parsed.head.framing, Framing::Length);
  EXPECT_EQ(parsed.head.content_length, 12u);
  EXPECT_TRUE(parsed.head.expects_continue);
  EXPECT_TRUE(parsed.head.keep_alive);
  ASSERT_EQ(parsed.head.fields().size(), 5u);
  EXPECT_EQ(parsed.head.fields()[1].name, "Accept");
  EXPECT_EQ(parsed.head.find("ACCEPT"), "text/html");
  EXPECT_EQ(parsed.head.find("empty"), "");
  EXPECT_EQ(parsed.head.find("absent"), std::nullopt);
  parse_every_prefix(text);
}

TEST(Parser, ForgetsTheRequestBefore) {
  RequestHead head;
  const auto before = with_fields({"Host: a", "Content-Length: 5", "Connection: close", "Expect: 100-continue"});
  ASSERT_EQ(parse_head(before, {}, head).outcome, ParseOutcome::Complete);
  ASSERT_EQ(parse_head("OPTIONS * HTTP/1.1\r\nHost:\r\n\r\n", {}, head).outcome, ParseOutcome::Complete);
  EXPECT_EQ(head.method, Method::Options);
  EXPECT_EQ(head.framing, Framing::None);
  EXPECT_EQ(head.content_length, 0u);
  EXPECT_TRUE(head.keep_alive);
  EXPECT_FALSE(head.expects_continue);
  EXPECT_EQ(head.host, "");
  EXPECT_EQ(head.fields().size(), 1u);
}

TEST(Parser, KnowsMethodsByTheirExactSpelling) {
  const std::vector<std::pair<std::string, Method>> rows = {
      {"GET", Method::Get},         {"HEAD", Method::Head},       {"POST", Method::Post},   {"PUT", Method::Put},
      {"DELETE", Method::Delete},   {"OPTIONS", Method::Options}, {"TRACE", Method::Trace}, {"PATCH", Method::Patch},
      {"get", Method::Other},       {"Post", Method::Other},      {"X", Method::Other},     {"GETS", Method::Other},
      {"M-SEARCH", Method::Other},  {"!#$%&'*+-.^_`|~09Az", Method::Other}};
  for (const auto& [name, method] : rows) {
    const std::string text = with_target(name, "/");
    const Parsed parsed = parse(text);
    EXPECT_EQ(parsed.result.outcome, ParseOutcome::Complete) << name;
    EXPECT_EQ(parsed.head.method, method) << name;
    EXPECT_EQ(parsed.head.method_text, name);
    EXPECT_EQ(method_name(method), method == Method::Other ? "other" : name);
  }
}

TEST(Parser, RefusesABrokenRequestLine) {
  const std::string rest = "\r\nHost: a\r\n\r\n";
  check({{"two spaces before the target", "GET  / HTTP/1.1" + rest, Refusal::BadTarget},
         {"two spaces before the version", "GET /  HTTP/1.1" + rest, Refusal::BadVersion},
         {"tab instead of space", "GET\t/ HTTP/1.1" + rest, Refusal::BadMethod},
         {"tab after the target", "GET /\tHTTP/1.1" + rest, Refusal::BadTarget},
         {"space before the method", " GET / HTTP/1.1" + rest, Refusal::BadMethod},
         {"space behind the version", "GET / HTTP/1.1 " + rest, Refusal::BadVersion},
         {"no target", "GET HTTP/1.1" + rest, Refusal::BadTarget},
         {"HTTP/0.9", "GET /" + rest, Refusal::BadTarget},
         {"no version", "GET / " + rest, Refusal::BadVersion},
         {"colon in the method", "GE:T / HTTP/1.1" + rest, Refusal::BadMethod},
         {"NUL in the method", "GE\0T / HTTP/1.1"s + rest, Refusal::BadMethod},
         {"bare LF", "GET / HTTP/1.1\nHost: a\n\n", Refusal::BadLineEnd},
         {"bare CR", "GET / HTTP/1.1\rHost: a\r\r", Refusal::BadLineEnd},
         {"CR CR LF", "GET / HTTP/1.1\r" + rest, Refusal::BadLineEnd},
         {"TLS", "\x16\x03\x01\x02"s, Refusal::BadMethod},
         {"LF first", "\nGET / HTTP/1.1" + rest, Refusal::BadMethod},
         {"HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Refusal::BadTarget}});
  EXPECT_EQ(parse("\x16").result.outcome, ParseOutcome::Invalid);
}

TEST(Parser, TakesVersionsStrictly) {
  const auto line = [](const char* version) { return "GET / "s + version + "\r\nHost: a\r\n\r\n"; };
  check({{"1.0", line("HTTP/1.0")},
         {"1.2 counts as 1.1", line("HTTP/1.2")},
         {"1.9", line("HTTP/1.9")},
         {"0.9", line("HTTP/0.9"), Refusal::UnsupportedVersion},
         {"2.0", line("HTTP/2.0"), Refusal::UnsupportedVersion},
         {"lower case", line("http/1.1"), Refusal::BadVersion},
         {"no minor", line("HTTP/1"), Refusal::BadVersion},
         {"no minor digit", line("HTTP/1."), Refusal::BadVersion},
         {"leading zero", line("HTTP/01.1"), Refusal::BadVersion},
         {"long minor", line("HTTP/1.10"), Refusal::BadVersion},
         {"comma", line("HTTP/1,1"), Refusal::BadVersion},
         {"another protocol", line("HTTQ/1.1"), Refusal::BadVersion},
         {"inner blank", line("HTTP/ 1.1"), Refusal::BadVersion}});
  EXPECT_EQ(parse(line("HTTP/1.0")).head.minor_version, 0);
  EXPECT_EQ(parse(line("HTTP/1.2")).head.minor_version, 1);
}

TEST(Parser, TakesTheFourFormsOfTargets) {
  struct Form {
    std::string method, target;
    TargetForm form;
    std::string path, query, host;
  };
  const std::vector<Form> rows = {
      {"GET", "/", TargetForm::Origin, "/", "", "a"},
      {"GET", "//x/../y", TargetForm::Origin, "//x/../y", "", "a"},
      {"GET", "/a%2fb;c=1,2:@&=+$!~*'()-._?q=%20/?", TargetForm::Origin, "/a%2fb;c=1,2:@&=+$!~*'()-._", "q=%20/?", "a"},
      {"GET", "/?a[]=1", TargetForm::Origin, "/", "a[]=1", "a"},
      {"GET", "http://b:81/x?y", TargetForm::Absolute, "/x", "y", "b:81"},
      {"GET", "HTTPS://[::1]", TargetForm::Absolute, "/", "", "[::1]"},
      {"GET", "http://b?q/r", TargetForm::Absolute, "/", "q/r", "b"},
      {"OPTIONS", "*", TargetForm::Asterisk, "*", "", "a"},
      {"OPTIONS", "/x", TargetForm::Origin, "/x", "", "a"},
      {"OPTIONS", "http://b:81", TargetForm::Absolute, "*", "", "b:81"},
      {"OPTIONS", "http://b/", TargetForm::Absolute, "/", "", "b"}};
  for (const Form& row : rows) {
    SCOPED_TRACE(row.target);
    const std::string text = with_target(row.method, row.target);
    EXPECT_EQ(parse_every_prefix(text).outcome, ParseOutcome::Complete);
    const Parsed parsed = parse(text);
    EXPECT_EQ(parsed.head.form, row.form);
    EXPECT_EQ(parsed.head.path, row.path);
    EXPECT_EQ(parsed.head.query, row.query);
    EXPECT_EQ(parsed.head.host, row.host);
  }
}

TEST(Parser, RefusesOtherTargets) {
  for (const char* const target :
       {"x", "x/y", "*", "*/", "/#f", "/a#", "/%", "/%2", "/%zz", "/%0", "/?%g0", "/\"", "/<", "/>", "/\\", "/^", "/`",
        "/{", "/|", "/}", "/[", "/]", "/\x7f", "/\x80", "/\xc3\xa9", "/\x01", "http:/a", "http://", "http:///x",
        "http://u@b/", "http://u:p@b/", "http://b:x/", "http://:80/", "http://[::1/", "ftp://b/", "http://b/[",
        "://b/", "urn:x", "localhost:80", "//b#x"}) {
    SCOPED_TRACE(target);
    EXPECT_EQ(parse_every_prefix(with_target("GET", target)).refusal, Refusal::BadTarget);
  }
  EXPECT_EQ(parse_every_prefix("GET /\0 HTTP/1.1\r\n\r\n"s).refusal, Refusal::BadTarget);
}

TEST(Parser, RefusesConnectBecauseWeAreNoProxy) {
  check({{"tunnel", with_target("CONNECT", "b:443"), Refusal::ConnectNotSupported},
         {"IPv6", with_target("CONNECT", "[::1]:443"), Refusal::ConnectNotSupported},
         {"no port", with_target("CONNECT", "b"), Refusal::BadTarget},
         {"empty port", with_target("CONNECT", "b:"), Refusal::BadTarget},
         {"origin-form", with_target("CONNECT", "/"), Refusal::BadTarget}});
}

TEST(Parser, WantsOneValidHost) {
  check({{"plain", with_fields({"Host: example.org"})},
         {"port", with_fields({"Host: example.org:8080"})},
         {"empty port", with_fields({"Host: example.org:"})},
         {"IPv6", with_fields({"hOST: [2001:db8::1]:80"})},
         {"empty", with_fields({"Host:"}), Refusal::BadHost},
         {"empty, of the server as a whole", "OPTIONS * HTTP/1.1\r\nHost:\r\n\r\n"},
         {"empty in absolute-form", "GET http://a/ HTTP/1.1\r\nHost:\r\n\r\n"},
         {"missing", with_fields({}), Refusal::MissingHost},
         {"missing in absolute-form", "GET http://a/ HTTP/1.1\r\n\r\n", Refusal::MissingHost},
         {"missing in 1.0", with_fields({}, "HTTP/1.0")},
         {"twice", with_fields({"Host: a", "Host: a"}), Refusal::BadHost},
         {"twice in 1.0", with_fields({"Host: a", "Host: a"}, "HTTP/1.0"), Refusal::BadHost},
         {"user information", with_fields({"Host: u@a"}), Refusal::BadHost},
         {"path", with_fields({"Host: a/b"}), Refusal::BadHost},
         {"list", with_fields({"Host: a, b"}), Refusal::BadHost},
         {"list without a blank", with_fields({"Host: a,b"}), Refusal::BadHost},
         {"blank inside", with_fields({"Host: a b"}), Refusal::BadHost},
         {"port alone", with_fields({"Host: :80"}), Refusal::BadHost},
         {"port of letters", with_fields({"Host: a:http"}), Refusal::BadHost},
         {"port too large", with_fields({"Host: a:65536"}), Refusal::BadHost},
         {"bad in absolute-form", "GET http://a/ HTTP/1.1\r\nHost: b c\r\n\r\n", Refusal::BadHost}});
}

TEST(Parser, RefusesBrokenFieldLines) {
  const auto field = [](std::string line) { return with_fields({"Host: a", line}); };
  check({{"space before the colon", field("Name : v"), Refusal::BadFieldName},
         {"tab before the colon", field("Name\t: v"), Refusal::BadFieldName},
         {"no colon", field("Name"), Refusal::BadFieldName},
         {"no name", field(": v"), Refusal::BadFieldName},
         {"name not a token", field("Na(me: v"), Refusal::BadFieldName},
         {"obs-text in the name", field("N\xe9: v"), Refusal::BadFieldName},
         {"NUL in the name", field("N\0e: v"s), Refusal::BadFieldName},
         {"folded by space", field("Name: v\r\n w"), Refusal::FoldedField},
         {"folded by tab", field("Name: v\r\n\tw"), Refusal::FoldedField},
         {"blank before the first field", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", Refusal::FoldedField},
         {"NUL in the value", field("Name: a\0b"s), Refusal::BadFieldValue},
         {"control in the value", field("Name: a\x01"), Refusal::BadFieldValue},
         {"vertical tab in the value", field("Name:\vb"), Refusal::BadFieldValue},
         {"DEL in the value", field("Name: \x7f"), Refusal::BadFieldValue},
         {"bare CR in the value", field("Name: a\rb"), Refusal::BadLineEnd},
         {"bare LF in the value", field("Name: a\nb: c"), Refusal::BadLineEnd},
         {"bare LF as the blank line", "GET / HTTP/1.1\r\nHost: a\r\n\n", Refusal::BadLineEnd},
         {"bare CR as the blank line", "GET / HTTP/1.1\r\nHost: a\r\n\rx", Refusal::BadLineEnd},
         {"obs-text in the value", field("Name: caf\xc3\xa9 \xff")},
         {"tab in the value", field("Name: a\tb")},
         {"empty value", field("Name:")},
         {"blank value", field("Name: \t ")}});
}

TEST(Parser, RefusesAmbiguousFraming) {
  const auto fields = [](std::string_view first, std::string_view second = {}) {
    return second.empty() ? with_fields({"Host: a", first}) : with_fields({"Host: a", first, second});
  };
  check({{"length", fields("Content-Length: 5")},
         {"leading zeros", fields("Content-Length: 005")},
         {"largest", fields("Content-Length: 18446744073709551615")},
         {"overflow", fields("Content-Length: 18446744073709551616"), Refusal::BadContentLength},
         {"empty", fields("Content-Length:"), Refusal::BadContentLength},
         {"plus", fields("Content-Length: +5"), Refusal::BadContentLength},
         {"minus", fields("Content-Length: -5"), Refusal::BadContentLength},
         {"hex", fields("Content-Length: 0x5"), Refusal::BadContentLength},
         {"underscore", fields("Content-Length: 1_0"), Refusal::BadContentLength},
         {"inner blank", fields("Content-Length: 1 0"), Refusal::BadContentLength},
         {"fraction", fields("Content-Length: 5.0"), Refusal::BadContentLength},
         {"list of equals", fields("Content-Length: 5, 5"), Refusal::BadContentLength},
         {"equals", fields("Content-Length: 5", "Content-Length: 5"), Refusal::BadContentLength},
         {"differing", fields("Content-Length: 5", "Content-Length: 6"), Refusal::BadContentLength},
         {"chunked", fields("Transfer-Encoding: chunked")},
         {"Chunked", fields("TRANSFER-ENCODING:\tCHUNKED ")},
         {"length then chunked", fields("Content-Length: 5", "Transfer-Encoding: chunked"), Refusal::LengthAndChunked},
         {"chunked then length", fields("Transfer-Encoding: chunked", "Content-Length: 5"), Refusal::LengthAndChunked},
         {"no coding", fields("Transfer-Encoding:"), Refusal::BadTransferEncoding},
         {"empty element", fields("Transfer-Encoding: , chunked"), Refusal::BadTransferEncoding},
         {"trailing comma", fields("Transfer-Encoding: chunked,"), Refusal::BadTransferEncoding},
         {"repeated", fields("Transfer-Encoding: chunked, chunked"), Refusal::BadTransferEncoding},
         {"two fields", fields("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
          Refusal::BadTransferEncoding},
         {"chunked not last", fields("Transfer-Encoding: chunked, gzip"), Refusal::BadTransferEncoding},
         {"parameter", fields("Transfer-Encoding: chunked;q=1"), Refusal::BadTransferEncoding},
         {"quoted", fields("Transfer-Encoding: \"chunked\""), Refusal::BadTransferEncoding},
         {"two words", fields("Transfer-Encoding: chunked x"), Refusal::BadTransferEncoding},
         {"gzip", fields("Transfer-Encoding: gzip, chunked"), Refusal::UnknownTransferCoding},
         {"identity", fields("Transfer-Encoding: identity"), Refusal::UnknownTransferCoding},
         {"xchunked", fields("Transfer-Encoding: xchunked"), Refusal::UnknownTransferCoding},
         {"on 1.0", with_fields({"Host: a", "Transfer-Encoding: chunked"}, "HTTP/1.0"), Refusal::BadTransferEncoding}});
}

TEST(Parser, ReadsConnectionOptions) {
  struct Option {
    std::vector<std::string_view> lines;
    const char* version;
    bool keep_alive;
  };
  const std::vector<Option> rows = {{{"Host: a"}, "HTTP/1.1", true},
                                    {{"Host: a"}, "HTTP/1.0", false},
                                    {{"Host: a", "Connection: Keep-Alive"}, "HTTP/1.0", true},
                                    {{"Host: a", "Connection: close"}, "HTTP/1.1", false},
                                    {{"Host: a", "Connection: TE, ,CLOSE"}, "HTTP/1.1", false},
                                    {{"Host: a", "Connection: closed"}, "HTTP/1.1", true},
                                    {{"Host: a", "Connection: keep-alive, close"}, "HTTP/1.1", false},
                                    {{"Host: a", "Connection: close", "Connection: keep-alive"}, "HTTP/1.0", false},
                                    {{"Host: a", "Connection: x", "connection:\tkeep-alive"}, "HTTP/1.0", true}};
  for (const Option& row : rows) {
    const std::string text = with_fields(row.lines, row.version);
    EXPECT_EQ(parse(text).result.outcome, ParseOutcome::Complete) << text;
    EXPECT_EQ(parse(text).head.keep_alive, row.keep_alive) << text;
  }
}

TEST(Parser, MeetsOneExpectation) {
  check({{"other", with_fields({"Host: a", "Expect: 200-ok"}), Refusal::UnknownExpectation},
         {"one more", with_fields({"Host: a", "Expect: 100-continue, x"}), Refusal::UnknownExpectation},
         {"ignored on 1.0", with_fields({"Expect: x"}, "HTTP/1.0")},
         {"empty", with_fields({"Host: a", "Expect:"})}});
  EXPECT_FALSE(parse(with_fields({"Expect: 100-continue"}, "HTTP/1.0")).head.expects_continue);
  EXPECT_FALSE(parse(with_fields({"Host: a", "Expect:"})).head.expects_continue);
}

TEST(Parser, SkipsAFewEmptyLines) {
  const std::string request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
  check({{"one", "\r\n" + request},
         {"seven", "\r\n\r\n\r\n\r\n\r\n\r\n\r\n" + request},
         {"eight", "\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n" + request},
         {"nine", "\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n" + request, Refusal::BadMethod},
         {"CR alone", "\r" + request, Refusal::BadLineEnd}});
  EXPECT_EQ(parse("\r\n" + request).result.consumed, request.size() + 2);
}

TEST(Parser, LimitsTheRequestLine) {
  const Limits limits{.request_line_bytes_max = 32, .head_bytes_max = 64};
  for (const size_t bytes : {31u, 32u, 33u}) {
    SCOPED_TRACE(bytes);
    const std::string line = "GET /" + std::string(bytes - 16, 'x') + " HTTP/1.1\r\n";
    ASSERT_EQ(line.size(), bytes);
    const Refusal refusal = bytes <= 32 ? Refusal::None : Refusal::RequestLineTooLong;
    EXPECT_EQ(parse_every_prefix(line + "Host: a\r\n\r\n", limits).refusal, refusal);
    EXPECT_EQ(parse_every_prefix("\r\n\r\n" + line + "Host: a\r\n\r\n", limits).refusal, refusal);
  }
  EXPECT_EQ(parse_every_prefix(std::string(40, 'M'), limits).refusal, Refusal::MethodTooLong);
  EXPECT_EQ(parse_every_prefix(std::string(31, 'M') + " /xx", limits).refusal, Refusal::RequestLineTooLong);
}

TEST(Parser, LimitsTheHead) {
  const std::string head = "\r\nGET / HTTP/1.1\r\nHost: a\r\nName: value\r\n\r\n";
  for (const size_t bytes_max : {head.size() - 1, head.size(), head.size() + 1}) {
    SCOPED_TRACE(bytes_max);
    const Limits limits{.request_line_bytes_max = 24, .head_bytes_max = bytes_max};
    const Refusal refusal = bytes_max >= head.size() ? Refusal::None : Refusal::HeadTooLarge;
    EXPECT_EQ(parse_every_prefix(head, limits).refusal, refusal);
    EXPECT_EQ(parse_every_prefix(head + "body", limits).refusal, refusal);
  }
  for (size_t bytes_max = 0; bytes_max < head.size(); ++bytes_max) {
    const Limits limits{.request_line_bytes_max = 1024, .head_bytes_max = bytes_max};
    EXPECT_EQ(parse_every_prefix(head, limits).outcome, ParseOutcome::Invalid) << bytes_max;
  }
}

TEST(Parser, LimitsTheNumberOfFields) {
  for (const size_t fields_max : {size_t{3}, kFieldsCapacity}) {
    for (const size_t count : {fields_max - 1, fields_max, fields_max + 1}) {
      SCOPED_TRACE(count);
      std::string text = "GET / HTTP/1.1\r\nHost: a\r\n";
      for (size_t field = 1; field < count; ++field) text += "n: v\r\n";
      const Limits limits{.fields_max = fields_max};
      EXPECT_EQ(parse_every_prefix(text + "\r\n", limits).refusal,
                count <= fields_max ? Refusal::None : Refusal::TooManyFields);
    }
  }
}

TEST(Parser, JudgesEveryByteOfAFieldAndATarget) {
  constexpr std::string_view kTokenMarks = "!#$%&'*+-.^_`|~";
  constexpr std::string_view kPathMarks = "-._~!$&'()*+,;=:@/?";
  for (int value = 0; value < 256; ++value) {
    const char byte = static_cast<char>(value);
    SCOPED_TRACE(value);
    const bool alphanumeric = value < 128 && std::isalnum(value) != 0;
    const auto complete = [](const std::string& text) { return parse(text).result.outcome == ParseOutcome::Complete; };
    const bool token = alphanumeric || (byte != '\0' && kTokenMarks.find(byte) != std::string_view::npos);
    EXPECT_EQ(complete("GET / HTTP/1.1\r\nHost: a\r\nn"s + byte + "n: v\r\n\r\n"), token || byte == ':');
    EXPECT_EQ(complete("G"s + byte + "T / HTTP/1.1\r\nHost: a\r\n\r\n"), token);
    for (const std::string& before : {"v"s, "12345678"s, "12345678123"s, "\xff\x80\xe9"s}) {
      EXPECT_EQ(complete("GET / HTTP/1.1\r\nHost: a\r\nn: " + before + byte + "v123456789\r\n\r\n"),
                byte == '\t' || (value >= ' ' && value != 0x7f));
    }
    EXPECT_EQ(complete("GET /"s + byte + "x HTTP/1.1\r\nHost: a\r\n\r\n"),
              alphanumeric || (byte != '\0' && kPathMarks.find(byte) != std::string_view::npos));
  }
}

}  // namespace
}  // namespace kiln::http
