#include "core/listener.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace kiln::core {

namespace {

struct Address {
  sockaddr_storage storage{};
  socklen_t size = 0;

  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
};

Address ipv4(in_addr address, uint16_t port) {
  Address out;
  sockaddr_in in{};
  in.sin_family = AF_INET;
  in.sin_port = htons(port);
  in.sin_addr = address;
  std::memcpy(&out.storage, &in, sizeof in);
  out.size = sizeof in;
  return out;
}

Address ipv6(const in6_addr& address, uint16_t port) {
  Address out;
  sockaddr_in6 in{};
  in.sin6_family = AF_INET6;
  in.sin6_port = htons(port);
  in.sin6_addr = address;
  std::memcpy(&out.storage, &in, sizeof in);
  out.size = sizeof in;
  return out;
}

void set(int fd, int level, int option, int value) { ::setsockopt(fd, level, option, &value, sizeof value); }

base::Result<base::Fd> listen_at(Address address, const ListenOptions& options, const std::string& name) {
  base::Fd fd(::socket(address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return base::system_error("socket", errno);
  if (address.storage.ss_family == AF_INET6) set(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, options.address.empty() ? 0 : 1);
  set(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1);
  if (options.share_port) set(fd.get(), SOL_SOCKET, SO_REUSEPORT, 1);
  // Inherited by accepted sockets (tcp(7)). Vanished peers are found by keep-alive and by data that nobody
  // acknowledges.
  set(fd.get(), IPPROTO_TCP, TCP_NODELAY, 1);
  set(fd.get(), SOL_SOCKET, SO_KEEPALIVE, 1);
  set(fd.get(), IPPROTO_TCP, TCP_KEEPIDLE, 60);
  set(fd.get(), IPPROTO_TCP, TCP_KEEPINTVL, 10);
  set(fd.get(), IPPROTO_TCP, TCP_KEEPCNT, 3);
  set(fd.get(), IPPROTO_TCP, TCP_USER_TIMEOUT, 30'000);
  // Or else a socket that nobody reads from may take 4 MiB of answers (net.ipv4.tcp_wmem), which the pod is charged.
  set(fd.get(), IPPROTO_TCP, TCP_NOTSENT_LOWAT, 128 * 1024);
  if (::bind(fd.get(), address.get(), address.size) < 0) {
    const int code = errno;
    auto error = base::system_error("listening on " + name, code);
    if (code == EADDRINUSE) error.error().what += "; another program has this port: choose another";
    if (code == EACCES) error.error().what += "; ports below 1024 need a privilege: choose another";
    return error;
  }
  if (::listen(fd.get(), options.backlog) < 0) return base::system_error("listening on " + name, errno);
  return fd;
}

}  // namespace

base::Result<base::Fd> listen(const ListenOptions& options) {
  const std::string port = std::to_string(options.port);
  if (options.address.empty()) {
    auto dual = listen_at(ipv6(in6addr_any, options.port), options, "port " + port);
    // No IPv6 in this kernel or namespace: IPv4 alone.
    if (dual || (dual.error().code != EAFNOSUPPORT && dual.error().code != EADDRNOTAVAIL)) return dual;
    return listen_at(ipv4(in_addr{htonl(INADDR_ANY)}, options.port), options, "port " + port);
  }
  in_addr v4{};
  in6_addr v6{};
  if (::inet_pton(AF_INET, options.address.c_str(), &v4) == 1) {
    return listen_at(ipv4(v4, options.port), options, options.address + ":" + port);
  }
  if (::inet_pton(AF_INET6, options.address.c_str(), &v6) == 1) {
    return listen_at(ipv6(v6, options.port), options, "[" + options.address + "]:" + port);
  }
  return base::error("'" + options.address + "' is not a numeric IPv4 or IPv6 address");
}

uint16_t port_of(int listener) {
  Address address;
  address.size = sizeof address.storage;
  if (::getsockname(listener, address.get(), &address.size) < 0) return 0;
  // sin_port and sin6_port lie at the same place (RFC 3493 section 3.3 and ip(7)).
  sockaddr_in in{};
  std::memcpy(&in, &address.storage, sizeof in);
  return ntohs(in.sin_port);
}

std::string peer_of(int socket) {
  Address address;
  address.size = sizeof address.storage;
  if (::getpeername(socket, address.get(), &address.size) < 0) return {};
  char text[INET6_ADDRSTRLEN] = {};
  if (address.storage.ss_family == AF_INET6) {
    sockaddr_in6 in{};
    std::memcpy(&in, &address.storage, sizeof in);
    const std::string port = std::to_string(ntohs(in.sin6_port));
    if (IN6_IS_ADDR_V4MAPPED(&in.sin6_addr)) {
      ::inet_ntop(AF_INET, &in.sin6_addr.s6_addr[12], text, sizeof text);
      return std::string(text) + ":" + port;
    }
    ::inet_ntop(AF_INET6, &in.sin6_addr, text, sizeof text);
    return "[" + std::string(text) + "]:" + port;
  }
  sockaddr_in in{};
  std::memcpy(&in, &address.storage, sizeof in);
  ::inet_ntop(AF_INET, &in.sin_addr, text, sizeof text);
  return std::string(text) + ":" + std::to_string(ntohs(in.sin_port));
}

}  // namespace kiln::core
