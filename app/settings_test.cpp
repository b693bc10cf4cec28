#include "app/settings.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>

namespace kiln::app {
namespace {

using namespace std::chrono_literals;

Environment with(std::map<std::string, std::string> variables) {
  return [variables = std::move(variables)](const char* name) -> const char* {
    const auto at = variables.find(name);
    return at == variables.end() ? nullptr : at->second.c_str();
  };
}

void give(std::vector<Setting>& settings, const std::string& flag, const std::string& value) {
  const auto at = std::ranges::find(settings, flag, &Setting::flag);
  ASSERT_NE(at, settings.end()) << flag;
  at->given = value;
}

TEST(Settings, DefaultsParseAndAreTheContracts) {
  auto settings = serve_settings();
  const auto resolved = resolve(settings, with({}));
  ASSERT_TRUE(resolved.has_value()) << resolved.error().what;
  EXPECT_EQ(resolved->port, 8080);
  EXPECT_FALSE(resolved->admin_port.has_value());
  EXPECT_FALSE(resolved->workers.has_value());
  EXPECT_EQ(resolved->keepalive_max_age, 60s);
  EXPECT_EQ(resolved->keepalive_max_requests, 0U);
  EXPECT_EQ(resolved->drain_delay, 5s);
  EXPECT_EQ(resolved->drain_timeout, 20s);
  EXPECT_EQ(resolved->load_max, 1s);
  EXPECT_EQ(resolved->burn_queue, 2s);
  EXPECT_EQ(resolved->access_log, 0);
}

TEST(Settings, FlagWinsOverEnvironmentOverDefault) {
  auto settings = serve_settings();
  give(settings, "--drain-delay", "1s");
  const auto resolved = resolve(settings, with({{"KILN_DRAIN_DELAY", "2s"}, {"KILN_LOAD_MAX", "250ms"}}));
  ASSERT_TRUE(resolved.has_value()) << resolved.error().what;
  EXPECT_EQ(resolved->drain_delay, 1s);
  EXPECT_EQ(resolved->load_max, 250ms);
  const std::string shown = print_config(settings);
  EXPECT_NE(shown.find("--drain-delay             1s           flag\n"), std::string::npos) << shown;
  EXPECT_NE(shown.find("--load-max                250ms        environment KILN_LOAD_MAX\n"), std::string::npos)
      << shown;
  EXPECT_NE(shown.find("--port                    8080         default\n"), std::string::npos) << shown;
}

TEST(Settings, CostsAreOfRoutesThatAreServed) {
  auto settings = serve_settings();
  const auto resolved = resolve(settings, with({{"KILN_COST", "/=2ms\n/api/info=lognormal(5ms,0.8)\n"}}));
  ASSERT_TRUE(resolved.has_value()) << resolved.error().what;
  ASSERT_EQ(resolved->costs.size(), 2U);
  EXPECT_EQ(resolved->costs[1].route, "/api/info");
  EXPECT_EQ(resolved->cost_seed, 1U);
  const std::string shown = print_config(settings);
  EXPECT_NE(shown.find("/=2ms /api/info=lognormal(5ms,0.8)  environment KILN_COST\n"), std::string::npos) << shown;

  const auto refused = resolve(settings, with({{"KILN_COST", "/nowhere=2ms"}}));
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().what.find("KILN_COST: '/nowhere=2ms': no such route; there are /, /api/info, "), 0U)
      << refused.error().what;
}

TEST(Settings, FaultsAreAllowedOrThereFromTheStart) {
  const struct {
    std::string text;
    bool faults;
    std::optional<FaultKind> from_the_start;
  } rows[] = {{"0", false, {}},
              {"false", false, {}},
              {"1", true, {}},
              {"true", true, {}},
              {"unready", true, FaultKind::Unready},
              {"unhealthy", true, FaultKind::Unhealthy}};
  for (const auto& row : rows) {
    auto settings = serve_settings();
    const auto resolved = resolve(settings, with({{"KILN_FAULTS", row.text}}));
    ASSERT_TRUE(resolved.has_value()) << resolved.error().what;
    EXPECT_EQ(resolved->faults, row.faults) << row.text;
    EXPECT_EQ(resolved->fault_from_the_start, row.from_the_start) << row.text;
  }
  for (const char* text : {"yes", "hang", "crash", "Unready"}) {
    auto settings = serve_settings();
    EXPECT_FALSE(resolve(settings, with({{"KILN_FAULTS", text}})).has_value()) << text;
  }
}

TEST(Settings, IgnoresKubernetesServiceLinks) {
  auto settings = serve_settings();
  const auto resolved = resolve(settings, with({{"KILN_PORT", "tcp://10.0.0.1:80"}}));
  ASSERT_TRUE(resolved.has_value()) << resolved.error().what;
  EXPECT_EQ(resolved->port, 8080);
}

TEST(Settings, TakesWhatItsRangeAllowsAndNothingBeyond) {
  const struct {
    const char* flag;
    const char* good;
    const char* bad;
  } rows[] = {
      {"--port", "65535", "65536"},      {"--port", "0", "-1"},
      {"--port", "80", "80x"},           {"--admin-port", "none", ""},
      {"--workers", "auto", "0"},        {"--workers", "256", "257"},
      {"--engine", "io_uring", "uring"}, {"--max-connections", "1", "0"},
      {"--drain-delay", "0s", "5"},      {"--drain-delay", "250us", "-1s"},
      {"--load-max", "1h", "61m"},       {"--keepalive-max-age", "100ms", "99ms"},
      {"--max-body", "64MiB", "65MiB"},  {"--max-head", "512", "511"},
      {"--max-fields", "128", "129"},    {"--cost", "/=1m", "/=2"},
      {"--cost-seed", "0", "-1"},        {"--access-log", "0.01", "1.01"},
      {"--access-log", "1", "nan"},      {"--burn-queue", "2s", "1e309s"},
      {"--no-sandbox", "1", "yes"},      {"--no-sandbox", "false", ""},
  };
  for (const auto& row : rows) {
    auto settings = serve_settings();
    give(settings, row.flag, row.good);
    EXPECT_TRUE(resolve(settings, with({})).has_value()) << row.flag << " " << row.good;

    settings = serve_settings();
    give(settings, row.flag, row.bad);
    const auto refused = resolve(settings, with({}));
    ASSERT_FALSE(refused.has_value()) << row.flag << " " << row.bad;
    EXPECT_EQ(refused.error().what.find(row.flag), 0U) << refused.error().what;
    EXPECT_NE(refused.error().what.find("'" + std::string(row.bad) + "'"), std::string::npos) << refused.error().what;
    EXPECT_EQ(refused.error().what.find('\n'), std::string::npos);
  }
}

TEST(Settings, SwitchesAreOffUntilTurnedOn) {
  const struct {
    const char* value;
    bool on;
  } rows[] = {{"", false}, {"0", false}, {"false", false}, {"1", true}, {"true", true}};
  for (const auto& row : rows) {
    auto settings = serve_settings();
    const auto resolved = resolve(settings, with({{"KILN_NO_SANDBOX", row.value}}));
    ASSERT_TRUE(resolved.has_value()) << resolved.error().what;
    EXPECT_EQ(resolved->no_sandbox, row.on) << row.value;
  }
}

TEST(Settings, NeverShowTheControlToken) {
  auto settings = serve_settings();
  auto resolved = resolve(settings, with({{"KILN_CONTROL_TOKEN", "s3cret"}}));
  ASSERT_TRUE(resolved.has_value());
  EXPECT_EQ(resolved->control_token, "s3cret");
  const std::string shown = print_config(settings);
  EXPECT_NE(shown.find("--control-token           (set)        environment KILN_CONTROL_TOKEN\n"), std::string::npos)
      << shown;
  EXPECT_EQ(shown.find("s3cret"), std::string::npos) << shown;

  for (const char* bad : {"s3cret\n", "s3 cret", "s3cr\"et", ""}) {
    settings = serve_settings();
    give(settings, "--control-token", bad);
    resolved = resolve(settings, with({}));
    ASSERT_FALSE(resolved.has_value()) << bad;
    EXPECT_EQ(resolved.error().what.find("--control-token: "), 0U) << resolved.error().what;
    EXPECT_EQ(resolved.error().what.find("s3"), std::string::npos) << resolved.error().what;
  }

  settings = serve_settings();
  resolved = resolve(settings, with({}));
  ASSERT_TRUE(resolved.has_value());
  EXPECT_FALSE(resolved->control_token.has_value());
  EXPECT_NE(print_config(settings).find("--control-token           none         default\n"), std::string::npos);
}

TEST(Settings, NamesTheVariableThatABadValueCameFrom) {
  auto settings = serve_settings();
  const auto refused = resolve(settings, with({{"KILN_DRAIN_TIMEOUT", "soon"}}));
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().what.find("KILN_DRAIN_TIMEOUT: 'soon'"), 0U) << refused.error().what;
}

}  // namespace
}  // namespace kiln::app
