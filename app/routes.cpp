// The handlers of the routes. Each answers before it returns, but for a burn, which answers when it is burned.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
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
constexpr core::Duration kLoadDefault = std::chrono::milliseconds(5);

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
  burn::Amount amount = {};
  int status = 0;  // not 0: refused
  std::string detail = {};
};

LoadRequest bad_load(std::string detail) { return {.status = 400, .detail = std::move(detail)}; }

// One parameter of a /load. Returns what is wrong with it, or nothing.
std::string read_parameter(const http::Parameter& parameter, core::Duration load_max, burn::Amount& amount) {
  const auto& [name, value] = parameter;
  if (name == "ms") {
    const auto ms = base::parse_decimal(value);
    if (!ms) {
      return fmt::format("ms is '{}', which is no number of milliseconds from 0 to {:g}.", value,
                         milliseconds(load_max));
    }
    if (*ms > milliseconds(load_max)) return fmt::format("ms is {:g}; the most is {:g}.", *ms, milliseconds(load_max));
    amount.cpu = core::Duration(static_cast<int64_t>(*ms * 1e6 + 0.5));
  } else if (name == "units") {
    const auto units = base::parse_integer(value);
    if (!units || *units == 0) return fmt::format("units is '{}', which is no whole number from 1.", value);
    amount.units = *units;
  } else if (name == "overhead") {
    if (value != "extra" && value != "included") {
      return fmt::format("overhead is '{}'; it is 'included' in the budget or 'extra'.", value);
    }
    amount.serving = value == "extra" ? burn::Serving::OnTop : burn::Serving::Included;
  } else {
    return fmt::format("Unknown parameter '{}'; there are ms, units and overhead.", name);
  }
  return {};
}

LoadRequest parse_load(const http::Request& request, core::Duration load_max) {
  std::string form(request.head.query);
  if (!request.body.empty()) {
    const auto type = request.head.find("content-type");
    const std::string_view media = type ? type->substr(0, std::min(type->find(';'), type->size())) : std::string_view{};
    if (media != kForm) return {.status = 415, .detail = fmt::format("A body must be {}.", kForm)};
    if (!form.empty()) form += '&';
    form += request.body;
  }
  LoadRequest load{.amount = {.cpu = std::min(kLoadDefault, load_max), .serving = burn::Serving::Included}};
  if (form.empty()) return load;
  const auto parameters = http::parse_form(form);
  if (!parameters) return bad_load("A percent sign that no two hexadecimal digits follow.");
  for (auto parameter = parameters->begin(); parameter != parameters->end(); ++parameter) {
    if (std::ranges::find(parameters->begin(), parameter, parameter->name, &http::Parameter::name) != parameter) {
      return bad_load(fmt::format("{} is given twice.", parameter->name));
    }
    if (std::string wrong = read_parameter(*parameter, load_max, load.amount); !wrong.empty()) {
      return bad_load(std::move(wrong));
    }
  }
  if (load.amount.units > 0) {
    if (std::ranges::find(*parameters, "ms", &http::Parameter::name) != parameters->end()) {
      return bad_load("ms and units exclude each other.");
    }
    load.amount.serving = burn::Serving::OnTop;  // units are work, and have no budget to pay from
  }
  return load;
}

// What /load tells of a burn. Every part is to the microsecond, and the parts add up:
// requested = burned + overhead + carried.
struct LoadFigures {
  core::Duration requested, burned, overhead, carried, queued, wall;
  uint64_t units = 0;

  LoadFigures(const burn::BurnResult& result, core::Duration serving, uint64_t work)
      : requested(shown(result.requested)),
        burned(shown(result.burned)),
        overhead(std::min(shown(serving), requested)),
        carried(requested - burned - overhead),
        queued(shown(result.queued)),
        wall(shown(result.wall)),
        units(work) {}
};

std::string load_body(const Identity& identity, const LoadFigures& figures) {
  const std::string units = figures.units == 0
                                ? std::string()
                                : fmt::format(R"("units":{},"unit_version":{},)", figures.units, burn::kUnitVersion);
  return fmt::format(
      R"({{{}"requested_ms":{:.3f},"burned_ms":{:.3f},"overhead_ms":{:.3f},"carried_ms":{:.3f},"queue_ms":{:.3f},)"
      R"("wall_ms":{:.3f},"pod_name":"{}","node_name":"{}"}})",
      units, milliseconds(figures.requested), milliseconds(figures.burned), milliseconds(figures.overhead),
      milliseconds(figures.carried), milliseconds(figures.queued), milliseconds(figures.wall),
      http::json_escape(identity.pod_name), http::json_escape(identity.node_name));
}

}  // namespace

