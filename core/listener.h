// Listening sockets. What accepted sockets inherit is set here once, so that a connection costs no setsockopt.
#pragma once

#include <cstdint>
#include <string>

#include "base/fd.h"
#include "base/result.h"

namespace kiln::core {

struct ListenOptions {
  std::string address = {};  // numeric; empty: every address, IPv6 and IPv4
  uint16_t port = 0;         // 0: the system chooses
  int backlog = 512;
  bool share_port = false;  // true: one listener a worker on the same port (SO_REUSEPORT, socket(7))
};

[[nodiscard]] base::Result<base::Fd> listen(const ListenOptions& options);

// The port a listener is bound to.
[[nodiscard]] uint16_t port_of(int listener);

// "127.0.0.1:40312" or "[::1]:40312"; empty when unknown. For logs.
[[nodiscard]] std::string peer_of(int socket);

}  // namespace kiln::core
