#include "http/response_reader.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "http/guard_page_test.h"
#include "http/response.h"

namespace kiln::http {
namespace {

using Kind = ResponseStep::Kind;

// What one connection gave, a word each: "200" for a head, "=body" for all data of a response, "." for its end.
struct Seen {
  std::string story;
  ResponseFault fault = ResponseFault::None;
  bool closed = false;  // true when the end of input came in good order
  uint64_t interims = 0;
  size_t consumed = 0;
  bool operator==(const Seen&) const = default;
};

class Connection {
 public:
  Connection(const std::vector<Method>& requests, const Limits& limits) : reader_(limits) {
    for (const Method method : requests) reader_.expect(method);
  }

  // `bytes` arrive; what was left before stands in front of them, and everything ends at an unmapped page.
  void receive(std::string_view bytes) {
    rest_ += bytes;
    std::string_view input = guarded_.place(rest_);
    for (;;) {
      const ResponseStep step = reader_.next(input, head_);
      ASSERT_LE(step.consumed, input.size());
      ASSERT_NE(step.kind, Kind::Closed);
      if (step.kind == Kind::Data) {
        EXPECT_FALSE(step.data.empty());
        EXPECT_GE(step.data.data(), input.data());
        EXPECT_LE(step.data.data() + step.data.size(), input.data() + step.consumed);
      }
      input.remove_prefix(step.consumed);
      seen_.consumed += step.consumed;
      note(step);
      if (step.kind == Kind::NeedMore || step.kind == Kind::Invalid) break;
    }
    rest_ = std::string(input);
  }

  Seen end() {
    if (seen_.fault == ResponseFault::None) {
      ResponseStep step = reader_.end_of_input();
      while (step.kind == Kind::End) {
        note(step);
        step = reader_.end_of_input();
      }
      note(step);
    } else {
      const ResponseStep again = reader_.next("HTTP/1.1 200 OK\r\n\r\n", head_);
      EXPECT_EQ(again.kind, Kind::Invalid);
      EXPECT_EQ(again.fault, seen_.fault);
      EXPECT_EQ(again.consumed, 0u);
      EXPECT_EQ(reader_.end_of_input().fault, seen_.fault);
    }
    seen_.interims = reader_.interims();
    return seen_;
  }

  ResponseReader& reader() { return reader_; }

 private:
  void note(const ResponseStep& step) {
    switch (step.kind) {
      case Kind::NeedMore: return;
      case Kind::Head:
        seen_.story += (seen_.story.empty() ? "" : " ") + std::to_string(head_.status) + "=";
        body_bytes_ = 0;
        return;
      case Kind::Data:
        seen_.story += step.data;
        body_bytes_ += step.data.size();
        return;
      case Kind::End:
        seen_.story += reader_.persists() ? "." : "!";
        EXPECT_EQ(reader_.body_bytes(), body_bytes_);
        return;
      case Kind::Closed: seen_.closed = true; return;
      case Kind::Invalid: seen_.fault = step.fault; return;
    }
  }

