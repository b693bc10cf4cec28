// One binary, many verbs.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "app/calibrate.h"
#include "app/files.h"
#include "app/load.h"
#include "app/settings.h"
#include "app/verbs.h"
#include "app/version.h"
#include "profile/parse.h"

namespace {

using namespace kiln;

constexpr int kBadCommandLine = 2;

std::string version_text() {
  const app::BuildFacts& facts = app::build_facts();
  return fmt::format("kiln {} (commit {}, {}, liburing {})", facts.version, facts.commit, facts.compiler,
                     facts.liburing);
}

void add_serve_flags(CLI::App& command, std::vector<app::Setting>& settings, bool& print_config) {
  for (app::Setting& setting : settings) {
    const std::string preset = setting.default_text.empty() ? "" : " [" + setting.default_text + "]";
    if (setting.value_name.empty()) {
      command.add_flag(setting.flag, setting.given, setting.help + preset);
      continue;
    }
    CLI::Option* option = command.add_option(setting.flag, setting.given, setting.help + preset);
    option->type_name(setting.value_name);
    if (setting.times == app::Times::Many) option->join(' ');
  }
  command.add_flag("--print-config", print_config, "print every setting and where it came from, and exit");
  command.footer("Every flag has an environment variable: --drain-delay is KILN_DRAIN_DELAY. Flags win.");
}

void add_report_flags(CLI::App& command, app::LoadArguments& arguments) {
  command.option_defaults()->always_capture_default();
  command
      .add_option("--fail-if", arguments.gates,
                  "exit status 3 if it holds: p99>200ms, errors>0.1%, rate<95%; may be repeated")
      ->expected(1)
      ->take_all()
      ->type_name("CONDITION")
      ->default_str("");
  command.add_option("--format", arguments.format, "of the report: text or json")
      ->check(CLI::IsMember({"text", "json"}))
      ->type_name("NAME");
  command.add_option("--hdr", arguments.hdr, "write the percentile distribution there, for HdrHistogram's plotter")
      ->type_name("FILE");
  command.footer("");
}

CLI::App* add_load(CLI::App& command_line, app::LoadArguments& arguments) {
  CLI::App* load = command_line.add_subcommand("load", "sends a load by a schedule, and says who answered, how fast");
  add_report_flags(*load, arguments);
  const auto add = [load](const char* flag, auto& value, const char* type, const char* help) {
    return load->add_option(flag, value, help)->type_name(type);
  };
  add("URL", arguments.url, "", "http://HOST[:PORT][/PATH][?QUERY]");
  add("--profile", arguments.profile, "PROFILE",
      "RATE@TIME, RATE:RATE@TIME, sine(MEAN,AMPLITUDE,PERIOD)@TIME, burst(BASE,PEAK,EVERY,WIDTH)@TIME, separated by "
      "commas, or FILE.csv; in requests a second, or in millicores (300m)");
  add("--cost", arguments.cost, "TIME", "CPU time of a request, for rates in millicores");
  add("--calibration", arguments.calibration, "FILE", "of kiln calibrate, instead of --cost");
  add("--arrivals", arguments.arrivals, "NAME", "uniform or poisson")->check(CLI::IsMember({"uniform", "poisson"}));
  add("--seed", arguments.seed, "N", "of poisson arrivals; the same seed sends at the same times");
  add("--method", arguments.method, "NAME", "default: GET, or POST with a body");
  add("--header", arguments.headers, "'NAME: VALUE'", "may be repeated")->expected(1)->take_all()->default_str("");
  add("--body", arguments.body, "TEXT", "of each request; @FILE is what that file holds");
  add("--connections", arguments.connections, "N", "at most so many at once")->check(CLI::Range(1, 1'000'000));
  add("--keepalive-age", arguments.keepalive_age, "TIME", "older connections end with their next request");
  load->add_flag("--no-keepalive", arguments.no_keepalive, "a connection for each request");
  add("--timeout", arguments.timeout, "TIME", "a request without an answer by then has failed");
  add("--threads", arguments.threads, "N", "of the client, each with a share of the schedule")
      ->check(CLI::Range(1, 1024));
  add("--engine", arguments.engine, "NAME", "auto, io_uring or epoll")
      ->check(CLI::IsMember({"auto", "io_uring", "epoll"}));
  add("--shard", arguments.shard, "I/N", "this part of one schedule; N alone where JOB_COMPLETION_INDEX is I");
  add("--start-every", arguments.start_every, "TIME", "shards start at the next multiple of this on the clock");
  add("--out", arguments.out, "FILE", "write a line of JSON there each second; - is stdout");
  return load;
}

CLI::App* add_calibrate(CLI::App& command_line, app::CalibrateArguments& arguments) {
  CLI::App* calibrate = command_line.add_subcommand(
      "calibrate", "measures what a request costs and where a server saturates, and recommends a target");
  calibrate->option_defaults()->always_capture_default();
  const auto add = [calibrate](const char* flag, auto& value, const char* type, const char* help) {
    return calibrate->add_option(flag, value, help)->type_name(type);
  };
  CLI::Option* url = add("URL", arguments.url, "", "of the request to measure, of one pod alone [a server of its own]")
                         ->default_str("");
  CLI::Option* ms = add("--ms", arguments.ms, "MILLISECONDS", "CPU time of each request, /load?ms=..., of a Kiln");
  CLI::Option* quota = add("--quota", arguments.quota, "CPU",
                           "CPU limit of a server of its own, by a control group [what is in force, or 500m]")
                           ->default_str("")
                           ->excludes(url);
  CLI::Option* limit = add("--limit", arguments.limit, "CPU", "CPU limit of the pod at URL [as its metrics say]")
                          ->default_str("");
  CLI::Option* metrics =
      add("--metrics", arguments.metrics, "URL", "where the pod at URL has its metrics [/metrics]")->default_str("");
  limit->needs(url);
  metrics->needs(url);
  CLI::Option* step_time =
      add("--step-time", arguments.step_time, "TIME", "for how long each rate is held; all else in proportion");
  CLI::Option* engine = add("--engine", arguments.engine, "NAME", "of its own server: auto, io_uring or epoll")
                            ->check(CLI::IsMember({"auto", "io_uring", "epoll"}))
                            ->excludes(url);
  CLI::Option* seed = add("--seed", arguments.seed, "N", "of the arrivals: another one meets other crowds of requests");
  add("--request", arguments.request, "CPU", "CPU request of the pods, of which a target is a share");
  add("--slope", arguments.slope, "RATE",
      "by which the load of one replica grows each second: millicores (5m) or requests (1) [the limit in 2 min]")
      ->default_str("");
  add("--reaction", arguments.reaction, "TIME", "from the beginning of that until new replicas serve");
  add("--slo", arguments.goal, "CONDITION", "what shall hold meanwhile, as p99<250ms [5 x the median with little load]")
      ->default_str("");
  CLI::Option* out = add("--out", arguments.out, "FILE", "write the calibration there; '' writes none");
  add("--from", arguments.from, "FILE", "advise on this calibration instead of measuring")
      ->default_str("")
      ->excludes(url, ms, quota, limit, metrics, step_time, seed, engine, out);
  CLI::Option* patch = add("--patch", arguments.patch, "DIR",
                           "write a kustomize component with request, limit and target")->default_str("");
  add("--name", arguments.name, "NAME", "of the Deployment and the HorizontalPodAutoscaler that it changes")
      ->needs(patch);
  add("--target", arguments.target, "PERCENT", "to look at as well; a patch sets it [the recommended one]")
      ->check(CLI::Range(1, 10'000))
      ->default_str("");
  add("--format", arguments.format, "NAME", "text or json")->check(CLI::IsMember({"text", "json"}));
  calibrate->footer("");
  return calibrate;
}

int run_serve(std::vector<app::Setting>& settings, bool print_config) {
  const auto resolved = app::resolve(settings, ::getenv);
  if (!resolved) {
    fmt::print(stderr, "kiln serve: {}\n", resolved.error().what);
    return kBadCommandLine;
  }
  if (print_config) {
    fmt::print("{}", app::print_config(settings));
    return 0;
  }
  return app::serve(*resolved);
}

}  // namespace

int main(int argc, char** argv) {
  app::occupy_standard_streams();

  CLI::App command_line("Calibrated CPU load for Kubernetes autoscaling", "kiln");
  command_line.set_version_flag("--version", version_text());
  command_line.require_subcommand(0, 1);

  // Bare `kiln` serves, with the same flags.
  std::vector<app::Setting> settings = app::serve_settings();
  bool print_config = false;
  add_serve_flags(command_line, settings, print_config);
  CLI::App* serve = command_line.add_subcommand("serve", "the server");
  add_serve_flags(*serve, settings, print_config);

  CLI::App* healthcheck = command_line.add_subcommand("healthcheck", "exits 0 when the server is ready");
  std::string url;
  healthcheck->add_option("URL", url, "what to ask; without a path, /readyz [http://127.0.0.1:PORT/readyz]");
  healthcheck->footer("");

  CLI::App* doctor = command_line.add_subcommand("doctor", "says what this environment allows");
  std::string format = "text";
  doctor->add_option("--format", format, "text or json")->check(CLI::IsMember({"text", "json"}));
  doctor->footer("");

  app::LoadArguments load_arguments;
  load_arguments.profile = profile::kDefaultProfile;
  CLI::App* load = add_load(command_line, load_arguments);
  CLI::App* merge = load->add_subcommand("merge", "adds up the JSON reports of shards");
  merge->add_option("FILE", load_arguments.files, "what kiln load --format json printed")->required();
  add_report_flags(*merge, load_arguments);
  // What says how to send means nothing here; what says how to report may stand before the word as well.
  for (CLI::Option* option : load->get_options()) {
    if (merge->get_option_no_throw(option->get_name()) == nullptr) merge->excludes(option);
  }

  app::CalibrateArguments calibrate_arguments;
  CLI::App* calibrate = add_calibrate(command_line, calibrate_arguments);

  try {
    command_line.parse(argc, argv);
  } catch (const CLI::Success& wanted) {
    return command_line.exit(wanted);
  } catch (const CLI::ParseError& error) {
    std::string line = error.what();
    for (char& c : line) c = c == '\n' ? ' ' : c;
    std::string verb = "kiln";
    for (const CLI::App* app = &command_line; !app->get_subcommands().empty();) {
      app = app->get_subcommands().front();
      verb += " " + app->get_name();
    }
    fmt::print(stderr, "{}: {}; {} --help lists what is accepted\n", verb, line, verb);
    return kBadCommandLine;
  }
  if (healthcheck->parsed()) return app::healthcheck(url, ::getenv);
  if (doctor->parsed()) return app::doctor(format == "json" ? app::Format::Json : app::Format::Text, ::getenv);
  if (merge->parsed()) return app::load_merge(load_arguments);
  if (load->parsed()) return app::load(load_arguments, ::getenv);
  if (calibrate->parsed()) return app::calibrate(calibrate_arguments);
  return run_serve(settings, print_config);
}
