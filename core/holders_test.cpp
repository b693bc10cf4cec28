#include "core/holders.h"

#include <gtest/gtest.h>

#include <array>
#include <vector>

namespace kiln::core {
namespace {

struct HoldersTest : ::testing::Test {
  HoldersTest() {
    for (uint32_t slot = 0; slot < links.size(); ++slot) links[slot].slot = slot;
  }

  // Whoever holds, oldest first, seen from both ends.
  std::vector<uint32_t> order() const {
    std::vector<uint32_t> slots;
    const Holders::Link* before = nullptr;
    for (const Holders::Link* link = holders.oldest(); link != nullptr; before = link, link = link->younger) {
      EXPECT_EQ(link->older, before);
      slots.push_back(link->slot);
    }
    return slots;
  }

  Holders holders;
  std::array<Holders::Link, 4> links;
};

using Slots = std::vector<uint32_t>;

TEST_F(HoldersTest, StandInTheOrderInWhichTheyBegan) {
  EXPECT_EQ(holders.oldest(), nullptr);
  for (const uint32_t slot : {2u, 0u, 3u, 1u}) holders.set(links[slot], 10);
  EXPECT_EQ(order(), (Slots{2, 0, 3, 1}));
  EXPECT_EQ(holders.bytes(), 40u);
  holders.set(links[0], 70);
  holders.set(links[2], 1);
  EXPECT_EQ(order(), (Slots{2, 0, 3, 1})) << "more or less is no new beginning";
  EXPECT_EQ(holders.bytes(), 91u);
}

TEST_F(HoldersTest, WhoGivesEverythingBackBeginsAnew) {
  for (Holders::Link& link : links) holders.set(link, 5);
  for (const uint32_t slot : {0u, 2u, 3u}) {  // at the front, in the middle, at the end
    holders.set(links[slot], 0);
    holders.set(links[slot], 0);
    EXPECT_EQ(holders.bytes(), 15u);
    holders.set(links[slot], 5);
    EXPECT_EQ(holders.bytes(), 20u);
  }
  EXPECT_EQ(order(), (Slots{1, 0, 2, 3}));
  for (Holders::Link& link : links) holders.set(link, 0);
  EXPECT_EQ(order(), Slots{});
  EXPECT_EQ(holders.bytes(), 0u);
}

}  // namespace
}  // namespace kiln::core
