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
  const std::string text =
      patch_text({.name = "kiln", .request_millicores = 150.4, .limit_millicores = 500, .target_percent = 60});
  EXPECT_TRUE(text.starts_with(kPatchBegins)) << text;
  for (const char* expected : {"kind: Component\n", "name: 'kiln'\n", "requests/cpu\n        value: 150m\n",
                               "limits/cpu\n        value: 500m\n", "averageUtilization\n        value: 60\n"}) {
    EXPECT_NE(text.find(expected), std::string::npos) << expected << "\n" << text;
  }
}

TEST(Patch, LeavesALimitThatWasNotMeasuredAlone) {
  const std::string text = patch_text({.request_millicores = 150, .target_percent = 60});
  EXPECT_EQ(text.find("limits"), std::string::npos) << text;
  EXPECT_NE(text.find("value: 150m\n  - target:\n"), std::string::npos) << text;
}

TEST(Patch, TakesANameByTheLetter) {
  const std::string text = patch_text({.name = "a.b", .request_millicores = 1, .target_percent = 30});
  EXPECT_NE(text.find("name: 'a\\.b'\n"), std::string::npos) << "a dot in a target is any character";
}

TEST(Patch, GivesAtLeastAMillicore) {
  const std::string text = patch_text({.request_millicores = 0.2, .limit_millicores = 1.5, .target_percent = 30});
  EXPECT_NE(text.find("value: 1m\n"), std::string::npos) << text;
  EXPECT_NE(text.find("value: 2m\n"), std::string::npos) << text;
}

}  // namespace
}  // namespace kiln::calibrate
