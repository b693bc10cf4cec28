#include "app/identity.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

namespace kiln::app {
namespace {

Environment with(std::map<std::string, std::string> variables) {
  return [variables = std::move(variables)](const char* name) -> const char* {
    const auto at = variables.find(name);
    return at == variables.end() ? nullptr : at->second.c_str();
  };
}

TEST(Identity, ComesFromTheDownwardApi) {
  const Identity who = Identity::find(with({{"POD_NAME", "kiln-7d9f-abcde"},
                                            {"POD_IP", "10.244.0.17"},
                                            {"POD_NAMESPACE", "demo"},
                                            {"NODE_NAME", "pool-1-x"},
                                            {"NODE_IP", "10.0.0.4"},
                                            {"CPU_REQUEST_MILLI", "100"},
                                            {"CPU_LIMIT_MILLI", "500"}}),
                                      8080);
  EXPECT_EQ(who.pod_name, "kiln-7d9f-abcde");
  EXPECT_EQ(who.pod_ip, "10.244.0.17");
  EXPECT_EQ(who.pod_namespace, "demo");
  EXPECT_EQ(who.node_name, "pool-1-x");
  EXPECT_EQ(who.node_ip, "10.0.0.4");
  EXPECT_EQ(who.request_millicores, 100U);
  EXPECT_EQ(who.limit_millicores, 500U);
  EXPECT_TRUE(who.in_kubernetes);
  EXPECT_EQ(who.warnings, "");
}

TEST(Identity, TellsTwoProcessesOfOneMachineApartByTheirPorts) {
  const Identity one = Identity::find(with({}), 8080);
  const Identity other = Identity::find(with({}), 8081);
  EXPECT_EQ(one.pod_name, one.hostname + "-8080");
  EXPECT_EQ(other.pod_name, one.hostname + "-8081");
  EXPECT_EQ(one.node_name, one.hostname);
  EXPECT_FALSE(one.request_millicores.has_value());
}

TEST(Identity, IsTheHostNameInAClusterWithoutTheVariable) {
  const Identity who = Identity::find(with({{"KUBERNETES_SERVICE_HOST", "10.96.0.1"}}), 8080);
  EXPECT_EQ(who.pod_name, who.hostname);
}

TEST(Identity, NeverLetsAVariableIntoAHeaderThatWouldBreakIt) {
  const struct {
    const char* variable;
    std::string value;
  } rows[] = {{"POD_NAME", "a\r\nX-Evil: 1"}, {"NODE_NAME", "two words"}, {"POD_IP", std::string(254, '1')},
              {"CPU_REQUEST_MILLI", "100m"},  {"CPU_LIMIT_MILLI", "-5"},  {"NODE_NAME", "caf\xc3\xa9"}};
  for (const auto& row : rows) {
    const Identity who = Identity::find(with({{row.variable, row.value}}), 1);
    EXPECT_NE(who.warnings.find(row.variable), std::string::npos) << row.value;
    EXPECT_EQ((who.pod_name + who.node_name).find_first_of("\r\n "), std::string::npos) << row.value;
    EXPECT_FALSE(who.request_millicores || who.limit_millicores) << row.value;
  }
}

TEST(Identity, TakesALimitOfZeroAsUnknown) {
  const Identity who = Identity::find(with({{"CPU_LIMIT_MILLI", "0"}}), 1);
  EXPECT_FALSE(who.limit_millicores.has_value());
  EXPECT_EQ(who.warnings, "");
}

}  // namespace
}  // namespace kiln::app