  GuardedBytes guarded_{16 * 1024};
  ResponseReader reader_;
  ResponseHead head_;
  std::string rest_;
  uint64_t body_bytes_ = 0;  // of the latest response
  Seen seen_;
};

// Whole; in two pieces, at every place; and byte by byte.
Seen read_every_way(const std::vector<Method>& requests, const std::string& input,
                    const Limits& limits = kResponseLimits) {
  const auto read = [&](const std::vector<std::string>& pieces) {
    Connection connection(requests, limits);
    for (const std::string& piece : pieces) connection.receive(piece);
    return connection.end();
  };
  const Seen whole = read({input});
  for (size_t split = 0; split <= input.size(); ++split) {
    EXPECT_EQ(read({input.substr(0, split), input.substr(split)}), whole) << "split at " << split;
  }
  std::vector<std::string> bytes;
  for (const char byte : input) bytes.emplace_back(1, byte);
  EXPECT_EQ(read(bytes), whole) << "byte by byte";
  return whole;
}

void PrintTo(const Seen& seen, std::ostream* out) {
  *out << seen.story << " fault " << response_fault_text(seen.fault) << " closed " << seen.closed
       << " interims " << seen.interims << " consumed " << seen.consumed;
}

const std::string kOk = "HTTP/1.1 200 OK\r\n";
const std::string kHello = kOk + "Content-Length: 5\r\n\r\nhello";
const std::string kChunked =
    kOk + "Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nDigest: a\r\n\r\n";
const std::string kContinue = "HTTP/1.1 100 Continue\r\n\r\n";

struct Row {
  const char* name;
  std::vector<Method> requests;
  std::string input;
  std::string story;
  ResponseFault fault = ResponseFault::None;
  uint64_t interims = 0;
};

void check(const std::vector<Row>& rows) {
  for (const Row& row : rows) {
    SCOPED_TRACE(row.name);
    const Seen seen = read_every_way(row.requests, row.input);
    EXPECT_EQ(seen.story, row.story);
    EXPECT_EQ(seen.fault, row.fault) << response_fault_text(seen.fault);
    EXPECT_EQ(seen.closed, row.fault == ResponseFault::None);
    EXPECT_EQ(seen.interims, row.interims);
    if (seen.closed) {
      EXPECT_EQ(seen.consumed, row.input.size());
    }
  }
}

TEST(ResponseReader, TellsResponsesApart) {
  constexpr Method kGet = Method::Get;
  constexpr Method kHead = Method::Head;
  const std::string bodiless = kOk + "Content-Length: 5\r\n\r\n";
  check({{"length", {kGet}, kHello, "200=hello."},
         {"empty", {kGet}, kOk + "Content-Length: 0\r\n\r\n", "200=."},
         {"chunked", {kGet}, kChunked, "200=hello."},
         {"no chunks", {kGet}, kOk + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "200=."},
         {"until close", {kGet}, kOk + "\r\nhello", "200=hello!"},
         {"until close, empty", {kGet}, kOk + "\r\n", "200=!"},
         {"until close, like a response", {kGet}, kOk + "\r\n" + kHello, "200=" + kHello + "!"},
         {"HEAD", {kHead}, bodiless, "200=."},
         {"204", {kGet}, "HTTP/1.1 204 No Content\r\n\r\n", "204=."},
         {"304 with a length", {kGet}, "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", "304=."},
         {"pipelined", {kGet, kHead, kGet, kGet}, kHello + bodiless + kChunked + kHello,
          "200=hello. 200=. 200=hello. 200=hello."},
         {"HEAD behind HEAD", {kHead, kGet, kHead}, bodiless + kHello + bodiless, "200=. 200=hello. 200=."},
         {"the last one", {kGet}, kOk + "Connection: close\r\nContent-Length: 5\r\n\r\nhello", "200=hello!"},
         {"1.0", {kGet}, "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", "200=hello!"},
         {"1.0 kept", {kGet, kGet}, "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx" + kHello,
          "200=x. 200=hello."},
         {"closed while idle", {}, "", ""}});
}

TEST(ResponseReader, SkipsInterimResponses) {
  const std::string hints = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nContent-Length: 7\r\n\r\n";
  using enum ResponseFault;
  check({{"one", {Method::Post}, kContinue + kHello, "200=hello.", None, 1},
         {"several", {Method::Get, Method::Get}, kContinue + hints + kHello + hints + kHello,
          "200=hello. 200=hello.", None, 3},
         {"one that says close", {Method::Get}, "HTTP/1.1 102\r\nConnection: close\r\n\r\n" + kHello,
          "200=hello.", None, 1},
         {"before HEAD's", {Method::Head}, kContinue + kOk + "\r\n", "200=.", None, 1},
         {"nothing behind it", {Method::Get}, kContinue, "", Unanswered, 1},
         {"switching protocols", {Method::Get}, kContinue + "HTTP/1.1 101 x\r\nUpgrade: y\r\n\r\n", "",
          SwitchedProtocols, 1}});
}

TEST(ResponseReader, RefusesWhatNobodyAskedFor) {
  using enum ResponseFault;
  const std::string last = kOk + "Connection: close\r\nContent-Length: 2\r\n\r\nok";
  check({{"at once", {}, kHello, "", NotAsked},
         {"one byte", {}, "H", "", NotAsked},
         {"one response too many", {Method::Get}, kHello + kHello, "200=hello.", NotAsked},
         {"a line end behind a body", {Method::Get}, kHello + "\r\n", "200=hello.", NotAsked},
         {"an interim one too many", {Method::Get}, kHello + kContinue, "200=hello.", NotAsked},
         {"a body behind HEAD", {Method::Head, Method::Get}, kHello, "200=.", NotHttp},
         {"a body behind 204", {Method::Get}, "HTTP/1.1 204 x\r\nContent-Length: 2\r\n\r\nok", "204=.", NotAsked},
         {"behind the last one", {Method::Get}, last + "x", "200=ok!", AfterLast},
         {"behind the last one, though due", {Method::Get, Method::Get}, last + kHello, "200=ok!", AfterLast}});
}

TEST(ResponseReader, TellsTruncatedFromWhole) {
  using enum ResponseFault;
  const std::string chunked = kOk + "Transfer-Encoding: chunked\r\n\r\n";
  check({{"no byte", {Method::Get}, "", "", Unanswered},
         {"no byte of the second", {Method::Get, Method::Get}, kHello, "200=hello.", Unanswered},
         {"closed with more due", {Method::Get, Method::Get}, kOk + "\r\nhello", "200=hello!", Unanswered},
         {"told to close with more due", {Method::Get, Method::Get},
          kOk + "Connection: close\r\nContent-Length: 0\r\n\r\n", "200=!", Unanswered},
         {"one byte of the head", {Method::Get}, "H", "", TruncatedHead},
         {"all of the head but its last byte", {Method::Get}, kOk + "Content-Length: 0\r\n\r", "", TruncatedHead},
         {"a head behind an interim one", {Method::Get}, kContinue + "HTTP/1.1 200", "", TruncatedHead, 1},
         {"a body by length", {Method::Get}, kOk + "Content-Length: 5\r\n\r\nhell", "200=hell", TruncatedBody},
         {"a body by length, not begun", {Method::Get}, kOk + "Content-Length: 5\r\n\r\n", "200=", TruncatedBody},
         {"the last chunk missing", {Method::Get}, chunked + "5\r\nhello\r\n", "200=hello", TruncatedBody},
         {"the trailers missing", {Method::Get}, chunked + "5\r\nhello\r\n0\r\n", "200=hello", TruncatedBody},
         {"inside a chunk", {Method::Get}, chunked + "5\r\nhel", "200=hel", TruncatedBody}});
}

TEST(ResponseReader, IsSilentBehindAFault) {
  using enum ResponseFault;
  const std::string chunked = kOk + "Transfer-Encoding: chunked\r\n\r\n";
  check({{"no HTTP", {Method::Get}, "SSH-2.0-x\r\n", "", NotHttp},
         {"a field", {Method::Get, Method::Get}, kHello + kOk + "a b: c\r\n\r\n" + kHello, "200=hello.", BadField},
         {"a chunk's size", {Method::Get}, chunked + "x\r\n", "200=", BadChunk},
         {"a chunk's end", {Method::Get}, chunked + "2\r\nok!\r\n", "200=ok", BadChunk},
         {"a trailer", {Method::Get}, chunked + "0\r\na b\r\n\r\n", "200=", BadTrailer},
         {"both framings", {Method::Get}, kOk + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", "",
          LengthAndChunked}});
}

TEST(ResponseReader, LimitsHeadsAndBodies) {
  const std::string head = kOk + "Content-Length: 5\r\n\r\n";
  for (const size_t bytes_max : {head.size() - 1, head.size(), head.size() + 1}) {
    SCOPED_TRACE(bytes_max);
    const Limits limits{.head_bytes_max = bytes_max};
    const bool fits = head.size() <= bytes_max;
    EXPECT_EQ(read_every_way({Method::Get}, head + "hello", limits).fault,
              fits ? ResponseFault::None : ResponseFault::HeadTooLarge);
    const std::string endless = kOk + std::string(bytes_max, 'x');
    EXPECT_EQ(read_every_way({Method::Get}, endless, limits).fault, ResponseFault::HeadTooLarge);
  }
  for (const uint64_t bytes_max : {4u, 5u, 6u}) {
    SCOPED_TRACE(bytes_max);
    const Limits limits{.body_bytes_max = bytes_max};
    const ResponseFault fault = bytes_max >= 5 ? ResponseFault::None : ResponseFault::BodyTooLarge;
    EXPECT_EQ(read_every_way({Method::Get}, kHello, limits).fault, fault);
    EXPECT_EQ(read_every_way({Method::Get}, kChunked, limits).fault, fault);
    EXPECT_EQ(read_every_way({Method::Get}, kOk + "\r\nhello", limits).fault, fault);
  }
}

TEST(ResponseReader, CountsABodyOfAnySize) {
  Connection connection({Method::Get}, kResponseLimits);
  connection.receive(kOk + "Content-Length: 18446744073709551615\r\n\r\n");
  const std::string piece(8 * 1024, 'x');
  for (int i = 0; i < 3; ++i) connection.receive(piece);
  EXPECT_EQ(connection.reader().body_bytes(), 3 * piece.size());
  EXPECT_EQ(connection.end().fault, ResponseFault::TruncatedBody);
}

TEST(ResponseReader, SaysWhenARequestMayGoOut) {
  ResponseHead head;
  ResponseReader reader(kResponseLimits);
  for (size_t request = 0; request < ResponseReader::kDueMax; ++request) {
    EXPECT_TRUE(reader.can_expect());
    reader.expect(request + 1 == ResponseReader::kDueMax ? Method::Head : Method::Get);
  }
  EXPECT_FALSE(reader.can_expect());
  EXPECT_EQ(reader.due(), ResponseReader::kDueMax);
  std::string input;
  for (size_t request = 1; request < ResponseReader::kDueMax; ++request) input += kHello;
  std::string_view rest = input;
  ResponseStep step;
  do {
    step = reader.next(rest, head);
    rest.remove_prefix(step.consumed);
  } while (step.kind != Kind::NeedMore);
  EXPECT_TRUE(rest.empty());
  EXPECT_EQ(reader.due(), 1u);
  EXPECT_TRUE(reader.can_expect());

  const std::string last = kOk + "Connection: close\r\nContent-Length: 5\r\n\r\n";
  EXPECT_EQ(reader.next(last, head).kind, Kind::Head);
  EXPECT_FALSE(reader.can_expect()) << "the server has said close";
  EXPECT_EQ(reader.next({}, head).kind, Kind::End);
  EXPECT_FALSE(reader.can_expect());
  EXPECT_EQ(reader.end_of_input().kind, Kind::Closed);
}

TEST(ResponseReader, LooksAtATricklingHeadOnceALine) {
  // With a look at each byte this would take minutes.
  const Limits limits{.head_bytes_max = 1 << 20};
  ResponseHead head;
  ResponseReader reader(limits);
  reader.expect(Method::Get);
  const std::string text = kOk + "Name: " + std::string(1 << 20, 'x');
  for (size_t bytes = 1; bytes < limits.head_bytes_max; ++bytes) {
    ASSERT_EQ(reader.next(std::string_view(text).substr(0, bytes), head).kind, Kind::NeedMore);
  }
  EXPECT_EQ(reader.next(std::string_view(text).substr(0, limits.head_bytes_max), head).fault,
            ResponseFault::HeadTooLarge);
}

TEST(ResponseReader, StopsAtOurMistakes) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  ResponseReader full(kResponseLimits);
  for (size_t request = 0; request < ResponseReader::kDueMax; ++request) full.expect(Method::Get);
  EXPECT_DEATH(full.expect(Method::Get), "can_expect");
  ResponseReader reader(kResponseLimits);
  EXPECT_DEATH(reader.expect(Method::Connect), "Connect");
  EXPECT_EQ(reader.end_of_input().kind, Kind::Closed);
  EXPECT_DEATH(reader.expect(Method::Get), "can_expect");
}

TEST(ResponseReader, ReadsWhatWeWrite) {
  for (const bool head : {false, true}) {
    for (const bool chunked : {false, true}) {
      for (const uint8_t minor_version : {uint8_t{0}, uint8_t{1}}) {
        for (int status = 200; status <= 999; ++status) {
          std::string text;
          write_response({.status = status, .body = "hello", .chunked = chunked},
                         {.minor_version = minor_version, .head = head}, "Server: kiln\r\n", text);
          Connection connection({head ? Method::Head : Method::Get}, kResponseLimits);
          connection.receive(text);
          const bool bodiless = head || status == 204 || status == 205 || status == 304;
          const bool until_close = chunked && minor_version == 0 && status != 204 && status != 205 && status != 304;
          const Seen seen = connection.end();
          EXPECT_EQ(seen.story, std::to_string(status) + (bodiless ? "=" : "=hello") + (until_close ? "!" : "."));
          EXPECT_TRUE(seen.closed) << text;
        }
      }
    }
  }
}

}  // namespace
}  // namespace kiln::http
