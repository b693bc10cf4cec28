#include "calibrate/subject.h"

#include <fmt/format.h>
#include <sched.h>
#include <simdjson.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <fstream>
#include <memory>
#include <string_view>
#include <utility>

#include "calibrate/group.h"
#include "calibrate/quantities.h"
#include "calibrate/samples.h"
#include "calibrate/server.h"
#include "core/workers.h"
#include "load/fetch.h"
#include "load/report.h"

namespace kiln::calibrate {

namespace {

constexpr std::chrono::seconds kAnswerMax{5};
constexpr std::string_view kGroupMetric = "kiln_cgroup_cpu_seconds_total";
constexpr std::string_view kProcessMetric = "process_cpu_seconds_total";

std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("model name")) continue;
    const size_t colon = line.find(": ");
    return colon == std::string::npos ? "" : load::printable(line.substr(colon + 2));
  }
  return "";
}

Machine this_machine() {
  utsname system{};
  ::uname(&system);
  return {.kernel = load::printable(std::string(system.sysname) + " " + system.release),
          .hardware = load::printable(system.machine),
          .processor = processor_name(),
          .cpus = core::affinity_cpus()};
}

std::string text_of(const http::Url& url) { return load::printable("http://" + url.authority + url.target); }

base::Result<load::Fetched> ask(const http::Url& url) {
  auto answer = load::fetch(url, kAnswerMax);
  if (!answer) return base::error(fmt::format("{}: {}", text_of(url), answer.error().what));
  return answer;
}

http::Url with_target(http::Url url, std::string target) {
  url.target = std::move(target);
  return url;
}

std::function<std::optional<std::string>()> metrics_reader(const http::Url& url) {
  return [url]() -> std::optional<std::string> {
    auto answer = ask(url);
    return answer && answer->status == 200 ? std::optional(std::move(answer->body)) : std::nullopt;
  };
}

// Engine and workers, by Kiln's own word; left alone when it does not give it.
void learn_from_info(const http::Url& url, Calibration& facts) {
  const auto answer = ask(with_target(url, "/api/info"));
  if (!answer || answer->status != 200) return;
  simdjson::dom::parser parser;
  simdjson::dom::element root;
  if (parser.parse(answer->body).get(root) != simdjson::SUCCESS) return;
  std::string_view engine;
  uint64_t workers = 0;
  if (root["engine"].get(engine) == simdjson::SUCCESS) facts.engine = load::printable(engine);
  if (root["workers"].get(workers) == simdjson::SUCCESS) facts.workers = static_cast<uint32_t>(workers);
}

std::vector<size_t> allowed_cpus() {
  cpu_set_t set;
  std::vector<size_t> cpus;
  if (::sched_getaffinity(0, sizeof set, &set) != 0) return cpus;
  for (size_t cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
  }
  return cpus;
}

// The last one for us, the others for the server, as far as it can do with those.
std::vector<size_t> part_from_server(double quota_millicores, Calibration& facts) {
  std::vector<size_t> cpus = allowed_cpus();
  if (cpus.size() < 2 || quota_millicores > 1000.0 * static_cast<double>(cpus.size() - 1)) {
    facts.notes.emplace_back("Client and server share the CPUs, so latencies are too high.");
    return {};
  }
  cpu_set_t ours;
  CPU_ZERO(&ours);
  CPU_SET(cpus.back(), &ours);
  if (::sched_setaffinity(0, sizeof ours, &ours) != 0) return {};
  cpus.pop_back();
  return cpus;
}

// Without a quota: what its workers can use.
void take_cores_for_limit(Calibration& facts) {
  facts.limit_millicores = 1000.0 * std::max(facts.workers, 1U);
  facts.limit_from = "having a core for each worker, without a quota";
  facts.limit_is_quota = false;
}

// The limit that the server runs under.
void find_limit(const Server& server, Calibration& facts) {
  const auto quota = server.cgroup().cpu_quota();
  if (!quota) return take_cores_for_limit(facts);
  facts.limit_millicores = quota->cores * 1000;
  facts.limit_from = server.has_group() ? "a control group of its own" : quota->source;
}

}  // namespace

std::string load_target(double ms) { return fmt::format("/load?ms={:g}", ms); }