// ab counts an answer of another length as a failed request: blanks fill up to the widest one.
size_t load_body_bytes_max(const Identity& identity) {
  constexpr core::Duration kWide = std::chrono::hours(99'999);
  LoadFigures widest({.requested = kWide, .burned = kWide, .queued = kWide, .wall = kWide}, kWide,
                     std::numeric_limits<uint64_t>::max());
  widest.carried = -kWide;
  return load_body(identity, widest).size();
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
  // Its figures are of this second, and of the last sample.
  const InfoOf of{second_, pod_.usage.samples()};
  if (std::exchange(info_of_, of) != of) info_.refresh(loop_.now());
  answer(reply, {.content_type = kJson, .body = info_.at(unix_milliseconds_), .close = fresh});
}

void Worker::load(const http::Request& request, http::Reply& reply) {
  const LoadRequest asked = parse_load(request, pod_.settings.load_max);
  if (asked.status != 0) {
    return problem(reply, asked.status, asked.status == 415 ? "Unsupported Media Type" : "Bad Request", asked.detail);
  }
  const uint64_t units = asked.amount.units;
  if (units > 0 && burner_.time_of(units) > pod_.settings.load_max) {
    const double most = std::floor(burner_.units_a_second() * milliseconds(pod_.settings.load_max) / 1000);
    return problem(reply, 400, "Bad Request",
                   fmt::format("units is {}; this machine does about {:.0f} in the {:g} ms that are the most.", units,
                               most, milliseconds(pod_.settings.load_max)));
  }
  current_->units = units;
  if (!begin_burn(*current_, asked.amount)) refuse_burn(reply);
}

void Worker::refuse_burn(http::Reply& reply) {
  problem(reply, 503, "Service Unavailable", "Too much CPU time waits to be burned already (--burn-queue).",
          "Retry-After: 1\r\n");
}

void Worker::answer_load(const Session& s, http::Reply& reply, const burn::BurnResult& result) {
  const LoadFigures figures(result, s.pays ? result.paid + s.received_share : core::Duration(0), s.units);
  std::string body = load_body(pod_.identity, figures);
  body.resize(std::max(body.size(), load_body_bytes_), ' ');
  body += '\n';
  const std::string timing = fmt::format(
      "Server-Timing: requested;dur={:.3f}, burned;dur={:.3f}, overhead;dur={:.3f}, carried;dur={:.3f}, "
      "queue;dur={:.3f}, wall;dur={:.3f}\r\n",
      milliseconds(figures.requested), milliseconds(figures.burned), milliseconds(figures.overhead),
      milliseconds(figures.carried), milliseconds(figures.queued), milliseconds(figures.wall));
  answer(reply, {.content_type = kJson, .body = body, .fields = timing});
}

void Worker::echo(const http::Request& request, http::Reply& reply) {
  const auto type = request.head.find("content-type");
  answer(reply, {.content_type = type && !type->empty() ? *type : "application/octet-stream", .body = request.body});
}

void Worker::probe(const http::Request& request, http::Reply& reply, std::string_view check, bool passed,
                   std::string_view why_not, std::string_view beside) {
  std::string body = passed ? "ok\n" : std::string(why_not) + "\n";
  if (flag(request.head.query, "verbose")) {
    body = passed ? fmt::format("[+] {} ok\n{}{} check passed\n", check, beside, check)
                  : fmt::format("[-] {} failed: {}\n{}{} check failed\n", check, why_not, beside, check);
  }
  answer(reply,
         {.status = passed ? 200 : 503, .content_type = kText, .body = body, .fields = "Cache-Control: no-store\r\n"});
}

void Worker::live(const http::Request& request, http::Reply& reply) {
  const bool is_healthy = !pod_.faults.is_active(FaultKind::Unhealthy, loop_.now());
  probe(request, reply, "loop", is_healthy, "unhealthy by a fault; GET /fault tells more");
}

void Worker::ready(const http::Request& request, http::Reply& reply) {
  const Life life = pod_.life.load(std::memory_order_relaxed);
  // A pod without its records still serves everything else.
  std::string beside;
  if (pod_.store != nullptr && !request.head.query.empty()) {
    const std::string why_not = pod_.store->why_not();
    beside = why_not.empty() ? "[+] store ok\n" : fmt::format("[-] store failed: {} (ready all the same)\n", why_not);
  }
  const bool is_faulty = life == Life::Ready && pod_.faults.is_active(FaultKind::Unready, loop_.now());
  std::string_view why_not = "starting";
  if (life == Life::Draining) why_not = "draining";
  if (is_faulty) why_not = "unready by a fault; GET /fault tells more";
  probe(request, reply, "accepting", life == Life::Ready && !is_faulty, why_not, beside);
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
