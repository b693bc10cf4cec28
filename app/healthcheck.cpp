// `kiln healthcheck`: one GET with plain blocking sockets. The image has no shell and no curl.
#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>

#include "app/verbs.h"
#include "base/fd.h"
#include "base/quantity.h"
#include "base/result.h"

namespace kiln::app {

namespace {

struct Target {
  std::string host;
  std::string port = "80";
  std::string path = "/";
};

base::Result<Target> parse_url(std::string_view url) {
  constexpr std::string_view kScheme = "http://";
  if (!url.starts_with(kScheme)) return base::error(fmt::format("'{}' is not an http:// URL", url));
  url.remove_prefix(kScheme.size());
  Target target;
  const size_t slash = std::min(url.find('/'), url.size());
  std::string_view authority = url.substr(0, slash);
  if (slash < url.size()) target.path = url.substr(slash);
  const size_t bracket = authority.find(']');
  const size_t colon = authority.find(':', bracket == std::string_view::npos ? 0 : bracket);
  if (colon != std::string_view::npos) {
    target.port = authority.substr(colon + 1);
    authority = authority.substr(0, colon);
  }
  if (authority.starts_with('[')) authority = authority.substr(1, authority.size() - 2);
  target.host = authority;
  const auto port = base::parse_integer(target.port);
  if (target.host.empty() || !port || *port == 0 || *port > 65535) {
    return base::error(fmt::format("'{}' has no host, or a port that is not between 1 and 65535", authority));
  }
  return target;
}

base::Result<base::Fd> connect_to(const Target& target) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const int error = ::getaddrinfo(target.host.c_str(), target.port.c_str(), &hints, &found); error != 0) {
    return base::error(fmt::format("{}: {}", target.host, ::gai_strerror(error)));
  }
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> list(found, ::freeaddrinfo);
  int code = ECONNREFUSED;
  for (const addrinfo* at = list.get(); at != nullptr; at = at->ai_next) {
    base::Fd fd(::socket(at->ai_family, at->ai_socktype | SOCK_CLOEXEC, at->ai_protocol));
    const timeval limit{.tv_sec = 2, .tv_usec = 0};
    ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (fd.valid() && ::connect(fd.get(), at->ai_addr, at->ai_addrlen) == 0) return fd;
    code = errno;
  }
  return base::system_error(fmt::format("connecting to {}:{}", target.host, target.port), code);
}

// The status of a GET; the rest of the answer does not matter.
base::Result<int> get_status(const Target& target) {
  auto fd = connect_to(target);
  if (!fd) return std::unexpected(std::move(fd.error()));
  const std::string request =
      fmt::format("GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: kiln-healthcheck\r\nConnection: close\r\n\r\n",
                  target.path, target.host.find(':') == std::string::npos ? target.host : "[" + target.host + "]");
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
  const auto target = parse_url(url);
  if (!target) {
    fmt::print(stderr, "kiln healthcheck: {}; accepted: http://HOST[:PORT][/PATH]\n", target.error().what);
    return 2;
  }
  const auto status = get_status(*target);
  if (!status) {
    fmt::print(stderr, "kiln healthcheck: {}: {}\n", url, status.error().what);
    return 1;
  }
  fmt::print("{} {}\n", *status, url);
  return *status == 200 ? 0 : 1;
}

}  // namespace kiln::app