base::Result<Subject> own_subject(const OwnOptions& options) {
  Subject subject;
  Calibration& facts = subject.facts;
  facts.machine = this_machine();
  const auto in_force = base::Cgroup::find().cpu_quota();
  const double quota = options.quota_millicores.value_or(kQuotaUsual);
  if (quota > 1000.0 * facts.machine.cpus) {
    return std::unexpected(base::Error{EINVAL, fmt::format("--quota {:g}m: is more than the {} CPUs that are ours here",
                                                           quota, facts.machine.cpus)});
  }
  if (options.quota_millicores && in_force && quota > in_force->cores * 1000) {
    return std::unexpected(base::Error{EINVAL, fmt::format("--quota {:g}m: the limit in force here is {:g}m, by {}",
                                                           quota, in_force->cores * 1000, in_force->source)});
  }
  ServerOptions server_options{.engine = options.engine, .cpus = {}, .group = {}};
  if (options.quota_millicores || !in_force) {
    auto group = Group::open(quota);
    if (group) {
      server_options.group.emplace(std::move(*group));
    } else if (options.quota_millicores) {
      return base::error(fmt::format("--quota {:g}m: {}; run it {}in a container that has this limit and without "
                                     "--quota", quota, group.error().what, ::geteuid() == 0 ? "" : "as root, or "));
    } else {
      facts.notes.push_back(fmt::format("No limit of {} could be set ({}).", cpu_text(quota), group.error().what));
    }
  }
  const double known_quota = server_options.group ? quota : in_force ? in_force->cores * 1000 : 0;
  server_options.cpus = part_from_server(known_quota, facts);
  auto started = Server::start(std::move(server_options), options.interrupted);
  if (!started) return std::unexpected(std::move(started.error()));
  const auto server = std::make_shared<Server>(std::move(*started));

  const auto url = http::parse_url(fmt::format("http://127.0.0.1:{}{}", server->port(), load_target(options.ms)));
  subject.url = url.url;
  subject.is_kiln = subject.is_own = true;
  subject.shares_limit = !server->has_group() && in_force.has_value();
  subject.bill = [server] { return server->bill(); };
  subject.metrics = metrics_reader(with_target(url.url, "/metrics"));
  facts.server = "own";
  learn_from_info(url.url, facts);
  find_limit(*server, facts);
  facts.judge = server->has_group() ? "the CPU counter of its control group" : "the CPU clock of its process";
  return subject;
}

base::Result<Subject> remote_subject(const RemoteOptions& options) {
  Subject subject;
  subject.url = options.url;
  Calibration& facts = subject.facts;
  facts.machine = this_machine();
  const http::Url metrics = options.metrics.value_or(with_target(options.url, "/metrics"));
  const std::string where = text_of(metrics);
  const auto answer = ask(metrics);
  if (!answer) return std::unexpected(answer.error());
  if (answer->status >= 300 && answer->status < 400) {
    return base::error(fmt::format("{} is a redirect to {}: use that, for --metrics too", where,
                                   load::printable(answer->location)));
  }
  const auto has = [&](std::string_view name) { return sum_of_samples(answer->body, name).has_value(); };
  const std::string_view name = has(kGroupMetric) ? kGroupMetric : has(kProcessMetric) ? kProcessMetric : "";
  if (answer->status != 200 || name.empty()) {
    return base::error(fmt::format("{} has neither {} nor {} (status {}): --metrics says where they are", where,
                                   kGroupMetric, kProcessMetric, answer->status));
  }
  subject.is_kiln = has("kiln_build_info");
  if (subject.is_kiln && options.url.target == "/") subject.url.target = load_target(options.ms);
  subject.metrics = metrics_reader(metrics);
  subject.bill_costs = true;
  subject.bill = [metrics, name, where, pod = answer->pod,
                  last = std::chrono::nanoseconds(0)]() mutable -> base::Result<std::chrono::nanoseconds> {
    const auto now = ask(metrics);
    if (!now) return std::unexpected(now.error());
    if (now->pod != pod) {
      return base::error(fmt::format("{} is answered by more than one pod ({} and {}): calibrate one alone", where,
                                     load::printable(pod), load::printable(now->pod)));
    }
    constexpr double kSecondsMax = 9e9;  // what nanoseconds of 64 bits hold
    const auto seconds = sum_of_samples(now->body, name);
    if (!seconds || *seconds < 0 || *seconds >= kSecondsMax) {
      return base::error(fmt::format("{} of {} is no CPU time (status {})", name, where, now->status));
    }
    const std::chrono::nanoseconds bill(std::llround(*seconds * 1e9));
    if (bill < last) {
      return base::error(fmt::format("{} of {} has fallen: the server was restarted, or more than one answers", name,
                                     where));
    }
    last = bill;
    return bill;
  };
  facts.server = load::printable("http://" + options.url.authority);
  facts.judge = fmt::format("{} of {}", name, load::printable(where));
  if (subject.is_kiln) learn_from_info(options.url, facts);
  const auto cores = sum_of_samples(answer->body, "kiln_cpu_limit_cores");
  if (options.limit_millicores) {
    facts.limit_millicores = *options.limit_millicores;
    facts.limit_from = "--limit";
  } else if (cores && *cores > 0) {
    facts.limit_millicores = *cores * 1000;
    facts.limit_from = "kiln_cpu_limit_cores";
  } else if (subject.is_kiln) {
    take_cores_for_limit(facts);
  } else {
    return base::error(fmt::format("{} does not say the server's CPU limit: give it as --limit", where));
  }
  return subject;
}

}  // namespace kiln::calibrate
