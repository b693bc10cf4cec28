// `kiln doctor`: what this environment allows, in the words of whoever has to change it.
#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/utsname.h>

#include <cstdio>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "app/identity.h"
#include "app/sandbox.h"
#include "app/usage.h"
#include "app/verbs.h"
#include "app/version.h"
#include "base/cgroup.h"
#include "core/engine.h"
#include "core/workers.h"
#include "http/response.h"

namespace kiln::app {

namespace {

struct Finding {
  std::string name;
  std::optional<std::string> value;  // nothing: unknown here
  bool number = false;               // true: not quoted in JSON
};

using Findings = std::vector<Finding>;

std::optional<std::string> if_any(const std::string& text) { return text.empty() ? std::nullopt : std::optional(text); }

std::optional<std::string> limit_of(decltype(RLIMIT_NOFILE) resource) {
  rlimit limit{};
  if (::getrlimit(resource, &limit) != 0) return std::nullopt;
  const auto show = [](rlim_t value) { return value == RLIM_INFINITY ? "unlimited" : std::to_string(value); };
  return show(limit.rlim_cur) + " (hard " + show(limit.rlim_max) + ")";
}

void find_engine(Findings& out) {
  const auto opened = core::open_engine(core::EngineRequest::Auto, {});
  if (opened) {
    out.push_back({"engine", std::string(core::engine_name(opened->engine->kind()))});
    out.push_back({"engine_reason", opened->reason});
    out.push_back({"ring_restrictions", opened->engine->restrictions()});
  } else {
    out.push_back({"engine", std::nullopt});
    out.push_back({"engine_reason", opened.error().what});
    out.push_back({"ring_restrictions", std::nullopt});
  }
}

void find_cpu(Findings& out) {
  const base::Cgroup cgroup = base::Cgroup::find();
  const auto quota = cgroup.cpu_quota();
  const auto bill = cgroup.cpu_bill();
  const auto workers = core::count_workers(std::nullopt, core::affinity_cpus(), cgroup);
  out.push_back({"workers", std::to_string(workers.count), true});
  out.push_back({"workers_from", workers.source});
  out.push_back({"affinity_cpus", std::to_string(core::affinity_cpus()), true});
  out.push_back(
      {"cgroup_version", cgroup.version() == 0 ? std::nullopt : std::optional(std::to_string(cgroup.version())), true});
  out.push_back({"cgroup", if_any(cgroup.cpu_directory())});
  out.push_back(
      {"cpu_limit_millicores", quota ? std::optional(fmt::format("{:.0f}", quota->cores * 1000)) : std::nullopt, true});
  out.push_back({"cpu_limit_from", quota ? if_any(quota->source) : std::nullopt});
  const auto count = [](const auto& value) { return value ? std::optional(std::to_string(*value)) : std::nullopt; };
  out.push_back({"throttled_periods", bill ? count(bill->throttled_periods) : std::nullopt, true});
  out.push_back({"throttled_seconds",
                 bill && bill->throttled
                     ? std::optional(fmt::format("{:.3f}", std::chrono::duration<double>(*bill->throttled).count()))
                     : std::nullopt,
                 true});
  out.push_back({"memory_limit_bytes", count(cgroup.memory_limit()), true});
  for (const std::string& warning : cgroup.warnings()) out.push_back({"cgroup_warning", warning});
}

// By entering it, which ends with this process; so this is looked for last.
void find_sandbox(Findings& out) {
  const auto installed = install_sandbox();
  out.push_back({"sandbox", installed ? "possible" : "not possible: " + installed.error().what});
}

void find_identity(Findings& out, const Environment& environment) {
  for (const char* name :
       {"POD_NAME", "POD_IP", "POD_NAMESPACE", "NODE_NAME", "NODE_IP", "CPU_REQUEST_MILLI", "CPU_LIMIT_MILLI"}) {
    const char* value = environment(name);
    out.push_back({name, value == nullptr ? std::nullopt : if_any(value)});
  }
}

std::string as_json(const Findings& findings) {
  std::string out = "{";
  for (const Finding& finding : findings) {
    out += fmt::format("{}\n  \"{}\": ", out.size() > 1 ? "," : "", finding.name);
    out += !finding.value ? "null" : finding.number ? *finding.value : '"' + http::json_escape(*finding.value) + '"';
  }
  return out + "\n}\n";
}

std::string as_text(const Findings& findings) {
  std::string out;
  for (const Finding& finding : findings) out += fmt::format("{:<22}{}\n", finding.name, finding.value.value_or("-"));
  return out;
}

}  // namespace

int doctor(Format format, const Environment& environment) {
  Findings findings;
  utsname system{};
  ::uname(&system);
  findings.push_back({"version", std::string(build_facts().version) + " (" + std::string(build_facts().commit) + ")"});
  findings.push_back({"kernel", std::string(system.sysname) + " " + system.release + " " + system.machine});
  find_engine(findings);
  find_cpu(findings);
  findings.push_back({"open_files", limit_of(RLIMIT_NOFILE)});
  findings.push_back({"locked_memory_bytes", limit_of(RLIMIT_MEMLOCK)});
  find_identity(findings, environment);
  find_sandbox(findings);
  fmt::print("{}", format == Format::Json ? as_json(findings) : as_text(findings));
  return 0;
}

}  // namespace kiln::app
