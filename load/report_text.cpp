#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <string>

#include "load/report.h"

namespace kiln::load {

namespace {

constexpr size_t kPodsShown = 40;
constexpr size_t kChangesShown = 20;  // of the number of pods

std::string percent(double share) { return fmt::format("{:.1f} %", 100 * share); }

void latency_line(std::string& text, std::string_view name, const base::HdrHistogram& histogram) {
  fmt::format_to(std::back_inserter(text), "  {:9}", name);
  for (const double p : {50.0, 90.0, 99.0, 99.9}) {
    fmt::format_to(std::back_inserter(text), "{:>9}", time_text(static_cast<double>(histogram.value_at_percentile(p))));
  }
  fmt::format_to(std::back_inserter(text), "{:>9}{:>9}\n", time_text(static_cast<double>(histogram.max())),
                 time_text(histogram.mean()));
}

void latencies(std::string& text, const Report& report) {
  if (report.answers == 0) return;
  auto out = std::back_inserter(text);
  if (report.failed() > 0) {
    fmt::format_to(out, "of the {} answers alone, {} requests have none:\n", report.answers, report.failed());
  }
  fmt::format_to(out, "latency  {:>9}{:>9}{:>9}{:>9}{:>9}{:>9}\n", "p50", "p90", "p99", "p99.9", "max", "mean");
  latency_line(text, "due", report.latency);
  latency_line(text, "sent", report.service);
  latency_line(text, "delay", report.send_delay);
}

void pods(std::string& text, const Report& report) {
  auto out = std::back_inserter(text);
  size_t name_width = 3, node_width = 4;
  const size_t shown = std::min(report.pods.size(), kPodsShown);
  for (size_t i = 0; i < shown; ++i) {
    name_width = std::max(name_width, report.pods[i].pod.size());
    node_width = std::max(node_width, report.pods[i].node.size());
  }
  fmt::format_to(out, "\n{:{}}  {:{}} {:>9} {:>7} {:>8} {:>8} {:>8} {:>9} {:>7} {:>7} {:>13}\n", "pod", name_width,
                 "node", node_width, "answers", "share", "rate", "p50", "p99", "errors", "first", "last",
                 "first 5 s p99");
  for (size_t i = 0; i < shown; ++i) {
    const PodReport& pod = report.pods[i];
    const double share = static_cast<double>(pod.answers) / static_cast<double>(report.answers);
    const double alive = std::max(pod.last_seen - pod.first_seen, 1.0);
    fmt::format_to(out, "{:{}}  {:{}} {:>9} {:>7} {:>6.1f}/s {:>8} {:>8} {:>9} {:>5.1f} s {:>5.1f} s {:>13}\n", pod.pod,
                   name_width, pod.node, node_width, pod.answers,
                   percent(share), static_cast<double>(pod.answers) / alive,
                   time_text(static_cast<double>(pod.latency.value_at_percentile(50))),
                   time_text(static_cast<double>(pod.latency.value_at_percentile(99))), pod.errors, pod.first_seen,
                   pod.last_seen, time_text(static_cast<double>(pod.early.value_at_percentile(99))));
  }
  if (shown < report.pods.size()) fmt::format_to(out, "and {} more\n", report.pods.size() - shown);
  fmt::format_to(out, "skew {:.2f} (standard deviation of the pods' answers over their mean)\n", report.skew());

  // How many pods answered in each second, where that changes. In a second of which only a part was asked for fewer do.
  const auto whole = static_cast<size_t>(std::max(report.asked_seconds, 1.0));
  std::string replicas;
  size_t last = 0, changes = 0;
  for (size_t i = 0; i < std::min(whole, report.timeline.size()); ++i) {
    const size_t now = report.timeline[i].pods.size();
    if (now == last || now == 0) continue;
    last = now;
    if (++changes > kChangesShown) continue;
    fmt::format_to(std::back_inserter(replicas), "{}{} from {} s", replicas.empty() ? "" : ", ", now, i);
  }
  if (changes > kChangesShown) {
    fmt::format_to(std::back_inserter(replicas), ", and {} changes more", changes - kChangesShown);
  }
  fmt::format_to(out, "pods that answered in a second: {}\n", replicas.empty() ? "none" : replicas);
}

std::string_view words(const Report& report) {
  switch (verdict(report)) {
    case Verdict::Kept: return "it kept its schedule";
    case Verdict::Client:
      if (report.late_for_descriptors > report.late_by_client) {
        return "THE CLIENT WAS THE BOTTLENECK: it ran out of descriptors or ports; raise ulimit -n, or give it shards";
      }
      return "THE CLIENT WAS THE BOTTLENECK: give it more --threads, a core of its own, or shards";
    case Verdict::Connections:
      return "EVERY CONNECTION WAS BUSY: the server was slower than the schedule, or --connections is too small";
  }
  return "";
}

}  // namespace

std::string time_text(double us) {
  if (us < 1000) return fmt::format("{:.0f} us", us);
  if (us < 10'000) return fmt::format("{:.2f} ms", us / 1000);
  if (us < 1'000'000) return fmt::format("{:.1f} ms", us / 1000);
  return fmt::format("{:.2f} s", us / 1'000'000);
}

std::string to_text(const Report& report) {
  std::string text;
  auto out = std::back_inserter(text);
  const double seconds = std::max(report.seconds_run(), 1e-9);
  fmt::format_to(out, "{}\n{}, {} arrivals", report.url, report.profile, report.arrivals);
  if (report.shards.size() > 1 || (!report.shards.empty() && report.shards[0].count > 1)) {
    fmt::format_to(out, ", {} of {} shards", report.shards.size(), report.shards[0].count);
  }
  fmt::format_to(out, "{}\n\n", report.interrupted ? "; INTERRUPTED" : "");
  fmt::format_to(out, "asked     {} requests in {:.1f} s, {:.1f}/s\n", report.due, report.asked_seconds,
                 report.asked_seconds > 0 ? static_cast<double>(report.due) / report.asked_seconds : 0);
  fmt::format_to(out, "answered  {} in {:.1f} s, {:.1f}/s, {} bytes, over {} connections\n", report.answers,
                 report.seconds_run(), static_cast<double>(report.answers) / seconds, report.answer_bytes,
                 report.connections);
  fmt::format_to(out, "status    ");
  std::string separator;
  for (const auto& [status, count] : report.statuses) {
    fmt::format_to(out, "{}{}: {}", separator, status, count);
    separator = ", ";
  }
  fmt::format_to(out, "{}\nfailed    ", report.statuses.empty() ? "none" : "");
  separator.clear();
  for (size_t i = 0; i < kFailures; ++i) {
    if (report.failures[i] == 0) continue;
    fmt::format_to(out, "{}{}: {}", separator, failure_name(static_cast<Failure>(i)), report.failures[i]);
    separator = ", ";
  }
  fmt::format_to(out, "{}\nerrors    {} ({:.3g} %)\n\n", separator.empty() ? "none" : "", report.errors(),
                 100 * report.error_share());

  latencies(text, report);
  if (!report.pods.empty()) pods(text, report);
  fmt::format_to(out, "\nclient    {:.2f} of {} core{}, {:.2f} waited for\n", report.cpu_seconds / seconds,
                 report.threads, report.threads == 1 ? "" : "s", report.cpu_wait_seconds / seconds);
  fmt::format_to(out,
                 "late      {} by the client, {} all busy, {} connecting, {} no descriptor or port\n",
                 report.late_by_client, report.late_for_connections, report.late_for_connect,
                 report.late_for_descriptors);
  fmt::format_to(out, "verdict   {}\n", words(report));
  return text;
}

}  // namespace kiln::load
