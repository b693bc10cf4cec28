#include "store/mongodb_document.h"

#include <gtest/gtest.h>

#include <string>

namespace kiln::store {
namespace {

// As extended JSON, which names the types; "" when there is none.
std::string converted(std::string_view json) {
  BsonConverter converter;
  const Bson bson = converter.convert(json);
  if (!bson) return {};
  EXPECT_TRUE(bson_validate(bson.get(), BSON_VALIDATE_UTF8_ALLOW_NULL, nullptr)) << json;
  size_t bytes = 0;
  char* const text = bson_as_canonical_extended_json(bson.get(), &bytes);
  std::string out(text, bytes);
  bson_free(text);
  return out;
}

TEST(BsonConverter, ConvertsEachType) {
  struct Row {
    std::string_view json;
    std::string_view bson;
  };
  const Row rows[] = {
      {"{}", "{ }"},
      {R"({"a":null,"b":true,"c":false,"":"x"})", R"({ "a" : null, "b" : true, "c" : false, "" : "x" })"},
      {"{ \"a\" :\t1 ,\r\n \"b\" : [ true , null ] }", R"({ "a" : { "$numberLong" : "1" }, "b" : [ true, null ] })"},
      {R"({"a":{"b":{}},"c":[[],[{}]]})", R"({ "a" : { "b" : {  } }, "c" : [ [  ], [ {  } ] ] })"},
      {R"({"a":0,"b":-0,"c":-1})",
       R"({ "a" : { "$numberLong" : "0" }, "b" : { "$numberLong" : "0" }, "c" : { "$numberLong" : "-1" } })"},
      {R"({"a":9223372036854775807,"b":-9223372036854775808})",
       R"({ "a" : { "$numberLong" : "9223372036854775807" }, "b" : { "$numberLong" : "-9223372036854775808" } })"},
      {R"({"a":9223372036854775808,"b":-9223372036854775809,"c":123456789012345678901234567890})",
       R"({ "a" : "9223372036854775808", "b" : "-9223372036854775809", "c" : "123456789012345678901234567890" })"},
      {R"({"a":1.5,"b":1e2,"c":-0.5E+1})",
       R"({ "a" : { "$numberDouble" : "1.5" }, "b" : { "$numberDouble" : "100.0" }, )"
       R"("c" : { "$numberDouble" : "-5.0" } })"},
      {R"({"a":1e400,"b":-1e400,"c":1e-400})", R"({ "a" : "1e400", "b" : "-1e400", "c" : "1e-400" })"},
      {R"({"a":"\"\\\/\b\f\n\r\t\u0041\ud83d\ude00"})", R"({ "a" : "\"\\/\b\f\n\r\tA)"
                                                        "\xf0\x9f\x98\x80\" }"},
      {R"({"a":1,"a":2})", R"({ "a" : { "$numberLong" : "1" }, "a" : { "$numberLong" : "2" } })"},
      // None of these is what extended JSON would make of them.
      {R"({"$oid":"0","a.b":{"$date":"x"},"c":{"$numberLong":"y"},"$":[]})",
       R"({ "$oid" : "0", "a.b" : { "$date" : "x" }, "c" : { "$numberLong" : "y" }, "$" : [  ] })"},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.json);
    EXPECT_EQ(converted(row.json), row.bson);
  }
}

TEST(BsonConverter, KeepsNulInStrings) {
  BsonConverter converter;
  const Bson bson = converter.convert(R"({"a":"x\u0000y"})");
  ASSERT_TRUE(bson);
  bson_iter_t at;
  ASSERT_TRUE(bson_iter_init_find(&at, bson.get(), "a"));
  uint32_t bytes = 0;
  const char* const text = bson_iter_utf8(&at, &bytes);
  EXPECT_EQ(std::string(text, bytes), std::string("x\0y", 3));
}

TEST(BsonConverter, HasNothingForKeysWithNul) {
  EXPECT_EQ(converted(R"({"a\u0000b":1})"), "");
  EXPECT_EQ(converted(R"({"a":[1,{"b":{"\u0000":1}}]})"), "");
}

TEST(BsonConverter, HasNothingForWhatIsTooLarge) {
  const auto with_ones = [](size_t count) {
    std::string json = R"({"a":[1)";
    for (size_t i = 1; i < count; ++i) json += ",1";
    return json + "]}";
  };
  // An element is a type, the index as text, a NUL, and eight bytes.
  EXPECT_NE(converted(with_ones(60'000)), "");
  EXPECT_EQ(converted(with_ones(80'000)), "");
  EXPECT_NE(converted(R"({"a":")" + std::string(kBsonBytesMax - 100, 'x') + "\"}"), "");
  EXPECT_EQ(converted(R"({"a":")" + std::string(kBsonBytesMax, 'x') + "\"}"), "");
}

TEST(BsonConverter, GoesAsDeepAsADocumentMay) {
  std::string json;
  for (int i = 0; i < 63; ++i) json += R"({"a":)";
  json += "[]";
  for (int i = 0; i < 63; ++i) json += '}';
  EXPECT_NE(converted(json), "");
}

TEST(BsonConverter, MayBeUsedAgain) {
  BsonConverter converter;
  for (const std::string_view json : {R"({"a":1})", R"({"\u0000":1})", R"({"a":"a longer one"})", "{}"}) {
    EXPECT_EQ(static_cast<bool>(converter.convert(json)), !json.contains("u0000"));
  }
}

}  // namespace
}  // namespace kiln::store
