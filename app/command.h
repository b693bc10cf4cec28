// Who may command: hold CPU or memory, and the like.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "http/request.h"

namespace kiln::app {

enum class Verdict : uint8_t {
  Allowed,
  ForeignOrigin,  // a page from elsewhere sends it, through the browser of somebody who may reach us
  NoToken,        // there is a token, and the request does not bring it
};

Verdict judge_command(const http::RequestHead& head, const std::optional<std::string>& token);

// What may follow "Bearer" (RFC 6750 section 2.1): letters, digits and -._~+/, then any number of '='. Not empty.
bool is_bearer_token(std::string_view text);

}  // namespace kiln::app
