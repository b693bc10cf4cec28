#include "base/cgroup.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace kiln::base {
namespace {

using namespace std::chrono_literals;

// A recorded tree: paths and what they hold, written below a directory of its own.
class Tree {
 public:
  explicit Tree(const std::map<std::string, std::string>& files) {
    std::string name = ::testing::TempDir() + "kiln-cgroup-XXXXXX";
    EXPECT_NE(::mkdtemp(name.data()), nullptr);
    root_ = name;
    for (const auto& [path, content] : files) write(path, content);
  }
  Tree(const Tree&) = delete;
  Tree& operator=(const Tree&) = delete;
  ~Tree() { std::filesystem::remove_all(root_); }

  void write(const std::string& path, const std::string& content) const {
    const std::filesystem::path file = root_ + path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << content;
  }
  [[nodiscard]] const std::string& root() const { return root_; }

 private:
  std::string root_;
};

const std::string kMountsV2 =
    "22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n"
    "29 22 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
const std::string kStatV2 =
    "usage_usec 2500000\nuser_usec 2000000\nsystem_usec 500000\nnr_periods 40\nnr_throttled 7\nthrottled_usec 123456\n";
const std::string kMountsV1 =
    "22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n"
    "30 22 0:27 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
    "31 22 0:28 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
    "32 22 0:29 / /sys/fs/cgroup/memory rw,nosuid shared:10 - cgroup cgroup rw,memory\n"
    "33 22 0:30 / /sys/fs/cgroup/systemd rw,nosuid shared:11 - cgroup cgroup rw,xattr,name=systemd\n";
const std::string kStatV1 = "nr_periods 50\nnr_throttled 9\nthrottled_time 987654321\n";
const std::string kUnlimitedV1 = "9223372036854771712\n";

// The usual v1 host with co-mounted controllers and the group /service of this process.
std::map<std::string, std::string> tree_v1() {
  return {
      {"/proc/self/mountinfo", kMountsV1},
      {"/proc/self/cgroup", "12:cpuset:/\n4:cpu,cpuacct:/service\n3:memory:/service\n1:name=systemd:/elsewhere\n"},
      {"/sys/fs/cgroup/cpu,cpuacct/release_agent", ""},
      {"/sys/fs/cgroup/cpu,cpuacct/cpuacct.usage", "99000000000\n"},
      {"/sys/fs/cgroup/cpu,cpuacct/service/cpu.cfs_quota_us", "50000\n"},
      {"/sys/fs/cgroup/cpu,cpuacct/service/cpu.cfs_period_us", "100000\n"},
      {"/sys/fs/cgroup/cpu,cpuacct/service/cpuacct.usage", "1234567890\n"},
      {"/sys/fs/cgroup/cpu,cpuacct/service/cpu.stat", kStatV1},
      {"/sys/fs/cgroup/memory/memory.limit_in_bytes", kUnlimitedV1},
      {"/sys/fs/cgroup/memory/service/memory.limit_in_bytes", "268435456\n"},
  };
}

// A v2 host with the group /pod/container of this process.
std::map<std::string, std::string> tree_v2() {
  return {
      {"/proc/self/mountinfo", kMountsV2},
      {"/proc/self/cgroup", "0::/pod/container\n"},
      {"/sys/fs/cgroup/cpu.stat", "usage_usec 99000000\n"},
      {"/sys/fs/cgroup/pod/cgroup.type", "domain\n"},
      {"/sys/fs/cgroup/pod/cpu.max", "max 100000\n"},
      {"/sys/fs/cgroup/pod/memory.max", "max\n"},
      {"/sys/fs/cgroup/pod/container/cgroup.type", "domain\n"},
      {"/sys/fs/cgroup/pod/container/cpu.max", "50000 100000\n"},
      {"/sys/fs/cgroup/pod/container/cpu.stat", kStatV2},
      {"/sys/fs/cgroup/pod/container/memory.max", "134217728\n"},
  };
}

void expect_bill(const std::optional<CpuBill>& bill, std::chrono::nanoseconds used, uint64_t throttled_periods,
                 std::chrono::nanoseconds throttled) {
  ASSERT_TRUE(bill);
  EXPECT_EQ(bill->used, used);
  EXPECT_EQ(bill->throttled_periods, throttled_periods);
  EXPECT_EQ(bill->throttled, throttled);
}

TEST(Cgroup, TellsTheMemoryThatIsLeft) {
  constexpr uint64_t kMiB = 1 << 20;
  const std::string group_v1 = "/sys/fs/cgroup/memory/service";
  const std::string group_v2 = "/sys/fs/cgroup/pod/container";
  auto v1 = tree_v1();
  {
    const Tree tree(v1);
    EXPECT_FALSE(Cgroup::find(tree.root()).memory_left()) << "what is used is not known";
  }
  v1[group_v1 + "/memory.usage_in_bytes"] = "105906176\n";  // 101 MiB
  v1[group_v1 + "/memory.stat"] =
      "active_file 1\ninactive_file 1\ntotal_active_file 1048576\ntotal_inactive_file 2097152\n";
  {
    const Tree tree(v1);
    EXPECT_EQ(Cgroup::find(tree.root()).memory_left(), (256 - 101 + 3) * kMiB);
  }
  auto v2 = tree_v2();
  v2[group_v2 + "/memory.current"] = "134217728\n";
  v2[group_v2 + "/memory.stat"] = "anon 1\nactive_file 1048576\ninactive_file 2097152\nshmem 7\n";
  {
    const Tree tree(v2);
    EXPECT_EQ(Cgroup::find(tree.root()).memory_left(), 3 * kMiB);
  }
  v2["/sys/fs/cgroup/pod/memory.max"] = "136314880\n";  // 130 MiB, used by two containers
  v2["/sys/fs/cgroup/pod/memory.current"] = "135266304\n";
  v2["/sys/fs/cgroup/pod/memory.stat"] = "active_file 0\ninactive_file 0\n";
  {
    const Tree tree(v2);
    EXPECT_EQ(Cgroup::find(tree.root()).memory_left(), kMiB) << "the parent leaves less";
  }
  v2["/sys/fs/cgroup/pod/memory.current"] = "236314880\n";
  {
    const Tree tree(v2);
    EXPECT_EQ(Cgroup::find(tree.root()).memory_left(), 0U) << "over the limit for a moment";
  }
  v2.erase("/sys/fs/cgroup/pod/memory.stat");
  const Tree tree(v2);
  EXPECT_FALSE(Cgroup::find(tree.root()).memory_left());
}

TEST(Cgroup, ReadsCoMountedControllersOfVersionOne) {
  const Tree tree(tree_v1());
  const Cgroup cgroup = Cgroup::find(tree.root());
  EXPECT_EQ(cgroup.version(), 1);
  EXPECT_EQ(cgroup.cpu_directory(), tree.root() + "/sys/fs/cgroup/cpu,cpuacct/service");
  ASSERT_TRUE(cgroup.cpu_quota());
  EXPECT_EQ(cgroup.cpu_quota()->cores, 0.5);
  EXPECT_EQ(cgroup.cpu_quota()->source, cgroup.cpu_directory() + "/cpu.cfs_quota_us");
  EXPECT_EQ(cgroup.memory_limit(), 256u << 20);
  expect_bill(cgroup.cpu_bill(), 1234567890ns, 9, 987654321ns);
  EXPECT_EQ(cgroup.warnings(), std::vector<std::string>());
  EXPECT_TRUE(cgroup.cpu_quota_is_known());
}

TEST(Cgroup, FindsTheGroupsOfAnotherProcess) {
  const Tree tree({
      {"/proc/self/mountinfo",
       "31 22 0:28 / /sys/fs/cgroup/cpuacct rw - cgroup cgroup rw,cpuacct\n"
       "33 22 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"},
      {"/proc/self/cgroup", "2:cpuacct:/ours\n1:cpu:/ours\n"},
      {"/proc/123/cgroup", "2:cpuacct:/b\n1:cpu:/c\n"},
      {"/sys/fs/cgroup/cpu/c/cpu.cfs_quota_us", "50000\n"},
      {"/sys/fs/cgroup/cpu/c/cpu.cfs_period_us", "100000\n"},
      {"/sys/fs/cgroup/cpuacct/b/cpuacct.usage", "42\n"},
  });
  const Cgroup cgroup = Cgroup::find(tree.root(), "123");
  EXPECT_EQ(cgroup.cpu_directory(), tree.root() + "/sys/fs/cgroup/cpu/c");
  EXPECT_EQ(cgroup.accounting_directory(), tree.root() + "/sys/fs/cgroup/cpuacct/b");
  ASSERT_TRUE(cgroup.cpu_quota());
  EXPECT_EQ(cgroup.cpu_quota()->cores, 0.5);
  ASSERT_TRUE(cgroup.cpu_bill());
  EXPECT_EQ(cgroup.cpu_bill()->used, 42ns);
}

TEST(Cgroup, ReadsSeparatelyMountedControllersOfVersionOne) {
  const Tree tree({
      {"/proc/self/mountinfo",
       "31 22 0:28 / /sys/fs/cgroup/cpuacct rw - cgroup cgroup rw,cpuacct\n"
       "32 22 0:29 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
       "33 22 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"},
      {"/proc/self/cgroup", "3:cpuset:/a\n2:cpuacct:/b\n1:cpu:/c\n"},
      {"/sys/fs/cgroup/cpu/c/cpu.cfs_quota_us", "150000\n"},
      {"/sys/fs/cgroup/cpu/c/cpu.cfs_period_us", "100000\n"},
      {"/sys/fs/cgroup/cpu/c/cpu.stat", kStatV1},
      {"/sys/fs/cgroup/cpuacct/b/cpuacct.usage", "42\n"},
  });
  const Cgroup cgroup = Cgroup::find(tree.root());
  ASSERT_TRUE(cgroup.cpu_quota());
  EXPECT_EQ(cgroup.cpu_quota()->cores, 1.5);
  expect_bill(cgroup.cpu_bill(), 42ns, 9, 987654321ns);
  EXPECT_FALSE(cgroup.memory_limit());
}

TEST(Cgroup, TakesTheMountsRootOffThePathInAContainer) {
  const Tree tree({
      {"/proc/self/mountinfo",
       "31 22 0:28 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro master:9 - cgroup cgroup rw,cpu,cpuacct\n"
       "32 22 0:29 /docker/abc /sys/fs/cgroup/memory ro master:10 - cgroup cgroup rw,memory\n"},
      {"/proc/self/cgroup", "4:cpu,cpuacct:/docker/abc\n3:memory:/docker/abc/inner\n"},
      {"/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "70000\n"},
      {"/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"},
      {"/sys/fs/cgroup/cpu,cpuacct/cpuacct.usage", "7\n"},
      {"/sys/fs/cgroup/memory/memory.limit_in_bytes", "1048576\n"},
      {"/sys/fs/cgroup/memory/inner/memory.limit_in_bytes", kUnlimitedV1},
  });
  const Cgroup cgroup = Cgroup::find(tree.root());
  EXPECT_EQ(cgroup.cpu_directory(), tree.root() + "/sys/fs/cgroup/cpu,cpuacct");
  ASSERT_TRUE(cgroup.cpu_quota());
  EXPECT_EQ(cgroup.cpu_quota()->cores, 0.7);
  EXPECT_EQ(cgroup.memory_limit(), 1u << 20) << "the parent's limit holds for the group inside";
  const auto bill = cgroup.cpu_bill();
  ASSERT_TRUE(bill);
  EXPECT_EQ(bill->used, 7ns);
  EXPECT_FALSE(bill->throttled_periods) << "cpu.stat is absent";
  EXPECT_FALSE(bill->throttled);
}

TEST(Cgroup, ReadsVersionTwo) {
  const Tree tree(tree_v2());
  const Cgroup cgroup = Cgroup::find(tree.root());
  EXPECT_EQ(cgroup.version(), 2);
  EXPECT_EQ(cgroup.cpu_directory(), tree.root() + "/sys/fs/cgroup/pod/container");
  ASSERT_TRUE(cgroup.cpu_quota());
  EXPECT_EQ(cgroup.cpu_quota()->cores, 0.5);
  EXPECT_EQ(cgroup.memory_limit(), 128u << 20);
  expect_bill(cgroup.cpu_bill(), 2500ms, 7, 123456us);
  EXPECT_EQ(cgroup.warnings(), std::vector<std::string>());
}

TEST(Cgroup, TakesTheSmallestLimitOfGroupAndParents) {
  const struct {
    const char* name;
    const char* parent;
    const char* own;
    double cores;  // 0: no limit
    const char* source;
  } rows[] = {
      {"tighter parent", "20000 100000\n", "50000 100000\n", 0.2, "/pod/cpu.max"},
      {"looser parent", "200000 100000\n", "50000 100000\n", 0.5, "/pod/container/cpu.max"},
      {"other period", "20000 200000\n", "15000 100000\n", 0.1, "/pod/cpu.max"},
      {"parent only", "50000 100000\n", "max 100000\n", 0.5, "/pod/cpu.max"},
      {"own only", "max 100000\n", "250000 100000\n", 2.5, "/pod/container/cpu.max"},
      {"none", "max 100000\n", "max 100000\n", 0, ""},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.name);
    const Tree tree(tree_v2());
    tree.write("/sys/fs/cgroup/pod/cpu.max", row.parent);
    tree.write("/sys/fs/cgroup/pod/container/cpu.max", row.own);
    const auto quota = Cgroup::find(tree.root()).cpu_quota().value_or(CpuQuota{});
    EXPECT_EQ(quota.cores, row.cores);
    EXPECT_TRUE(quota.source.ends_with(row.source)) << quota.source;
  }
}

TEST(Cgroup, SeesAQuotaThatChanges) {
  const Tree tree(tree_v2());
  const Cgroup cgroup = Cgroup::find(tree.root());
  tree.write("/sys/fs/cgroup/pod/container/cpu.max", "80000 100000\n");
  tree.write("/sys/fs/cgroup/pod/container/cpu.stat", "usage_usec 2600000\nnr_throttled 8\nthrottled_usec 123457\n");
  EXPECT_EQ(cgroup.cpu_quota()->cores, 0.8);
  expect_bill(cgroup.cpu_bill(), 2600ms, 8, 123457us);
}

TEST(Cgroup, ReadsItsOwnLimitsInACgroupNamespace) {
  const Tree tree({
      {"/proc/self/mountinfo", kMountsV2},
      {"/proc/self/cgroup", "0::/\n"},
      {"/sys/fs/cgroup/cgroup.type", "domain\n"},
      {"/sys/fs/cgroup/cpu.max", "50000 100000\n"},
      {"/sys/fs/cgroup/cpu.stat", kStatV2},
      {"/sys/fs/cgroup/memory.max", "max\n"},
  });
  const Cgroup cgroup = Cgroup::find(tree.root());
  EXPECT_EQ(cgroup.cpu_directory(), tree.root() + "/sys/fs/cgroup");
  EXPECT_EQ(cgroup.cpu_quota()->cores, 0.5);
  EXPECT_FALSE(cgroup.memory_limit());
  expect_bill(cgroup.cpu_bill(), 2500ms, 7, 123456us);
}

TEST(Cgroup, BillsNothingOnTheMachinesRoot) {
  const Tree v2(
      {{"/proc/self/mountinfo", kMountsV2}, {"/proc/self/cgroup", "0::/\n"}, {"/sys/fs/cgroup/cpu.stat", kStatV2}});
  auto files = tree_v1();
  files["/proc/self/cgroup"] = "4:cpu,cpuacct:/\n3:memory:/\n";
  const Tree v1(files);
  for (const Tree* tree : {&v2, &v1}) {
    const Cgroup cgroup = Cgroup::find(tree->root());
    EXPECT_NE(cgroup.version(), 0);
    EXPECT_FALSE(cgroup.cpu_bill());
    EXPECT_FALSE(cgroup.cpu_quota()) << "an absent file is no limit";
    EXPECT_FALSE(cgroup.memory_limit());
    EXPECT_TRUE(cgroup.cpu_quota_is_known());
    EXPECT_EQ(cgroup.warnings(), std::vector<std::string>()) << "an absent file is no error";
  }
}

TEST(Cgroup, PrefersVersionOneInTheHybridLayout) {
  auto files = tree_v1();
  files["/proc/self/mountinfo"] += "41 22 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
  files["/proc/self/cgroup"] += "0::/service\n";
  files["/sys/fs/cgroup/unified/service/cgroup.type"] = "domain\n";
  files["/sys/fs/cgroup/unified/service/cpu.stat"] = "usage_usec 1\n";
  const Tree tree(files);
  const Cgroup cgroup = Cgroup::find(tree.root());
  EXPECT_EQ(cgroup.version(), 1);
  EXPECT_EQ(cgroup.cpu_quota()->cores, 0.5);
  expect_bill(cgroup.cpu_bill(), 1234567890ns, 9, 987654321ns);
}

TEST(Cgroup, UsesVersionTwoForControllersThatVersionOneLacks) {
  auto files = tree_v2();
  files["/proc/self/mountinfo"] += "41 22 0:38 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
  files["/proc/self/cgroup"] += "3:memory:/m\n";
  files["/sys/fs/cgroup/memory/m/memory.limit_in_bytes"] = "4096\n";
  const Tree tree(files);
  const Cgroup cgroup = Cgroup::find(tree.root());
  EXPECT_EQ(cgroup.version(), 2);
  EXPECT_EQ(cgroup.cpu_quota()->cores, 0.5);
  EXPECT_EQ(cgroup.memory_limit(), 4096u);
}

TEST(Cgroup, FindsNothingWhereNothingIs) {
  const Tree tree(std::map<std::string, std::string>{});
  const Cgroup cgroup = Cgroup::find(tree.root());
  EXPECT_EQ(cgroup.version(), 0);
  EXPECT_EQ(cgroup.cpu_directory(), "");
  EXPECT_FALSE(cgroup.cpu_quota());
  EXPECT_FALSE(cgroup.cpu_bill());
  EXPECT_FALSE(cgroup.memory_limit());
  EXPECT_EQ(cgroup.warnings(), std::vector<std::string>());
}

TEST(Cgroup, WarnsOfGarbageAndInventsNothing) {
  const std::string kGroupV1 = "/sys/fs/cgroup/cpu,cpuacct/service";
  const std::string kGroupV2 = "/sys/fs/cgroup/pod/container";
  enum class Lost { Quota, Bill, Memory };
  const struct {
    bool v2;
    std::string file;
    std::string content;
    Lost lost;
  } rows[] = {
      {true, kGroupV2 + "/cpu.max", "", Lost::Quota},
      {true, kGroupV2 + "/cpu.max", "\n", Lost::Quota},
      {true, kGroupV2 + "/cpu.max", "max\n", Lost::Quota},
      {true, kGroupV2 + "/cpu.max", "50000\n", Lost::Quota},
      {true, kGroupV2 + "/cpu.max", "50000 0\n", Lost::Quota},
      {true, kGroupV2 + "/cpu.max", "0 100000\n", Lost::Quota},
      {true, kGroupV2 + "/cpu.max", "-1 100000\n", Lost::Quota},
      {true, kGroupV2 + "/cpu.max", "50000 100000 1\n", Lost::Quota},
      {true, kGroupV2 + "/cpu.max", "50000us 100000\n", Lost::Quota},
      {true, kGroupV2 + "/cpu.max", "99999999999999999999 100000\n", Lost::Quota},
      {true, kGroupV2 + "/memory.max", "many\n", Lost::Memory},
      {true, kGroupV2 + "/cpu.stat", "usage_usec\n", Lost::Bill},
      {true, kGroupV2 + "/cpu.stat", "user_usec 5\n", Lost::Bill},
      {true, kGroupV2 + "/cpu.stat", "usage_usec 18446744073709551615\n", Lost::Bill},
      {false, kGroupV1 + "/cpu.cfs_quota_us", "half\n", Lost::Quota},
      {false, kGroupV1 + "/cpu.cfs_quota_us", "0\n", Lost::Quota},
      {false, kGroupV1 + "/cpu.cfs_period_us", "0\n", Lost::Quota},
      {false, kGroupV1 + "/cpu.cfs_period_us", "-100000\n", Lost::Quota},
      {false, kGroupV1 + "/cpuacct.usage", "\x01\n", Lost::Bill},
      {false, "/sys/fs/cgroup/memory/service/memory.limit_in_bytes", "-1\n", Lost::Memory},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.file + " " + row.content);
    const Tree tree(row.v2 ? tree_v2() : tree_v1());
    tree.write(row.file, row.content);
    const Cgroup cgroup = Cgroup::find(tree.root());
    EXPECT_EQ(cgroup.cpu_quota().has_value(), row.lost != Lost::Quota);
    EXPECT_EQ(cgroup.cpu_quota_is_known(), row.lost != Lost::Quota);
    EXPECT_EQ(cgroup.cpu_bill().has_value(), row.lost != Lost::Bill);
    EXPECT_EQ(cgroup.memory_limit().has_value(), row.lost != Lost::Memory);
    ASSERT_EQ(cgroup.warnings().size(), 1u);
    EXPECT_TRUE(cgroup.warnings()[0].starts_with(tree.root() + row.file)) << cgroup.warnings()[0];
  }
}

