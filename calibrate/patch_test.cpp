#include "calibrate/patch.h"

#include <gtest/gtest.h>

#include <string>

namespace kiln::calibrate {
namespace {

TEST(ObjectName, IsADnsSubdomain) {
  const std::string longest = "a" + std::string(251, '-') + "a";
  for (const std::string& name : {std::string("kiln"), std::string("k"), std::string("0"), std::string("a-b.c-1.d"),
                                  longest}) {
    EXPECT_TRUE(is_object_name(name)) << name;
  }
  for (const std::string& name : {std::string(""), std::string("Kiln"), std::string("-a"), std::string("a-"),
                                  std::string("a..b"), std::string(".a"), std::string("a."), std::string("a.-b"),
                                  std::string("a_b"), std::string("a b"), std::string("a'b"), std::string("a\nb"),
                                  std::string("a\0b", 3), std::string("\xc3\xa4"), longest + "a"}) {
    EXPECT_FALSE(is_object_name(name)) << name;
  }
}

TEST(Patch, IsOneComponent) {
  const auto files = patch_files(
      {.name = "kiln", .request_millicores = 150.4, .limit_millicores = 500, .target_percent = 60});
  ASSERT_EQ(files.size(), 1U);
  EXPECT_EQ(files[0].name, "kustomization.yaml");
  for (const char* expected : {"kind: Component\n", "name: 'kiln'\n", "requests/cpu\n        value: 150m\n",
                               "limits/cpu\n        value: 500m\n", "averageUtilization\n        value: 60\n"}) {
    EXPECT_NE(files[0].text.find(expected), std::string::npos) << expected << "\n" << files[0].text;
  }
}

TEST(Patch, TakesANameByTheLetter) {
  const auto files = patch_files({.name = "a.b", .request_millicores = 1, .limit_millicores = 1, .target_percent = 30});
  EXPECT_NE(files[0].text.find("name: 'a\\.b'\n"), std::string::npos) << "a dot in a target is any character";
}

TEST(Patch, GivesAtLeastAMillicore) {
  const auto files = patch_files({.request_millicores = 0.2, .limit_millicores = 1.5, .target_percent = 30});
  EXPECT_NE(files[0].text.find("value: 1m\n"), std::string::npos) << files[0].text;
  EXPECT_NE(files[0].text.find("value: 2m\n"), std::string::npos) << files[0].text;
}

}  // namespace
}  // namespace kiln::calibrate
