#include "core/mailbox.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <thread>
#include <utility>
#include <vector>

namespace kiln::core {
namespace {

bool rings(const Mailbox& mailbox, int milliseconds) {
  pollfd watched{.fd = mailbox.eventfd(), .events = POLLIN, .revents = 0};
  return ::poll(&watched, 1, milliseconds) == 1;
}

TEST(Mailbox, RingsOnceForABatchAndHandsItOutInOrder) {
  const auto mailbox = Mailbox::open();
  ASSERT_TRUE(mailbox.has_value());
  EXPECT_FALSE(rings(**mailbox, 0));
  std::vector<int> seen;
  for (int i = 0; i < 3; ++i) (*mailbox)->post([&seen, i] { seen.push_back(i); });
  EXPECT_TRUE(rings(**mailbox, 0));
  for (Mailbox::Letter& letter : (*mailbox)->take()) letter();
  EXPECT_EQ(seen, (std::vector<int>{0, 1, 2}));
  EXPECT_FALSE(rings(**mailbox, 0));
  EXPECT_TRUE((*mailbox)->take().empty());
}

TEST(Mailbox, LosesNothingThatSeveralThreadsPost) {
  constexpr int kThreads = 4;
  constexpr int kLetters = 5000;
  const auto mailbox = Mailbox::open();
  ASSERT_TRUE(mailbox.has_value());
  std::vector<int> last(kThreads, -1);  // of each thread; touched by letters only
  int seen = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kLetters; ++i) {
        (*mailbox)->post([&, t, i] {
          EXPECT_EQ(std::exchange(last[static_cast<size_t>(t)], i), i - 1);
          ++seen;
        });
      }
    });
  }
  // A lost ring would end this wait without its letters.
  while (seen < kThreads * kLetters) {
    ASSERT_TRUE(rings(**mailbox, 10'000)) << seen;
    for (Mailbox::Letter& letter : (*mailbox)->take()) letter();
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(seen, kThreads * kLetters);
}

}  // namespace
}  // namespace kiln::core
