// A client's JSON as BSON, for people who look into the database; for nothing else, since it is not the same:
//
//   - an integer of 64 bits is an int64, any other number a double, and one that fits neither a string;
//   - there is no BSON at all when a key holds a NUL, or when it would be larger than kBsonBytesMax.
//
// Nothing in it is interpreted: {"$oid": ...} is an object with such a key.
#pragma once

#include <bson/bson.h>

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace kiln::store {

// A document of ours, or none. (No unique_ptr: gcc does not take bson_t's alignment into a template's argument.)
class Bson {
 public:
  Bson() : it_(bson_new()) {}
  explicit Bson(std::nullptr_t) {}
  Bson(const Bson&) = delete;
  Bson& operator=(const Bson&) = delete;
  Bson(Bson&& other) noexcept : it_(std::exchange(other.it_, nullptr)) {}
  Bson& operator=(Bson&& other) noexcept {
    std::swap(it_, other.it_);
    return *this;
  }
  ~Bson() { bson_destroy(it_); }

  explicit operator bool() const { return it_ != nullptr; }
  [[nodiscard]] bson_t& operator*() const { return *it_; }
  [[nodiscard]] bson_t* get() const { return it_; }

 private:
  bson_t* it_ = nullptr;
};

// An array of many small numbers takes seven times its text.
inline constexpr size_t kBsonBytesMax = 1024 * 1024;

class BsonConverter {
 public:
  BsonConverter();
  BsonConverter(const BsonConverter&) = delete;
  BsonConverter& operator=(const BsonConverter&) = delete;
  ~BsonConverter();

  // `json` is an object that DocumentReader takes. Nothing when it has no BSON.
  [[nodiscard]] Bson convert(std::string_view json);

 private:
  struct Parser;
  std::unique_ptr<Parser> parser_;  // reused: it keeps its buffers
};

}  // namespace kiln::store
