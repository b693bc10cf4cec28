#include "http/body.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "http/guard_page_test.h"

namespace kiln::http {
namespace {

using std::string_literals::operator""s;

struct Decoded {
  ParseResult result;
  std::string body;
  bool operator==(const Decoded& other) const {
    return result.outcome == other.result.outcome && result.consumed == other.result.consumed &&
           result.refusal == other.result.refusal && body == other.body;
  }
};

Decoded decode(const RequestHead& head, const Limits& limits, std::initializer_list<std::string_view> pieces) {
  Decoded decoded;
  BodyDecoder decoder;
  decoder.begin(head, limits);
  size_t consumed = 0;
  for (const std::string_view piece : pieces) {
    decoded.result = decoder.decode(piece, limits, decoded.body);
    consumed += decoded.result.consumed;
    if (decoded.result.outcome != ParseOutcome::NeedMore) break;
    EXPECT_EQ(decoded.result.consumed, piece.size());
  }
  decoded.result.consumed = consumed;
  return decoded;
}

// Whole, against an unmapped page; in two pieces, at every place; and byte by byte.
Decoded decode_every_way(const RequestHead& head, std::string_view input, const Limits& limits = {}) {
  GuardedBytes guarded(input.size());
  const Decoded whole = decode(head, limits, {guarded.place(input)});
  for (size_t split = 0; split <= input.size(); ++split) {
    EXPECT_EQ(decode(head, limits, {input.substr(0, split), input.substr(split)}), whole) << "split at " << split;
  }
  Decoded trickled;
  BodyDecoder decoder;
  decoder.begin(head, limits);
  size_t consumed = 0;
  trickled.result = decoder.decode({}, limits, trickled.body);
  while (trickled.result.outcome == ParseOutcome::NeedMore && consumed < input.size()) {
    trickled.result = decoder.decode(guarded.place(input.substr(consumed, 1)), limits, trickled.body);
    consumed += trickled.result.consumed;
  }
  const char* const more = trickled.result.outcome == ParseOutcome::NeedMore ? "" : "more";
  const ParseResult again = decoder.decode(more, limits, trickled.body);
  EXPECT_EQ(again.outcome, trickled.result.outcome);
  EXPECT_EQ(again.consumed, 0u);
  trickled.result.consumed = consumed;
  EXPECT_EQ(trickled, whole) << "byte by byte";
  return whole;
}

RequestHead chunked() {
  RequestHead head;
  head.framing = Framing::Chunked;
  return head;
}

RequestHead with_length(uint64_t bytes) {
  RequestHead head;
  head.framing = Framing::Length;
  head.content_length = bytes;
  return head;
}

TEST(Body, IsCompleteWithoutFraming) {
  const Decoded decoded = decode_every_way({}, "GET /");
  EXPECT_EQ(decoded.result.outcome, ParseOutcome::Complete);
  EXPECT_EQ(decoded.result.consumed, 0u);
}

TEST(Body, TakesTheDeclaredLengthAndNoMore) {
  const Decoded decoded = decode_every_way(with_length(5), "helloGET /");
  EXPECT_EQ(decoded.result.outcome, ParseOutcome::Complete);
  EXPECT_EQ(decoded.result.consumed, 5u);
  EXPECT_EQ(decoded.body, "hello");
  EXPECT_EQ(decode_every_way(with_length(0), "x").result.outcome, ParseOutcome::Complete);
  EXPECT_EQ(decode_every_way(with_length(5), "hell").result.outcome, ParseOutcome::NeedMore);
}

TEST(Body, RefusesALengthBeyondTheLimitUnread) {
  const Limits limits{.body_bytes_max = 8};
  for (const uint64_t bytes : {7u, 8u, 9u}) {
    const Decoded decoded = decode_every_way(with_length(bytes), "123456789", limits);
    EXPECT_EQ(decoded.result.refusal, bytes <= 8 ? Refusal::None : Refusal::BodyTooLarge);
    EXPECT_EQ(decoded.result.consumed, bytes <= 8 ? bytes : 0);
  }
  EXPECT_EQ(decode_every_way(with_length(UINT64_MAX), "", limits).result.refusal, Refusal::BodyTooLarge);
}

TEST(Body, DecodesChunks) {
  struct Row {
    const char* name;
    std::string input, body;
  };
  const std::vector<Row> rows = {
      {"empty", "0\r\n\r\n", ""},
      {"two", "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", "hello world"},
      {"hex in both cases", "a\r\n0123456789\r\nB\r\n0123456789a\r\n0\r\n\r\n", "01234567890123456789a"},
      {"leading zeros", "00000000000000000000000005\r\nhello\r\n000\r\n\r\n", "hello"},
      {"line ends in data", "4\r\n\r\n\r\n\r\n0\r\n\r\n", "\r\n\r\n"},
      {"extensions", "5;a;b=c;d\r\nhello\r\n0;last\r\n\r\n", "hello"},
      {"quoted extension", "5;d=\"e;\\\"\t\\\\f\xc3\xa9\"\r\nhello\r\n0;last=1\r\n\r\n", "hello"},
      {"bad white space, which must be taken", "5 ; a\t= b ;c = \"\" ;d\r\nhello\r\n0\r\n\r\n", "hello"},
      {"trailers", "1\r\nx\r\n0\r\nDigest: a\r\nContent-Length: 9\r\nEmpty:\r\n\r\n", "x"}};
  for (const Row& row : rows) {
    SCOPED_TRACE(row.name);
    const Decoded decoded = decode_every_way(chunked(), row.input + "GET /");
    EXPECT_EQ(decoded.result.outcome, ParseOutcome::Complete);
    EXPECT_EQ(decoded.result.consumed, row.input.size());
    EXPECT_EQ(decoded.body, row.body);
  }
}

TEST(Body, RefusesMalformedChunks) {
  const std::vector<std::pair<const char*, std::string>> rows = {
      {"no size", "\r\n"},
      {"no hex", "g\r\n"},
      {"prefix", "0x5\r\n"},
      {"sign", "+5\r\n"},
      {"minus", "-1\r\n"},
      {"underscore", "1_0\r\n"},
      {"blank before", " 5\r\n"},
      {"blank behind", "5 \r\nhello"},
      {"bare LF behind the size", "5\nhello"},
      {"bare CR behind the size", "5\rhello"},
      {"17 digits", "10000000000000005\r\n"},
      {"data too long", "5\r\nhello!\r\n"},
      {"no line end behind data", "5\r\nhello0\r\n\r\n"},
      {"bare LF behind data", "5\r\nhello\n0\r\n\r\n"},
      {"CR CR behind data", "5\r\nhello\r\r\n"},
      {"empty extension", "5;\r\nhello"},
      {"extension without a name", "5;=x\r\nhello"},
      {"extension without a value", "5;a=\r\nhello"},
      {"blank behind an extension", "5;a \r\nhello"},
      {"bare LF in an extension", "5;a\nhello"},
      {"bare CR in an extension", "5;a\rb\r\nhello"},
      {"NUL in an extension", "5;a\0\r\nhello"s},
      {"quote not closed", "5;a=\"b\r\nhello"},
      {"CR in quotes", "5;a=\"\r\"\r\nhello"},
      {"text behind the quote", "5;a=\"b\"c\r\nhello"},
      {"control in quotes", "5;a=\"\x01\"\r\nhello"},
      {"escaped line feed", "5;a=\"\\\n\"\r\nhello"}};
  for (const auto& [name, input] : rows) {
    SCOPED_TRACE(name);
    EXPECT_EQ(decode_every_way(chunked(), input).result.refusal, Refusal::BadChunk);
  }
}

TEST(Body, RefusesMalformedTrailers) {
  const std::vector<std::pair<const char*, std::string>> rows = {
      {"no colon", "0\r\nname\r\n\r\n"},
      {"space before the colon", "0\r\nname : v\r\n\r\n"},
      {"no name", "0\r\n: v\r\n\r\n"},
      {"folded", "0\r\nname: v\r\n w\r\n\r\n"},
      {"control", "0\r\nname: \x01\r\n\r\n"},
      {"bare LF", "0\r\nname: v\n\r\n"},
      {"bare LF at the end", "0\r\n\n"},
      {"bare CR at the end", "0\r\n\rx"},
      {"data behind the last chunk", "0\r\n\x01"}};
  for (const auto& [name, input] : rows) {
    SCOPED_TRACE(name);
    EXPECT_EQ(decode_every_way(chunked(), input).result.refusal, Refusal::BadTrailer);
  }
}

TEST(Body, LimitsWhatChunksAddUpTo) {
  const Limits limits{.body_bytes_max = 8};
  const auto refusal = [&](const char* input) { return decode_every_way(chunked(), input, limits).result.refusal; };
  EXPECT_EQ(refusal("5\r\nhello\r\n2\r\nxx\r\n0\r\n\r\n"), Refusal::None);
  EXPECT_EQ(refusal("5\r\nhello\r\n3\r\nxxx\r\n0\r\n\r\n"), Refusal::None);
  EXPECT_EQ(refusal("5\r\nhello\r\n4\r\nxxxx\r\n0\r\n\r\n"), Refusal::BodyTooLarge);
  EXPECT_EQ(refusal("5\r\nhello\r\nffffffffffffffff\r\n"), Refusal::BodyTooLarge);
}

TEST(Body, LimitsTheSizeLineAndTrailers) {
  for (const size_t bytes : {15u, 16u, 17u}) {
    SCOPED_TRACE(bytes);
    const Limits limits{.chunk_line_bytes_max = 16, .trailer_bytes_max = 16};
    const std::string size_line = "1;" + std::string(bytes - 4, 'e') + "\r\n";
    ASSERT_EQ(size_line.size(), bytes);
    EXPECT_EQ(decode_every_way(chunked(), size_line + "x\r\n" + size_line + "y\r\n0\r\n\r\n", limits).result.refusal,
              bytes <= 16 ? Refusal::None : Refusal::BadChunk);
    const std::string trailers = "n:" + std::string(bytes - 6, 'v') + "\r\n\r\n";
    ASSERT_EQ(trailers.size(), bytes);
    EXPECT_EQ(decode_every_way(chunked(), "0\r\n" + trailers, limits).result.refusal,
              bytes <= 16 ? Refusal::None : Refusal::TrailersTooLarge);
  }
  for (const size_t fields : {2u, 3u, 4u}) {
    std::string input = "0\r\n";
    for (size_t field = 0; field < fields; ++field) input += "n: v\r\n";
    EXPECT_EQ(decode_every_way(chunked(), input + "\r\n", {.fields_max = 3}).result.refusal,
              fields <= 3 ? Refusal::None : Refusal::TooManyFields);
  }
}

TEST(Body, LimitsWhatSizeLinesAddUpTo) {
  const Limits limits{.chunk_overhead_bytes_max = 64};
  const std::string long_line = "1;" + std::string(44, 'e') + "\r\nx\r\n";  // 48 bytes, of which 18 are excused
  const auto refusal = [&](const std::string& input) {
    return decode_every_way(chunked(), input + "0\r\n\r\n", limits).result.refusal;
  };
  EXPECT_EQ(refusal(long_line + long_line), Refusal::None);
  EXPECT_EQ(refusal(long_line + long_line + long_line), Refusal::BadChunk);
  std::string many;
  for (int chunk = 0; chunk < 100; ++chunk) many += "1;e=f\r\nx\r\n";
  EXPECT_EQ(refusal(many), Refusal::None);
}

TEST(Body, CostsNoMemoryBeforeItArrives) {
  std::string body;
  BodyDecoder decoder;
  const Limits limits{.body_bytes_max = UINT64_MAX};
  decoder.begin(with_length(UINT64_MAX), limits);
  EXPECT_EQ(decoder.decode("x", limits, body).outcome, ParseOutcome::NeedMore);
  EXPECT_LT(body.capacity(), 64u);
  decoder.begin(chunked(), limits);
  EXPECT_EQ(decoder.decode("ffffffffffff\r\nx", limits, body).outcome, ParseOutcome::NeedMore);
  EXPECT_LT(body.capacity(), 64u);
}

}  // namespace
}  // namespace kiln::http
