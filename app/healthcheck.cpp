// `kiln healthcheck`: one GET. The image has no shell and no curl.
#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <string>

#include "app/verbs.h"
#include "base/result.h"
#include "http/url.h"
#include "load/fetch.h"

namespace kiln::app {

namespace {

constexpr std::chrono::seconds kTimeout{2};

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
  http::UrlResult parsed = http::parse_url(url);
  if (parsed.fault != http::UrlFault::None) {
    fmt::print(stderr, "kiln healthcheck: '{}': {}; accepted: http://HOST[:PORT][/PATH]\n", url,
               http::url_fault_text(parsed.fault));
    return 2;
  }
  if (parsed.url.target == "/") {
    parsed.url.target = "/readyz";
    url = "http://" + parsed.url.authority + parsed.url.target;
  }
  const auto answer = load::fetch(parsed.url, kTimeout);
  if (!answer) {
    fmt::print(stderr, "kiln healthcheck: {}: {}\n", url, answer.error().what);
    return 1;
  }
  fmt::print("{} {}\n", answer->status, url);
  return answer->status == 200 ? 0 : 1;
}

}  // namespace kiln::app
