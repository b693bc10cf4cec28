#include "app/pod.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <iterator>
#include <limits>
#include <utility>

#include "app/version.h"
#include "http/date.h"
#include "http/response.h"

namespace kiln::app {

namespace {

double unix_seconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

double seconds(burn::Duration duration) { return std::chrono::duration<double>(duration).count(); }

std::string render_version() {
  const BuildFacts& facts = build_facts();
  return fmt::format(R"({{"version":"{}","commit":"{}","compiler":"{}","liburing":"{}"}})", facts.version, facts.commit,
                     http::json_escape(facts.compiler), facts.liburing);
}

std::string html_escape(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      case '\'': out += "&#39;"; break;
      default: out += c;
    }
  }
  return out;
}

void append_number(std::string& out, std::optional<double> value) {
  if (value) {
    fmt::format_to(std::back_inserter(out), "{:.3f}", *value);
  } else {
    out += "null";
  }
}

void append_number(std::string& out, std::optional<uint64_t> value) { out += value ? std::to_string(*value) : "null"; }

void append_text(std::string& out, std::string_view value) {
  out += '"';
  out += http::json_escape(value);
  out += '"';
}

// The figures of /api/info that change.
struct InfoFigures {
  double uptime = 0;
  uint64_t requests = 0;
  UsageSnapshot usage = {};
  std::optional<double> limit_millicores;
  double burned_seconds = 0;
  uint64_t rss_bytes = 0;
  std::optional<burn::Exactness::Figures> exactness = {};
};

// No figure of a real process is wider than these.
InfoFigures widest() {
  constexpr double kWide = 9'999'999'999.999;
  constexpr uint64_t kMany = 999'999'999'999'999;
  InfoFigures figures{
      .uptime = kWide, .requests = kMany, .limit_millicores = kWide, .burned_seconds = kWide, .rss_bytes = kMany};
  figures.exactness = {
      .asked = std::chrono::hours(99'999), .billed = std::chrono::hours(99'999), .error_percent = -kWide};
  figures.usage.used_millicores = figures.usage.used_millicores_15s = kWide;
  figures.usage.throttled_periods = kMany;
  figures.usage.throttled_seconds = kWide;
  figures.usage.memory_limit_bytes = kMany;
  return figures;
}

std::string render_info(const Pod& pod, const InfoFigures& figures, size_t& timestamp_at) {
  const Identity& who = pod.identity;
  std::string out;
  out.reserve(1024);
  const auto text = [&out](std::string_view name, std::string_view value) {
    out += out.empty() ? "{\"" : ",\"";
    out += name;
    out += "\":";
    append_text(out, value);
  };
  const auto number = [&out](std::string_view name, auto value) {
    if (!out.ends_with('{')) out += ',';
    out += '"';
    out += name;
    out += "\":";
    append_number(out, value);
  };
  text("pod_name", who.pod_name);
  text("pod_ip", who.pod_ip);
  text("node_name", who.node_name);
  text("node_ip", who.node_ip);
  text("namespace", who.pod_namespace);
  out += ",\"timestamp\":\"";
  timestamp_at = out.size();
  out += http::rfc3339(0);
  out += '"';
  text("hostname", who.hostname);
  text("zone", who.zone);
  text("version", build_facts().version);
  text("engine", pod.engine);
  text("engine_reason", pod.engine_reason);
  number("workers", std::optional<uint64_t>(pod.workers.size()));
  number("uptime_seconds", std::optional(figures.uptime));
  number("requests_total", std::optional(figures.requests));

  const UsageSnapshot& usage = figures.usage;
  std::optional<double> utilization;
  if (usage.used_millicores && who.request_millicores) {
    utilization = *usage.used_millicores / static_cast<double>(*who.request_millicores) * 100;
  }
  out += ",\"cpu\":{";
  number("request_millicores", who.request_millicores);
  number("limit_millicores", figures.limit_millicores);
  number("used_millicores", usage.used_millicores);
  number("used_millicores_15s", usage.used_millicores_15s);
  number("utilization_percent", utilization);
  number("throttled_periods", usage.throttled_periods);
  number("throttled_seconds", usage.throttled_seconds);
  number("burned_seconds", std::optional(figures.burned_seconds));
  const auto& exact = figures.exactness;
  out += "},\"burn\":{";
  number("asked_seconds_60s", exact ? std::optional(seconds(exact->asked)) : std::nullopt);
  number("billed_seconds_60s", exact ? std::optional(seconds(exact->billed)) : std::nullopt);
  number("error_percent_60s", exact ? exact->error_percent : std::nullopt);
  out += "},\"memory\":{";
  number("rss_bytes", std::optional(figures.rss_bytes));
  number("limit_bytes", usage.memory_limit_bytes);
  out += "}}";
  return out;
}

}  // namespace

