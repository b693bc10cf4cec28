// One GET over a connection of its own, with plain sockets on the calling thread: for what is asked beside a load.
#pragma once

#include <chrono>
#include <functional>
#include <span>
#include <string>

#include "base/fd.h"
#include "base/result.h"
#include "core/engine.h"
#include "http/url.h"

namespace kiln::load {

struct Fetched {
  int status = 0;
  std::string pod;       // by X-Pod-Name; empty when it does not say
  std::string location;  // by Location, likewise
  std::string body;
};

// At most 16 MiB. An error when nobody answers there, when it is no HTTP/1.1, or not whole within `timeout`.
[[nodiscard]] base::Result<Fetched> fetch(const http::Url& url, std::chrono::nanoseconds timeout);

struct Connected {
  base::Fd socket;  // does not block
  core::SocketAddress address;
};

// To the first of the addresses that somebody answers at; one that is silent takes no time from those behind it.
// `interrupted` is asked ten times a second, and true ends it with EINTR.
[[nodiscard]] base::Result<Connected> connect(std::span<const core::SocketAddress> addresses,
                                              std::chrono::nanoseconds timeout,
                                              const std::function<bool()>& interrupted = {});
// To those of the host.
[[nodiscard]] base::Result<Connected> connect(const http::Url& url, std::chrono::nanoseconds timeout,
                                              const std::function<bool()>& interrupted = {});

}  // namespace kiln::load
