// Names to the addresses of clients' servers.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "core/engine.h"

namespace kiln::core {

// The stream addresses of a host, best first, at least one (getaddrinfo(3)): a name often has one of IPv6 that nobody
// serves. Blocks while it asks.
[[nodiscard]] base::Result<std::vector<SocketAddress>> resolve(const std::string& host, uint16_t port);

}  // namespace kiln::core
