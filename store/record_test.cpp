#include "store/record.h"

#include <gtest/gtest.h>

#include <set>
#include <thread>
#include <vector>

namespace kiln::store {
namespace {

TEST(RecordId, ReadsWhatItWrites) {
  IdMaker ids;
  for (int i = 0; i < 1000; ++i) {
    const RecordId id = ids.next(1'750'000'000'000 + i / 3);
    const std::string text = id.text();
    ASSERT_EQ(text.size(), RecordId::kTextBytes);
    EXPECT_EQ(text[14], '7') << text;
    EXPECT_NE(std::string("89ab").find(text[19]), std::string::npos) << text;
    EXPECT_EQ(RecordId::parse(text), id) << text;
  }
}

// RFC 9562 appendix A.6.
TEST(RecordId, BeginsWithTheTime) {
  const auto id = RecordId::parse("017F22E2-79B0-7CC3-98C4-DC0C0C07398F");
  ASSERT_TRUE(id);
  EXPECT_EQ(id->text(), "017f22e2-79b0-7cc3-98c4-dc0c0c07398f");
  IdMaker ids;
  EXPECT_EQ(ids.next(0x017f22e279b0).text().substr(0, 15), "017f22e2-79b0-7");
}

TEST(RecordId, RefusesEverythingElse) {
  const std::string good = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f";
  for (size_t i = 0; i < good.size(); ++i) {
    for (const char wrong : {'g', '\0', ' ', '-', '/', ':', '@', '`'}) {
      if (good[i] == wrong) continue;
      std::string text = good;
      text[i] = wrong;
      EXPECT_FALSE(RecordId::parse(text)) << text;
    }
  }
  for (const char* text : {"", "017f22e2-79b0-7cc3-98c4-dc0c0c07398", "017f22e2-79b0-7cc3-98c4-dc0c0c07398ff",
                           "017f22e2-79b0-4cc3-98c4-dc0c0c07398f", "017f22e2-79b0-7cc3-c8c4-dc0c0c07398f",
                           "017f22e279b07cc398c4dc0c0c07398f", "{17f22e2-79b0-7cc3-98c4-dc0c0c07398f}"}) {
    EXPECT_FALSE(RecordId::parse(text)) << text;
  }
}

TEST(IdMaker, RisesWhateverTheClockDoes) {
  IdMaker ids;
  RecordId last = ids.next(1000);
  for (const int64_t time : {1000, 1000, 999, 0, -5, 1001, 1001, 5000, 4000}) {
    const RecordId id = ids.next(time);
    EXPECT_GT(id, last) << time;
    EXPECT_GT(id.text(), last.text()) << "as text too";
    last = id;
  }
}

TEST(IdMaker, PassesIdsThatExist) {
  IdMaker ids;
  const RecordId there = *RecordId::parse("00ffffff-ffff-7fff-bfff-fffff0000000");
  ids.pass(there);
  EXPECT_GT(ids.next(1000), there);
  EXPECT_TRUE(RecordId::parse(ids.next(1000).text())) << "a carry leaves the version alone";
  ids.pass(*RecordId::parse("00000000-0000-7000-8000-000000000000"));
  EXPECT_GT(ids.next(1000), there);
}

TEST(IdMaker, CarriesOverTheVersion) {
  IdMaker ids;
  ids.pass(*RecordId::parse("00000000-0001-7fff-bfff-ffffffffffff"));
  const RecordId id = ids.next(0);
  EXPECT_EQ(id.text().substr(0, 23), "00000000-0002-7000-8000");
}

TEST(IdMaker, ThreadsGetDifferentIds) {
  IdMaker ids;
  std::vector<std::vector<RecordId>> got(4);
  {
    std::vector<std::jthread> threads;
    for (auto& mine : got) {
      threads.emplace_back([&ids, &mine] {
        for (int i = 0; i < 5000; ++i) mine.push_back(ids.next(7));
      });
    }
  }
  std::set<RecordId> all;
  for (const auto& mine : got) all.insert(mine.begin(), mine.end());
  EXPECT_EQ(all.size(), 20'000U);
}

}  // namespace
}  // namespace kiln::store
