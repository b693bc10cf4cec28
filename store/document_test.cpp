#include "store/document.h"

#include <gtest/gtest.h>
#include <simdjson.h>

#include <random>
#include <string>
#include <vector>

namespace kiln::store {
namespace {

using Kind = DocumentFault::Kind;

std::string nested(int levels, const std::string& open, const std::string& inner, const std::string& close) {
  std::string text;
  for (int i = 0; i < levels; ++i) text += open;
  text += inner;
  for (int i = 0; i < levels; ++i) text += close;
  return text;
}

TEST(Document, KeepsTheBytesOfAnObject) {
  const std::string objects[] = {
      R"({})",
      R"({"loadtest":"true"})",
      "{ \"a\" :\t1 ,\r\n \"b\" : [ ] }",
      R"({"a":null,"b":true,"c":false,"d":[1,[2,{}]],"e":{"f":{}}})",
      R"({"a":1,"a":2,"a":3})",
      R"({"$set":1,"a.b":2,"":3,"$":{"$where":"x"},"_id":4,"__proto__":5})",
      R"({"n":[0,-0,1,-1,1.5,1e5,1E+5,1e-5,0.1,123456789012345678901234567890,1e400,-1e-400]})",
      R"({"i":[9223372036854775807,-9223372036854775808,9223372036854775808]})",
      R"({"u":[18446744073709551615,18446744073709551616,-18446744073709551616]})",
      R"({"s":"\"\\\/\b\f\n\r\t\u0041\u00e9\ud83d\ude00"})",
      R"({"nul":"a\u0000b","\u0000":1})",
      "{\"utf8\":\"\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80 \xef\xbf\xbf \x7f\"}",
      R"({"a":)" + nested(63, "[", "", "]") + "}",
      nested(63, R"({"a":)", "{}", "}"),
      R"({"a":")" + std::string(100'000, 'x') + "\"}",
  };
  DocumentReader reader;
  for (const std::string& object : objects) {
    SCOPED_TRACE(object.substr(0, 100));
    for (const std::string& text : {object, " \t\r\n" + object + "\n \r\t"}) {
      const auto read = reader.read(text);
      ASSERT_TRUE(read) << read.error().position << ' ' << read.error().why;
      EXPECT_EQ(*read, object);
    }
  }
}