TEST(Cgroup, WarnsOfGarbledTablesAndReadsTheOtherLines) {
  auto files = tree_v2();
  files["/proc/self/cgroup"] = "nonsense\n\n0::/pod/container\n";
  files["/proc/self/mountinfo"] = "1 2 3\n" + kMountsV2;
  const Tree tree(files);
  const Cgroup cgroup = Cgroup::find(tree.root());
  EXPECT_EQ(cgroup.cpu_quota()->cores, 0.5);
  EXPECT_EQ(cgroup.warnings().size(), 3u);
}

TEST(Cgroup, DoesNotGuessAGroupThatNoMountShows) {
  const struct {
    const char* name;
    const char* mount_root;
    const char* path;
    bool visible;
  } rows[] = {
      {"the mount's own root", "/docker/abc", "/docker/abc", true},
      {"below the mount's root", "/docker", "/docker/abc", true},
      {"beside the mount's root", "/docker/abc", "/docker/abcd", false},
      {"above the mount's root", "/docker/abc", "/docker", false},
      {"outside of the namespace", "/", "/../other", false},
      {"outside of the namespace, but in the mount", "/..", "/../other", true},
      {"a mount from outside of the namespace", "/..", "/", false},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.name);
    const Tree tree({
        {"/proc/self/mountinfo",
         std::string("29 22 0:26 ") + row.mount_root + " /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"},
        {"/proc/self/cgroup", std::string("0::") + row.path + "\n"},
    });
    const Cgroup cgroup = Cgroup::find(tree.root());
    EXPECT_EQ(cgroup.version(), row.visible ? 2 : 0);
    EXPECT_EQ(cgroup.cpu_quota_is_known(), row.visible);
    EXPECT_EQ(cgroup.warnings().empty(), row.visible);
  }
}

