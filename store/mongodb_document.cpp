#include "store/mongodb_document.h"

#include <simdjson.h>

#include <charconv>
#include <cstdint>

namespace kiln::store {

namespace {

namespace ondemand = simdjson::ondemand;

struct Key {
  const char* data;
  int bytes;
};

bool append_text(bson_t& out, Key key, std::string_view text) {
  return bson_append_utf8(&out, key.data, key.bytes, text.data(), static_cast<int>(text.size()));
}

bool append_number(bson_t& out, Key key, std::string_view token) {
  const char* const end = token.data() + token.size();
  if (int64_t integer = 0; std::from_chars(token.data(), end, integer) == std::from_chars_result{end, std::errc()}) {
    return bson_append_int64(&out, key.data, key.bytes, integer);
  }
  // An integer that a double would round is one of those that do not fit.
  const bool is_integer = token.find_first_of(".eE") == std::string_view::npos;
  if (double number = 0;
      !is_integer && std::from_chars(token.data(), end, number) == std::from_chars_result{end, std::errc()}) {
    return bson_append_double(&out, key.data, key.bytes, number);
  }
  return append_text(out, key, token);
}

bool append(bson_t& out, Key key, ondemand::value value);

bool append_members(bson_t& out, ondemand::object object) {
  for (auto next : object) {
    ondemand::field field;
    if (std::move(next).get(field) != simdjson::SUCCESS) return false;
    std::string_view key;
    if (field.unescaped_key().get(key) != simdjson::SUCCESS) return false;
    // BSON ends a key with a NUL (bsonspec.org, cstring).
    if (key.contains('\0')) return false;
    if (!append(out, {key.data(), static_cast<int>(key.size())}, field.value())) return false;
  }
  return true;
}

bool append_elements(bson_t& out, ondemand::array array) {
  uint32_t index = 0;
  for (auto next : array) {
    ondemand::value element;
    if (std::move(next).get(element) != simdjson::SUCCESS) return false;
    char buffer[16];
    const char* key = nullptr;
    const size_t bytes = bson_uint32_to_string(index++, &key, buffer, sizeof buffer);
    if (!append(out, {key, static_cast<int>(bytes)}, element)) return false;
  }
  return true;
}

bool append_object(bson_t& out, Key key, ondemand::value value) {
  ondemand::object object;
  bson_t inner;
  if (value.get_object().get(object) != simdjson::SUCCESS) return false;
  if (!bson_append_document_begin(&out, key.data, key.bytes, &inner)) return false;
  const bool appended = append_members(inner, object);
  return bson_append_document_end(&out, &inner) && appended;
}

bool append_array(bson_t& out, Key key, ondemand::value value) {
  ondemand::array array;
  bson_t inner;
  if (value.get_array().get(array) != simdjson::SUCCESS) return false;
  if (!bson_append_array_begin(&out, key.data, key.bytes, &inner)) return false;
  const bool appended = append_elements(inner, array);
  return bson_append_array_end(&out, &inner) && appended;
}

bool append_string(bson_t& out, Key key, ondemand::value value) {
  std::string_view text;
  return value.get_string().get(text) == simdjson::SUCCESS && append_text(out, key, text);
}

bool append_scalar(bson_t& out, Key key, ondemand::value value) {
  std::string_view token = value.raw_json_token();  // with the white space after it
  token = token.substr(0, token.find_last_not_of(" \t\r\n") + 1);
  if (token == "null") return bson_append_null(&out, key.data, key.bytes);
  if (token == "true" || token == "false") return bson_append_bool(&out, key.data, key.bytes, token == "true");
  return append_number(out, key, token);
}

bool append(bson_t& out, Key key, ondemand::value value) {
  if (out.len > kBsonBytesMax) return false;
  ondemand::json_type type{};
  if (value.type().get(type) != simdjson::SUCCESS) return false;
  switch (type) {
    case ondemand::json_type::object: return append_object(out, key, value);
    case ondemand::json_type::array: return append_array(out, key, value);
    case ondemand::json_type::string: return append_string(out, key, value);
    default: return append_scalar(out, key, value);
  }
}

}  // namespace

struct BsonConverter::Parser {
  ondemand::parser ondemand;
  std::string text;
};

BsonConverter::BsonConverter() : parser_(std::make_unique<Parser>()) {}
BsonConverter::~BsonConverter() = default;

Bson BsonConverter::convert(std::string_view json) {
  std::string& text = parser_->text;
  text.reserve(json.size() + simdjson::SIMDJSON_PADDING);
  text = json;
  ondemand::document document;
  ondemand::object object;
  if (parser_->ondemand.iterate(text.data(), text.size(), text.capacity()).get(document) != simdjson::SUCCESS ||
      document.get_object().get(object) != simdjson::SUCCESS) {
    return Bson(nullptr);
  }
  Bson out;
  if (!append_members(*out, object) || out.get()->len > kBsonBytesMax) return Bson(nullptr);
  return out;
}

}  // namespace kiln::store