TEST(Document, RefusesWithThePlace) {
  struct Row {
    std::string text;
    size_t position;
  };
  const Row rows[] = {
      {"", 0},
      {" \n ", 3},
      {"{", 1},
      {R"({"a")", 4},
      {R"({"a":)", 5},
      {R"({"a":1)", 6},
      {R"({"a":1,})", 7},
      {R"({"a" 1})", 5},
      {R"({"a"::1})", 5},
      {R"({"a":1 "b":2})", 7},
      {R"({"a":1,,"b":2})", 7},
      {R"({a:1})", 1},
      {R"({'a':1})", 1},
      {R"({1:1})", 1},
      {R"({,})", 1},
      {R"({"a":[1,]})", 8},
      {R"({"a":[,1]})", 6},
      {R"({"a":[1 2]})", 8},
      {R"({"a":[1})", 7},
      {R"({"a":{]})", 6},
      {R"({"a":1}})", 7},
      {R"({"a":1} {})", 8},
      {R"({"a":1} x)", 8},
      {R"({"a":01})", 5},
      {R"({"a":1.})", 5},
      {R"({"a":.1})", 5},
      {R"({"a":+1})", 5},
      {R"({"a":1e})", 5},
      {R"({"a":-})", 5},
      {R"({"a":--1})", 5},
      {R"({"a":1x})", 5},
      {R"({"a":0x1})", 5},
      {R"({"a":NaN})", 5},
      {R"({"a":Infinity})", 5},
      {R"({"a":-Infinity})", 5},
      {R"({"a":nul})", 5},
      {R"({"a":nulll})", 5},
      {R"({"a":True})", 5},
      {R"({"a":"\x"})", 5},
      {R"({"a":"\u12"})", 5},
      {R"({"a":"\ud800"})", 5},
      {R"({"a":"\udc00"})", 5},
      {R"({"\q":1})", 1},
      {R"({"a":"x)", 5},
      {"{\"a\":\"x\ny\"}", 7},
      {std::string("{\"a\":\"x\0y\"}", 11), 7},
      {std::string("{\"a\":\0}", 7), 5},
      {"{\"a\":\"\xff\"}", 6},
      {"{\"a\":\"\xc3\"}", 6},
      {"{\"a\":\"\xc0\xaf\"}", 6},
      {"{\"a\":\"\xed\xa0\x80\"}", 6},
      {"{\"a\":\"\xf4\x90\x80\x80\"}", 6},
      {"{\"\xe2\x82\":1}", 2},
      {"\xef\xbb\xbf{}", 0},
      {R"({"a":1 /* b */})", 7},
      {R"({"a":)" + nested(64, "[", "", "]") + "}", 68},
      {nested(64, R"({"a":)", "{}", "}"), 320},
      {R"({"a":)" + nested(100'000, "[", "", "]") + "}", 68},
      {nested(100'000, R"({"a":)", "", ""), 320},
      // Not an object, and not JSON either: that comes first.
      {"[1,]", 3},
      {"[1}", 2},
      {"1 2", 2},
      {"nope", 0},
      {"\"x", 0},
      {"1,2", 1},
      {"1]", 1},
      {"1],[2", 1},
      {"]", 0},
      {"a=b", 0},
  };
  DocumentReader reader;
  for (const Row& row : rows) {
    SCOPED_TRACE(row.text.substr(0, 100));
    for (const std::string before : {"", " \n"}) {
      const auto read = reader.read(before + row.text);
      ASSERT_FALSE(read);
      EXPECT_EQ(read.error().kind, Kind::NotJson) << read.error().why;
      const size_t lead = row.text.find_first_not_of(" \n") == std::string::npos ? 0 : before.size();
      if (!row.text.empty() || before.empty()) {
        EXPECT_EQ(read.error().position, row.position + (row.text == " \n " ? before.size() : lead))
            << read.error().why;
      }
      EXPECT_FALSE(read.error().why.empty());
    }
  }
}

TEST(Document, TellsOtherValuesFromNoJson) {
  DocumentReader reader;
  for (const char* text : {"[]", "[1,{\"a\":2}]", "1", "-1.5e3", "1e999", "\"x\"", "true", "false", "null", " [ ] "}) {
    const auto read = reader.read(text);
    ASSERT_FALSE(read) << text;
    EXPECT_EQ(read.error().kind, Kind::NotAnObject) << text << ": " << read.error().why;
  }
}

// Against simdjson's other parser, which reads the whole text at once: they differ in numbers beyond a double alone.
TEST(Document, AgreesWithAnotherParserOnDamagedTexts) {
  const std::string seeds[] = {
      R"({"a":[1,2.5e3,-0,{"b":"x\n\u00e9\"\\","c":null}],"d":{"e":true,"f":false},"":[[],{}]})",
      R"({ "key" : "value" , "list" : [ "a" , "b" , [ "c" ] ] , "number" : 12 })",
      R"([{"a":1},"b",[2,null]])", R"("text")", "[]",
      "{\"\xc3\xa9\":\"\xf0\x9f\x98\x80\",\"x\":[[[[1]]]],\"y\":{\"y\":{\"y\":{}}}}",
  };
  const std::string letters = "{}[]\",:\\ntrufalse0123456789.eE+-\t\n \xc3\xa9\xff/x";
  std::mt19937 random(1);
  const auto below = [&](size_t n) { return static_cast<size_t>(random() % n); };
  DocumentReader reader;
  simdjson::dom::parser parser;
  size_t valid = 0, invalid = 0, others = 0;
  for (int i = 0; i < 200'000; ++i) {
    std::string text = seeds[below(std::size(seeds))];
    for (size_t n = below(3) + 1; n > 0; --n) {
      const size_t at = below(text.size() + 1);
      switch (below(4)) {
        case 0: text.insert(at, 1, letters[below(letters.size())]); break;
        case 1: text.erase(at, below(4) + 1); break;
        case 2: text.insert(at, text.substr(below(text.size() + 1), below(6))); break;
        default:
          if (at < text.size()) text[at] = letters[below(letters.size())];
      }
    }
    const simdjson::padded_string padded(text);
    simdjson::dom::element root;
    const auto error = parser.parse(padded).get(root);
    // Newer versions have an error of its own for a large integer.
    const std::string_view why = simdjson::error_message(error);
    if (error == simdjson::NUMBER_ERROR || why.starts_with("Big integer")) continue;
    const auto read = reader.read(text);
    if (error != simdjson::SUCCESS) {
      ++invalid;
      ASSERT_FALSE(read) << text;
      ASSERT_EQ(read.error().kind, Kind::NotJson) << text << ": " << read.error().why;
      ASSERT_LE(read.error().position, text.size());
    } else if (root.is_object()) {
      ++valid;
      ASSERT_TRUE(read) << text << " at " << read.error().position << ": " << read.error().why;
    } else {
      ++others;
      ASSERT_FALSE(read) << text;
      ASSERT_EQ(read.error().kind, Kind::NotAnObject) << text;
    }
  }
  EXPECT_GT(valid, 10'000U);
  EXPECT_GT(invalid, 10'000U);
  EXPECT_GT(others, 0U);
}

}  // namespace
}  // namespace kiln::store
