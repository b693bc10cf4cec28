// One binary, many verbs.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "app/settings.h"
#include "app/verbs.h"
#include "app/version.h"

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
  healthcheck->add_option("URL", url, "what to ask [http://127.0.0.1:PORT/readyz]");

  CLI::App* doctor = command_line.add_subcommand("doctor", "says what this environment allows");
  std::string format = "text";
  doctor->add_option("--format", format, "text or json")->check(CLI::IsMember({"text", "json"}));

  try {
    command_line.parse(argc, argv);
  } catch (const CLI::Success& wanted) {
    return command_line.exit(wanted);
  } catch (const CLI::ParseError& error) {
    std::string line = error.what();
    for (char& c : line) c = c == '\n' ? ' ' : c;
    fmt::print(stderr, "kiln: {}; kiln --help lists what is accepted\n", line);
    return kBadCommandLine;
  }
  if (healthcheck->parsed()) return app::healthcheck(url, ::getenv);
  if (doctor->parsed()) return app::doctor(format == "json" ? app::Format::Json : app::Format::Text, ::getenv);
  return run_serve(settings, print_config);
}
