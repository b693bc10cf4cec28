// A parsed request. Every view points into the bytes that were parsed and dies with them.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "http/limits.h"

namespace kiln::http {

enum class Method : uint8_t { Get, Head, Post, Put, Delete, Connect, Options, Trace, Patch, Other };

// "GET", …; "other" for Method::Other, whatever the client called it: no client chooses a label.
std::string_view method_name(Method method);

enum class TargetForm : uint8_t { Origin, Absolute, Authority, Asterisk };  // RFC 9112 section 3.2

enum class Framing : uint8_t { None, Length, Chunked };  // of the body, RFC 9112 section 6

struct Field {
  std::string_view name;
  std::string_view value;  // without surrounding white space
};

struct RequestHead {
  Method method = Method::Other;
  TargetForm form = TargetForm::Origin;
  Framing framing = Framing::None;
  uint8_t minor_version = 1;       // HTTP/1.x; a higher minor than 1 counts as 1 (RFC 9110 section 2.5)
  bool keep_alive = true;          // true when the client lets the connection persist (RFC 9112 section 9.3)
  bool expects_continue = false;   // true when it waits for 100 before the body (RFC 9110 section 10.1.1)
  uint64_t content_length = 0;     // with Framing::Length
  std::string_view method_text;    // as sent
  std::string_view target;         // as sent
  std::string_view path;           // raw, starts with '/'; "*" in asterisk-form, empty in authority-form
  std::string_view query;          // raw, what follows the first '?'
  std::string_view host;           // the authority in force: the target's in absolute-form, else Host's

  [[nodiscard]] std::span<const Field> fields() const { return {field_storage.data(), field_count}; }

  // The first field of that name (ASCII case does not matter).
  [[nodiscard]] std::optional<std::string_view> find(std::string_view name) const;

  // Written by the parser only.
  std::array<Field, kFieldsCapacity> field_storage;
  size_t field_count = 0;
};

struct Request {
  const RequestHead& head;
  std::string_view body;  // decoded
};

}  // namespace kiln::http
