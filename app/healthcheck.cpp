// `kiln healthcheck`: one GET with plain blocking sockets. The image has no shell and no curl.
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <cerrno>
#include <cstdio>
#include <string>
#include <string_view>

#include "app/verbs.h"
#include "base/fd.h"
#include "base/quantity.h"
#include "base/result.h"
#include "core/resolve.h"
#include "http/request_writer.h"
#include "http/url.h"

namespace kiln::app {

namespace {

base::Result<base::Fd> connect_to(const http::Url& url) {
  const auto addresses = core::resolve(url.host, url.port);
  if (!addresses) return std::unexpected(addresses.error());
  int code = ECONNREFUSED;
  for (const core::SocketAddress& address : *addresses) {
    base::Fd fd(::socket(address.get()->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const timeval limit{.tv_sec = 2, .tv_usec = 0};
    ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (fd.valid() && ::connect(fd.get(), address.get(), address.size) == 0) return fd;
    code = errno;
  }
  return base::system_error(fmt::format("connecting to {}", url.authority), code);
}

// The status of a GET; the rest of the answer does not matter.
base::Result<int> get_status(const http::Url& url) {
  auto fd = connect_to(url);
  if (!fd) return std::unexpected(std::move(fd.error()));
  const http::Field agent{.name = "User-Agent", .value = "kiln-healthcheck"};
  std::string request;
  http::write_request_head(
      {.target = url.target, .host = url.authority, .fields = {&agent, 1}, .keep_alive = false}, request);
  if (::send(fd->get(), request.data(), request.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(request.size())) {
    return base::system_error("sending the request", errno);
  }
  constexpr size_t kStatusLineBytes = 12;  // "HTTP/1.1 200"
  std::string line(kStatusLineBytes, '\0');
  const ssize_t got = ::recv(fd->get(), line.data(), line.size(), MSG_WAITALL);
  if (got < 0) return base::system_error("waiting for the answer", errno == EAGAIN ? ETIMEDOUT : errno);
  if (got != static_cast<ssize_t>(kStatusLineBytes) || !line.starts_with("HTTP/1.")) {
    return base::error("the answer is not HTTP/1");
  }
  const auto status = base::parse_integer(std::string_view(line).substr(9));
  if (!status) return base::error("the answer is not HTTP/1");
  return static_cast<int>(*status);
}

// Where the server of this environment is ready: the settings are read as the server reads them.
base::Result<std::string> own_url(const Environment& environment) {
  auto settings = serve_settings();
  const auto resolved = resolve(settings, environment);
  if (!resolved) return std::unexpected(resolved.error());
  const std::string host = resolved->address.empty()                          ? "127.0.0.1"
                           : resolved->address.find(':') == std::string::npos ? resolved->address
                                                                              : "[" + resolved->address + "]";
  return fmt::format("http://{}:{}/readyz", host, resolved->admin_port.value_or(resolved->port));
}

}  // namespace

int healthcheck(std::string url, const Environment& environment) {
  if (url.empty()) {
    auto own = own_url(environment);
    if (!own) {
      fmt::print(stderr, "kiln healthcheck: {}\n", own.error().what);
      return 2;
    }
    url = *own;
  }
  const http::UrlResult parsed = http::parse_url(url);
  if (parsed.fault != http::UrlFault::None) {
    fmt::print(stderr, "kiln healthcheck: '{}': {}; accepted: http://HOST[:PORT][/PATH]\n", url,
               http::url_fault_text(parsed.fault));
    return 2;
  }
  const auto status = get_status(parsed.url);
  if (!status) {
    fmt::print(stderr, "kiln healthcheck: {}: {}\n", url, status.error().what);
    return 1;
  }
  fmt::print("{} {}\n", *status, url);
  return *status == 200 ? 0 : 1;
}

}  // namespace kiln::app