Pod::Pod(ServeSettings serve_settings, Identity who, base::Cgroup cgroup, size_t count_of_workers)
    : settings(std::move(serve_settings)),
      worker_count(count_of_workers),
      identity(std::move(who)),
      usage(std::move(cgroup)),
      started(std::chrono::steady_clock::now()),
      started_at_unix(unix_seconds()),
      books(worker_count),
      hello(fmt::format("Hello from {} on {}\n", identity.pod_name, identity.node_name)),
      version_json(render_version()) {}

void Pod::sample(core::TimePoint now) {
  usage.sample(now);
  const UsageSnapshot used = usage.snapshot();
  // The root group's bill is the whole machine's; there the process speaks for itself.
  const burn::Duration billed =
      used.cgroup_cpu_seconds
          ? std::chrono::duration_cast<burn::Duration>(std::chrono::duration<double>(*used.cgroup_cpu_seconds))
          : process_cpu_time();
  const burn::Duration outside = books.outside();
  holds.observe(outside, now);
  const burn::Duration booked = books.booked();
  const std::lock_guard lock(mutex_);
  // What starting up cost is in no book.
  if (!billed_before_ && life != Life::Starting) billed_before_ = billed - booked;
  if (billed_before_) residual_seconds_ = std::chrono::duration<double>(billed - *billed_before_ - booked).count();
  exactness_.observe(now, {.billed = billed, .outside = outside, .asked = books.asked()});
}

std::optional<burn::Exactness::Figures> Pod::exactness() const {
  const std::lock_guard lock(mutex_);
  return exactness_.figures();
}

std::optional<double> Pod::residual_seconds() const {
  const std::lock_guard lock(mutex_);
  return residual_seconds_;
}

bool Pod::quiet() {
  return burn_waiting.load(std::memory_order_relaxed) == 0 && holds.target(std::chrono::steady_clock::now()) <= 0;
}

uint64_t Pod::requests_total() const {
  uint64_t total = 0;
  for (const WorkerView& worker : workers) total += worker.requests->requests();
  return total;
}

double Pod::burned_seconds() const { return std::chrono::duration<double>(books.sum(&burn::Account::burned)).count(); }

std::optional<double> Pod::limit_millicores() const {
  if (identity.limit_millicores) return static_cast<double>(*identity.limit_millicores);
  return usage.snapshot().quota_millicores;
}

std::string render_page(std::string_view page_template, const Identity& identity, std::string_view engine) {
  const std::array<std::pair<std::string_view, std::string>, 7> values{{
      {"{{pod_name}}", html_escape(identity.pod_name)},
      {"{{node_name}}", html_escape(identity.node_name)},
      {"{{namespace}}", html_escape(identity.pod_namespace)},
      {"{{pod_ip}}", html_escape(identity.pod_ip)},
      {"{{node_ip}}", html_escape(identity.node_ip)},
      {"{{version}}", html_escape(build_facts().version)},
      {"{{engine}}", html_escape(engine)},
  }};
  std::string out;
  out.reserve(page_template.size() + 256);
  while (!page_template.empty()) {
    const size_t at = std::min(page_template.find("{{"), page_template.size());
    out += page_template.substr(0, at);
    page_template.remove_prefix(at);
    const auto* value =
        std::ranges::find_if(values, [&](const auto& candidate) { return page_template.starts_with(candidate.first); });
    if (value != values.end()) {
      out += value->second;
      page_template.remove_prefix(value->first.size());
    } else {
      const size_t plain = std::min<size_t>(2, page_template.size());
      out += page_template.substr(0, plain);
      page_template.remove_prefix(plain);
    }
  }
  return out;
}

void InfoBody::refresh(core::TimePoint now) {
  size_t ignored = 0;
  if (length_ == 0) length_ = render_info(pod_, widest(), ignored).size();
  const InfoFigures figures{.uptime = std::chrono::duration<double>(now - pod_.started).count(),
                            .requests = pod_.requests_total(),
                            .usage = pod_.usage.snapshot(),
                            .limit_millicores = pod_.limit_millicores(),
                            .burned_seconds = pod_.burned_seconds(),
                            .rss_bytes = resident_bytes(),
                            .exactness = pod_.exactness()};
  body_ = render_info(pod_, figures, timestamp_at_);
  // One byte for the line's end, so that a terminal's prompt starts on its own line.
  body_.resize(length_, ' ');
  body_ += '\n';
  timestamp_ = 0;
}

std::string_view InfoBody::at(int64_t unix_milliseconds) {
  if (timestamp_ != unix_milliseconds) {
    const std::string timestamp = http::rfc3339(unix_milliseconds);
    std::ranges::copy(timestamp, body_.begin() + static_cast<std::ptrdiff_t>(timestamp_at_));
    timestamp_ = unix_milliseconds;
  }
  return body_;
}

}  // namespace kiln::app