TEST(Cgroup, PrefersTheMountThatShowsMostParents) {
  auto files = tree_v2();
  files["/proc/self/mountinfo"] = "28 22 0:26 /pod/container /inner rw - cgroup2 cgroup2 rw\n" + kMountsV2 +
                                  "30 22 0:26 /pod /outer rw - cgroup2 cgroup2 rw\n";
  files["/sys/fs/cgroup/pod/cpu.max"] = "10000 100000\n";
  files["/inner/cpu.max"] = "50000 100000\n";
  const Tree tree(files);
  const Cgroup cgroup = Cgroup::find(tree.root());
  EXPECT_EQ(cgroup.cpu_directory(), tree.root() + "/sys/fs/cgroup/pod/container");
  EXPECT_EQ(cgroup.cpu_quota()->cores, 0.1);
}

TEST(Cgroup, UndoesTheOctalEscapesOfMountPoints) {
  const Tree tree({
      {"/proc/self/mountinfo", "29 22 0:26 /a\\040group /mnt/my\\040groups\\134\\011x rw - cgroup2 cgroup2 rw\n"},
      {"/proc/self/cgroup", "0::/a group/with:colon\n"},
      {"/mnt/my groups\\\tx/with:colon/cpu.max", "30000 100000\n"},
  });
  const Cgroup cgroup = Cgroup::find(tree.root());
  EXPECT_EQ(cgroup.cpu_directory(), tree.root() + "/mnt/my groups\\\tx/with:colon");
  ASSERT_TRUE(cgroup.cpu_quota());
  EXPECT_EQ(cgroup.cpu_quota()->cores, 0.3);
}

TEST(Cgroup, TheRealBillNeverFalls) {
  const Cgroup cgroup = Cgroup::find();
  const auto before = cgroup.cpu_bill();
  const auto after = cgroup.cpu_bill();
  ASSERT_EQ(before.has_value(), after.has_value());
  EXPECT_LE(before.value_or(CpuBill{}).used, after.value_or(CpuBill{}).used);
}

}  // namespace
}  // namespace kiln::base
