// What the heads of requests and of responses have in common (RFC 9112 section 2.1). Every view points into the bytes
// that were parsed and dies with them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "http/limits.h"

namespace kiln::http {

// Of the body, RFC 9112 section 6. UntilClose: of responses alone.
enum class Framing : uint8_t { None, Length, Chunked, UntilClose };

struct Field {
  std::string_view name;
  std::string_view value;  // without surrounding white space
};

struct MessageHead {
  Framing framing = Framing::None;
  uint8_t minor_version = 1;    // HTTP/1.x; a higher minor than 1 counts as 1 (RFC 9110 section 2.5)
  bool keep_alive = true;       // true when the sender lets the connection persist (RFC 9112 section 9.3)
  uint64_t content_length = 0;  // with Framing::Length

  [[nodiscard]] std::span<const Field> fields() const { return {field_storage.data(), field_count}; }

  // The first field of that name (ASCII case does not matter).
  [[nodiscard]] std::optional<std::string_view> find(std::string_view name) const;

  // Written by the parser only.
  std::array<Field, kFieldsCapacity> field_storage;
  size_t field_count = 0;
};

}  // namespace kiln::http
