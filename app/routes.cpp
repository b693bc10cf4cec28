// The handlers of the routes. Each answers before it returns, but for a burn, which answers when it is burned.
#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "app/pod.h"
#include "app/worker.h"
#include "base/quantity.h"
#include "http/target.h"
#include "web/openapi.json.h"

namespace kiln::app {

namespace {

constexpr std::string_view kText = "text/plain; charset=utf-8";
constexpr std::string_view kJson = "application/json";
constexpr std::string_view kHtml = "text/html; charset=utf-8";
constexpr std::string_view kForm = "application/x-www-form-urlencoded";
constexpr double kLoadDefaultMilliseconds = 5;

// The page is one file of ours: it loads nothing and sends only to the server it came from.
constexpr std::string_view kPageFields =
    "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n"
    "X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\nVary: Accept\r\n";

// True when a browser asks: it names text/html (with whatever weight), which curl and ab do not.
bool accepts_html(const http::RequestHead& head) {
  const auto accept = head.find("accept");
  return accept && accept->find("text/html") != std::string_view::npos;
}

bool has_parameter(std::string_view query, std::string_view name) {
  while (!query.empty()) {
    const size_t end = std::min(query.find('&'), query.size());
    const std::string_view pair = query.substr(0, end);
    if (pair.substr(0, std::min(pair.find('='), pair.size())) == name) return true;
    query.remove_prefix(std::min(end + 1, query.size()));
  }
  return false;
}

// "fresh=1" and "verbose": a flag is on unless it says 0 or false.
bool flag(std::string_view query, std::string_view name) {
  if (!has_parameter(query, name)) return false;
  const auto parameters = http::parse_form(query);
  if (!parameters) return false;
  const auto at = std::ranges::find(*parameters, name, &http::Parameter::name);
  return at != parameters->end() && at->value != "0" && at->value != "false";
}

double milliseconds(core::Duration duration) { return std::chrono::duration<double, std::milli>(duration).count(); }

// To the microsecond that is shown, so that the parts shown add up and nothing is "-0.000".
core::Duration shown(core::Duration duration) { return std::chrono::round<std::chrono::microseconds>(duration); }

// What a /load asks for, or why it cannot be had.
struct LoadRequest {
  core::Duration burn{};
  int status = 0;  // not 0: refused
  std::string detail = {};
};

LoadRequest parse_load(const http::Request& request, core::Duration load_max) {
  std::string form(request.head.query);
  if (!request.body.empty()) {
    const auto type = request.head.find("content-type");
    const std::string_view media = type ? type->substr(0, std::min(type->find(';'), type->size())) : std::string_view{};
    if (media != kForm) return {.status = 415, .detail = fmt::format("A body must be {}.", kForm)};
    if (!form.empty()) form += '&';
    form += request.body;
  }
  const auto parameters = http::parse_form(form);
  if (!parameters) return {.status = 400, .detail = "A percent sign that no two hexadecimal digits follow."};

  std::optional<double> asked;
  for (const http::Parameter& parameter : *parameters) {
    if (parameter.name != "ms") {
      return {.status = 400, .detail = fmt::format("Unknown parameter '{}'; there is ms.", parameter.name)};
    }
    if (asked) return {.status = 400, .detail = "ms is given twice."};
    const auto value = base::parse_decimal(parameter.value);
    if (!value) {
      return {.status = 400,
              .detail = fmt::format("ms is '{}', which is no number of milliseconds from 0 to {:g}.", parameter.value,
                                    milliseconds(load_max))};
    }
    asked = *value;
  }
  const double ms = asked.value_or(std::min(kLoadDefaultMilliseconds, milliseconds(load_max)));
  if (ms > milliseconds(load_max)) {
    return {.status = 400, .detail = fmt::format("ms is {:g}; the most is {:g}.", ms, milliseconds(load_max))};
  }
  return {.burn = core::Duration(static_cast<int64_t>(ms * 1e6 + 0.5))};
}

std::string load_body(const Identity& identity, const burn::BurnResult& result) {
  const core::Duration requested = shown(result.requested);
  const core::Duration burned = shown(result.burned);
  return fmt::format(
      R"({{"requested_ms":{:.3f},"burned_ms":{:.3f},"overhead_ms":null,"carried_ms":{:.3f},"queue_ms":{:.3f},)"
      R"("wall_ms":{:.3f},"pod_name":"{}","node_name":"{}"}})",
      milliseconds(requested), milliseconds(burned), milliseconds(requested - burned),
      milliseconds(shown(result.queued)), milliseconds(shown(result.wall)), http::json_escape(identity.pod_name),
      http::json_escape(identity.node_name));
}

}  // namespace

// ab counts an answer of another length as a failed request: blanks fill up to the widest one.
size_t load_body_bytes_max(const Identity& identity) {
  constexpr core::Duration kWide = std::chrono::hours(99'999);
  return load_body(identity, {.requested = kWide, .burned = kWide, .queued = kWide, .wall = kWide}).size();
}

void Worker::get_root(const http::Request& request, http::Reply& reply) {
  if (accepts_html(request.head)) {
    // A plain reload shall meet another pod, so the connection is not kept.
    return answer(reply, {.content_type = kHtml, .body = pod_.page, .fields = kPageFields, .close = true});
  }
  answer(reply, {.content_type = kText, .body = pod_.hello, .fields = "Vary: Accept\r\n"});
}

void Worker::get_info(const http::Request& request, http::Reply& reply) {
  const bool fresh = !request.head.query.empty() && flag(request.head.query, "fresh");
  answer(reply, {.content_type = kJson, .body = info_.at(unix_milliseconds_), .close = fresh});
}

void Worker::load(const http::Request& request, http::Reply& reply) {
  const LoadRequest asked = parse_load(request, pod_.settings.load_max);
  if (asked.status != 0) {
    return problem(reply, asked.status, asked.status == 415 ? "Unsupported Media Type" : "Bad Request", asked.detail);
  }
  Session& s = *current_;
  s.burn = burner_.submit(asked.burn, [this, id = s.id](const burn::BurnResult& result) {
    loop_.post([this, id, result] { finish_load(id, result); });
  });
  if (!s.burn) {
    problem(reply, 503, "Service Unavailable", "Too much CPU time waits to be burned already (--burn-queue).",
            "Retry-After: 1\r\n");
  }
}

void Worker::finish_load(core::ConnectionId id, const burn::BurnResult& result) {
  core::Connection* connection = loop_.find(id);
  if (connection == nullptr) return;
  Session& s = session(*connection);
  s.burn.reset();
  http::Reply reply(s.exchange, connection->output());
  if (result.outcome == burn::Outcome::Done) {
    std::string body = load_body(pod_.identity, result);
    body.resize(std::max(body.size(), load_body_bytes_), ' ');
    body += '\n';
    const core::Duration requested = shown(result.requested);
    const core::Duration burned = shown(result.burned);
    const std::string timing = fmt::format(
        "Server-Timing: requested;dur={:.3f}, burned;dur={:.3f}, carried;dur={:.3f}, queue;dur={:.3f}, "
        "wall;dur={:.3f}\r\n",
        milliseconds(requested), milliseconds(burned), milliseconds(requested - burned),
        milliseconds(shown(result.queued)), milliseconds(shown(result.wall)));
    answer(reply, {.content_type = kJson, .body = body, .fields = timing});
  } else if (result.outcome == burn::Outcome::Cancelled) {
    problem(reply, 503, "Service Unavailable", "The burn was cancelled: this pod is going away.", "Retry-After: 1\r\n");
  } else {
    problem(reply, 500, "Internal Server Error", "The CPU clock of this machine stands still.");
  }
  follow(*connection, s);
  connection->resume();
}

void Worker::echo(const http::Request& request, http::Reply& reply) {
  const auto type = request.head.find("content-type");
  answer(reply, {.content_type = type && !type->empty() ? *type : "application/octet-stream", .body = request.body});
}

void Worker::probe(const http::Request& request, http::Reply& reply, std::string_view check, bool passed,
                   std::string_view why_not) {
  std::string body = passed ? "ok\n" : std::string(why_not) + "\n";
  if (flag(request.head.query, "verbose")) {
    body = passed ? fmt::format("[+] {} ok\n{} check passed\n", check, check)
                  : fmt::format("[-] {} failed: {}\n{} check failed\n", check, why_not, check);
  }
  answer(reply,
         {.status = passed ? 200 : 503, .content_type = kText, .body = body, .fields = "Cache-Control: no-store\r\n"});
}

void Worker::live(const http::Request& request, http::Reply& reply) { probe(request, reply, "loop", true, {}); }

void Worker::ready(const http::Request& request, http::Reply& reply) {
  const Life life = pod_.life.load(std::memory_order_relaxed);
  probe(request, reply, "accepting", life == Life::Ready, life == Life::Draining ? "draining" : "starting");
}

void Worker::started(const http::Request& request, http::Reply& reply) {
  probe(request, reply, "started", pod_.life.load(std::memory_order_relaxed) != Life::Starting, "starting");
}

void Worker::get_metrics(const http::Request& /*request*/, http::Reply& reply) {
  const std::string text = render_metrics(pod_, labels_);
  answer(reply, {.content_type = "text/plain; version=0.0.4; charset=utf-8", .body = text, .chunked = true});
}

void Worker::get_version(const http::Request& /*request*/, http::Reply& reply) {
  answer(reply, {.content_type = kJson, .body = pod_.version_json});
}

void Worker::get_openapi(const http::Request& /*request*/, http::Reply& reply) {
  answer(reply, {.content_type = kJson, .body = kOpenApiJson});
}

}  // namespace kiln::app
