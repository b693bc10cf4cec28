// A parsed request. Every view points into the bytes that were parsed and dies with them.
#pragma once

#include <cstdint>
#include <string_view>

#include "http/message.h"

namespace kiln::http {

enum class Method : uint8_t { Get, Head, Post, Put, Delete, Connect, Options, Trace, Patch, Other };

// "GET", …; "other" for Method::Other, whatever the client called it: no client chooses a label.
std::string_view method_name(Method method);

enum class TargetForm : uint8_t { Origin, Absolute, Authority, Asterisk };  // RFC 9112 section 3.2

struct RequestHead : MessageHead {
  Method method = Method::Other;
  TargetForm form = TargetForm::Origin;
  bool expects_continue = false;  // true when it waits for 100 before the body (RFC 9110 section 10.1.1)
  std::string_view method_text;   // as sent
  std::string_view target;        // as sent
  std::string_view path;          // raw, starts with '/'; "*" in asterisk-form, empty in authority-form
  std::string_view query;         // raw, what follows the first '?'
  std::string_view host;          // the authority in force: the target's in absolute-form, else Host's
};

struct Request {
  const RequestHead& head;
  std::string_view body;  // decoded
};

}  // namespace kiln::http
