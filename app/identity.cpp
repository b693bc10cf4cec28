#include "app/identity.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>

#include "base/quantity.h"

namespace kiln::app {

namespace {

std::string host_name() {
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) != 0 || name[0] == '\0') return "localhost";
  return name.data();
}

// The first address of an interface that is up and not the loopback; IPv4 first.
std::string first_address() {
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return {};
  std::string v4;
  std::string v6;
  for (const ifaddrs* at = list; at != nullptr; at = at->ifa_next) {
    if (at->ifa_addr == nullptr || (at->ifa_flags & IFF_LOOPBACK) != 0 || (at->ifa_flags & IFF_UP) == 0) continue;
    std::array<char, INET6_ADDRSTRLEN> text{};
    if (at->ifa_addr->sa_family == AF_INET && v4.empty()) {
      sockaddr_in in{};
      std::memcpy(&in, at->ifa_addr, sizeof in);
      v4 = ::inet_ntop(AF_INET, &in.sin_addr, text.data(), text.size());
    } else if (at->ifa_addr->sa_family == AF_INET6 && v6.empty()) {
      sockaddr_in6 in{};
      std::memcpy(&in, at->ifa_addr, sizeof in);
      if (!IN6_IS_ADDR_LINKLOCAL(&in.sin6_addr)) v6 = ::inet_ntop(AF_INET6, &in.sin6_addr, text.data(), text.size());
    }
  }
  ::freeifaddrs(list);
  return v4.empty() ? v6 : v4;
}

// They end up in header fields: visible ASCII, no longer than a DNS name.
bool is_sound(std::string_view value) {
  return value.size() <= 253 && std::ranges::all_of(value, [](char c) { return c > ' ' && c < '\x7f'; });
}

}  // namespace

Identity Identity::find(const Environment& environment, uint16_t port) {
  Identity identity;
  const auto read = [&](const char* variable) -> std::string {
    const char* value = environment(variable);
    if (value == nullptr || *value == '\0') return {};
    if (is_sound(value)) return value;
    identity.warnings += std::string(identity.warnings.empty() ? "" : ", ") + variable;
    return {};
  };
  const auto read_millicores = [&](const char* variable) -> std::optional<uint64_t> {
    const std::string text = read(variable);
    if (text.empty()) return std::nullopt;
    const auto value = base::parse_integer(text);
    // The downward API fills in the node's size where a limit is missing, never 0: 0 means nobody told.
    if (value && *value > 0) return *value;
    if (!value) identity.warnings += std::string(identity.warnings.empty() ? "" : ", ") + variable;
    return std::nullopt;
  };

  const std::string address = first_address();
  const auto or_else = [](std::string value, const std::string& otherwise) {
    return value.empty() ? otherwise : value;
  };
  identity.hostname = host_name();
  identity.pod_name = read("POD_NAME");
  identity.in_kubernetes = !identity.pod_name.empty();
  // Two processes on one machine can be told apart by their port.
  if (!identity.in_kubernetes) {
    const bool cluster = environment("KUBERNETES_SERVICE_HOST") != nullptr;
    identity.pod_name = cluster ? identity.hostname : identity.hostname + "-" + std::to_string(port);
  }
  identity.pod_namespace = read("POD_NAMESPACE");
  identity.pod_ip = or_else(read("POD_IP"), address);
  identity.node_name = or_else(read("NODE_NAME"), identity.hostname);
  identity.node_ip = or_else(read("NODE_IP"), address);
  identity.zone = read("NODE_ZONE");
  identity.request_millicores = read_millicores("CPU_REQUEST_MILLI");
  identity.limit_millicores = read_millicores("CPU_LIMIT_MILLI");
  return identity;
}

}  // namespace kiln::app
