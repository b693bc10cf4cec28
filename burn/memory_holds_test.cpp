#include "burn/memory_holds.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <string>
#include <thread>

namespace kiln::burn {
namespace {

using namespace std::chrono_literals;
using Why = MemoryHolds::Refused::Why;

constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kPlenty = uint64_t{1} << 50;

uint64_t plenty() { return kPlenty; }

MemoryHolds::TimePoint now() { return std::chrono::steady_clock::now(); }

// The thread is on its way; the test's own time limit is the end of patience.
template <class Condition>
void wait_until(Condition condition) {
  while (!condition()) std::this_thread::yield();
}

uint64_t page_bytes() { return static_cast<uint64_t>(::sysconf(_SC_PAGESIZE)); }

uint64_t resident_bytes() {
  FILE* const file = std::fopen("/proc/self/statm", "re");
  if (file == nullptr) return 0;
  unsigned long long total = 0;
  unsigned long long resident = 0;
  const int read = std::fscanf(file, "%llu %llu", &total, &resident);
  std::fclose(file);
  return read == 2 ? resident * page_bytes() : 0;
}

TEST(MemoryHolds, AreResidentUntilCancelled) {
  MemoryHolds holds;
  const auto small = holds.add(1, 1h, plenty, now());
  ASSERT_TRUE(small);
  EXPECT_EQ(small->bytes, page_bytes());
  wait_until([&] { return holds.held() == small->bytes; });

  const uint64_t before = resident_bytes();
  const auto large = holds.add(32 * kMiB, 1h, plenty, now());
  ASSERT_TRUE(large);
  EXPECT_LT(small->id, large->id);
  wait_until([&] { return holds.held() == small->bytes + large->bytes; });
  const uint64_t full = resident_bytes();
  // At least: ThreadSanitizer keeps a shadow of every page. How exact it is shows end to end.
  EXPECT_GE(full, before + 31 * kMiB);
  // The list is told a moment after the page is touched.
  wait_until([&] { return holds.list(now())[1].held == 32 * kMiB; });
  const auto list = holds.list(now());
  ASSERT_EQ(list.size(), 2U);
  EXPECT_EQ(list[1].id, large->id);
  EXPECT_EQ(list[1].time, 1h);

  EXPECT_TRUE(holds.cancel(large->id, now()));
  EXPECT_FALSE(holds.cancel(large->id, now()));
  EXPECT_FALSE(holds.cancel(77, now()));
  EXPECT_EQ(holds.list(now()).size(), 1U);
  wait_until([&] { return holds.held() == small->bytes; });
  EXPECT_LE(resident_bytes() + 31 * kMiB, full);
}

TEST(MemoryHolds, EndByThemselves) {
  MemoryHolds holds;
  const auto begin = now();
  ASSERT_TRUE(holds.add(kMiB, 20ms, plenty, begin));
  ASSERT_TRUE(holds.add(kMiB, 1h, plenty, begin));
  EXPECT_EQ(holds.list(begin + 20ms - 1ns).size(), 2U);
  EXPECT_EQ(holds.list(begin + 20ms).size(), 1U);
  EXPECT_FALSE(holds.cancel(1, begin + 20ms));
  wait_until([&] { return now() > begin + 20ms && holds.held() == kMiB; });
  EXPECT_EQ(holds.list(now()).size(), 1U);
}

TEST(MemoryHolds, AreAtMostAHundred) {
  MemoryHolds holds;
  const auto begin = now();
  for (size_t i = 0; i < MemoryHolds::kHoldsMax; ++i) {
    ASSERT_TRUE(holds.add(1, i == 0 ? 1h : 2h, plenty, begin)) << i;
  }
  const auto refused = holds.add(1, 1h, plenty, begin);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().why, Why::TooMany);
  EXPECT_TRUE(holds.add(1, 1h, plenty, begin + 1h));
}

TEST(MemoryHolds, LeaveRoomAndCountWhatIsPromised) {
  MemoryHolds holds;
  const auto room = [](uint64_t bytes) { return [bytes] { return bytes; }; };
  const auto refused = holds.add(kMiB, 1h, room(17 * kMiB - 1), now());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().why, Why::NoRoom);
  EXPECT_EQ(refused.error().room, kMiB - 1);
  EXPECT_EQ(holds.add(1, 1h, room(0), now()).error().room, 0U);
  EXPECT_TRUE(holds.add(kMiB, 1h, room(17 * kMiB), now()));
  wait_until([&] { return holds.held() == kMiB; });
  // Touched, it is the resident memory's to count.
  wait_until([&] { return holds.add(kMiB, 1h, room(17 * kMiB), now()).has_value(); });
}

TEST(MemoryHolds, PromiseThatIsNotTouchedYetTakesRoom) {
  MemoryHolds holds;
  ASSERT_TRUE(holds.add(uint64_t{4} << 30, 1h, plenty, now()));
  const auto refused = holds.add(
      kMiB, 1h, [] { return 17 * kMiB; }, now());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().why, Why::NoRoom);
}

TEST(MemoryHolds, AreInterruptedWhileTheyFill) {
  auto holds = std::make_unique<MemoryHolds>();
  const auto first = holds->add(uint64_t{4} << 30, 1h, plenty, now());
  ASSERT_TRUE(first);
  wait_until([&] { return holds->held() > 0; });
  ASSERT_TRUE(holds->cancel(first->id, now()));
  wait_until([&] { return holds->held() == 0; });
  ASSERT_TRUE(holds->add(uint64_t{4} << 30, 1h, plenty, now()));
  wait_until([&] { return holds->held() > 0; });
  holds.reset();
}

TEST(MemoryHolds, SurviveAKernelThatGivesNothing) {
  MemoryHolds holds;
  const auto hold = holds.add(MemoryHolds::kBytesMax, 1h, plenty, now());
  ASSERT_TRUE(hold);
  // Refused by the kernel, it no longer takes room from others.
  wait_until([&] {
    return holds
        .add(
            1, 1h, [] { return 17 * kMiB; }, now())
        .has_value();
  });
  ASSERT_EQ(holds.list(now()).size(), 2U);
  EXPECT_EQ(holds.list(now())[0].held, 0U);
  EXPECT_TRUE(holds.cancel(hold->id, now()));
}

TEST(MemoryHolds, RoomIsTheLimitsOrTheMachines) {
  const std::string meminfo = "MemTotal:       24000000 kB\nMemFree: 5 kB\nMemAvailable:    1024 kB\nBuffers: 1 kB\n";
  EXPECT_EQ(memory_room(std::nullopt, meminfo), kMiB);
  EXPECT_EQ(memory_room(kMiB - 1, meminfo), kMiB - 1);
  EXPECT_EQ(memory_room(4 * kMiB, meminfo), kMiB);
  EXPECT_EQ(memory_room(0, meminfo), 0U);
  EXPECT_EQ(memory_room(4 * kMiB, ""), 0U);
  EXPECT_EQ(memory_room(std::nullopt, "MemAvailable:"), 0U);
}

}  // namespace
}  // namespace kiln::burn
