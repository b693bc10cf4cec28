// What every back end that needs no server promises alike.
#include "store/database.h"

#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <set>
#include <thread>

#include "store/memory.h"
#include "store/sqlite.h"
#include "store/test_directory.h"

namespace kiln::store {
namespace {

struct BackEnd {
  const char* name;
  std::unique_ptr<Database> (*open)(const TestDirectory&);
};

class AnyDatabase : public testing::TestWithParam<BackEnd> {
 protected:
  std::unique_ptr<Session> open_session() {
    auto opened = database_->open_session(ids_);
    if (opened) return std::move(*opened);
    ADD_FAILURE() << opened.error().what;
    return nullptr;
  }

  void SetUp() override { ASSERT_NE(session_, nullptr); }

  TestDirectory directory_;
  std::unique_ptr<Database> database_ = GetParam().open(directory_);
  IdMaker ids_;
  std::unique_ptr<Session> session_ = open_session();
};

TEST_P(AnyDatabase, HasItsName) { EXPECT_EQ(database_->name(), GetParam().name); }

TEST_P(AnyDatabase, GivesBackEveryByte) {
  const std::string texts[] = {
      "{}",
      "{ \"a\" :\t1 ,\r\n \"b\" : [ ] }",
      R"({"a":1,"a":2,"$set":{"x.y":1},"":null})",
      R"({"nul":"a\u0000b","\u0000":1})",
      "{\"\xc3\xa9\":\"\xe2\x82\xac \xf0\x9f\x98\x80 \xef\xbf\xbf \x7f\"}",
      R"({"quote":"'\"\\';DROP TABLE records;--"})",
      R"({"n":[123456789012345678901234567890,1e400,-0,0.10]})",
      R"({"a":")" + std::string(64 * 1024 - 8, 'x') + "\"}",
      R"({"b":")" + std::string(256 * 1024, 'y') + "\"}",
  };
  std::vector<Change> changes;
  int64_t now = 0;
  for (const std::string& text : texts) changes.push_back(inserting(ids_, text, now++));
  ASSERT_TRUE(session_->apply(changes));
  const auto reader = open_session();
  std::vector<Lookup> lookups;
  for (const Change& change : changes) lookups.push_back({.id = change.record.id});
  ASSERT_TRUE(reader->find(lookups));
  const auto listed = all_records(*reader, 2);
  ASSERT_TRUE(listed);
  ASSERT_EQ(listed->size(), std::size(texts));
  for (size_t i = 0; i < std::size(texts); ++i) {
    SCOPED_TRACE(texts[i].substr(0, 60));
    const std::optional<Record>& found = lookups[i].record;
    ASSERT_TRUE(found);
    for (const Record& record : {*found, (*listed)[std::size(texts) - 1 - i]}) {
      EXPECT_EQ(record.id, changes[i].record.id);
      EXPECT_EQ(record.created_at, static_cast<int64_t>(i));
      EXPECT_TRUE(record.data == texts[i]);
    }
  }
}

TEST_P(AnyDatabase, FindsNothingUnderOtherIds) {
  RecordId id;
  ASSERT_EQ(put(*session_, ids_, "{}", &id), "");
  RecordId next = id, unknown;
  ++next.bytes[15];
  Lookup lookups[] = {{.id = unknown}, {.id = id}, {.id = next}, {.id = id}};
  ASSERT_TRUE(session_->find(lookups));
  EXPECT_FALSE(lookups[0].record);
  EXPECT_TRUE(lookups[1].record);
  EXPECT_FALSE(lookups[2].record);
  EXPECT_TRUE(lookups[3].record);
  EXPECT_TRUE(session_->find({}));
  EXPECT_TRUE(session_->apply({}));
}

TEST_P(AnyDatabase, RemovesOnceInTheOrderOfTheBatch) {
  std::vector<Change> changes;
  changes.push_back(inserting(ids_, "{\"kept\":1}"));
  const RecordId kept = changes[0].record.id;
  changes.push_back(inserting(ids_, "{\"gone\":1}"));
  const RecordId gone = changes[1].record.id;
  changes.push_back(removing(gone));
  changes.push_back(removing(gone));
  changes.push_back(removing({}));
  ASSERT_TRUE(session_->apply(changes));
  EXPECT_TRUE(changes[2].found);
  EXPECT_FALSE(changes[3].found);
  EXPECT_FALSE(changes[4].found);
  Change again[] = {removing(gone), removing(kept), removing(kept)};
  ASSERT_TRUE(session_->apply(again));
  EXPECT_FALSE(again[0].found);
  EXPECT_TRUE(again[1].found);
  EXPECT_FALSE(again[2].found);
  EXPECT_TRUE(all_records(*session_)->empty());
}

TEST_P(AnyDatabase, PagesNewestFirst) {
  std::vector<RecordId> ids(10);
  for (RecordId& id : ids) ASSERT_EQ(put(*session_, ids_, "{}", &id), "");
  ASSERT_EQ(apply(*session_, {removing(ids[4])}), "");
  struct Row {
    const char* name;
    PageRequest request;
    std::vector<size_t> expected;
    bool more;
  };
  const Row rows[] = {
      {"from the newest", {std::nullopt, 3}, {9, 8, 7}, true},
      {"one less than all", {std::nullopt, 8}, {9, 8, 7, 6, 5, 3, 2, 1}, true},
      {"all exactly", {std::nullopt, 9}, {9, 8, 7, 6, 5, 3, 2, 1, 0}, false},
      {"all and more", {std::nullopt, 10}, {9, 8, 7, 6, 5, 3, 2, 1, 0}, false},
      {"older than one", {ids[7], 2}, {6, 5}, true},
      {"older than a removed one", {ids[4], 3}, {3, 2, 1}, true},
      {"the last ones exactly", {ids[3], 3}, {2, 1, 0}, false},
      {"older than the oldest", {ids[0], 3}, {}, false},
      {"older than everything", {RecordId{}, 3}, {}, false},
      {"newer than everything", {ids_.next(1'800'000'000'000), 1}, {9}, true},
      {"none", {std::nullopt, 0}, {}, true},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.name);
    const auto page = session_->page(row.request);
    ASSERT_TRUE(page);
    EXPECT_EQ(page->more, row.more);
    ASSERT_EQ(page->records.size(), row.expected.size());
    for (size_t i = 0; i < row.expected.size(); ++i) EXPECT_EQ(page->records[i].id, ids[row.expected[i]]) << i;
  }
}

TEST_P(AnyDatabase, EndsAPageByItsBytes) {
  constexpr size_t kBytes = 64 * 1024;
  constexpr size_t kFull = kPageBytesMax / kBytes;  // records that fill a page exactly
  for (size_t i = 0; i < 2 * kFull; ++i) ASSERT_EQ(put(*session_, ids_, std::string(kBytes, 'x')), "");
  struct Row {
    size_t count_max;
    size_t expected;
  };
  for (const Row& row : {Row{kFull - 1, kFull - 1}, Row{kFull, kFull}, Row{kFull + 1, kFull + 1},
                         Row{kFull + 2, kFull + 1}, Row{1000, kFull + 1}}) {
    const auto page = session_->page({.before = std::nullopt, .count_max = row.count_max});
    ASSERT_TRUE(page);
    EXPECT_EQ(page->records.size(), row.expected) << row.count_max;
    EXPECT_TRUE(page->more);
  }
  EXPECT_EQ(all_records(*session_, 1000)->size(), 2 * kFull);
}

TEST_P(AnyDatabase, PagesHoldWhatWasThereWhileOthersInsertAndRemove) {
  constexpr size_t kThere = 300;
  std::set<RecordId> there;
  for (size_t i = 0; i < kThere; ++i) {
    RecordId id;
    ASSERT_EQ(put(*session_, ids_, "{}", &id), "");
    there.insert(id);
  }
  std::atomic<bool> done = false;
  std::atomic<int> batches = 0;
  std::jthread writer([&] {
    const auto session = open_session();
    std::vector<RecordId> own;
    while (!done) {
      std::vector<Change> changes;
      for (int i = 0; i < 3; ++i) changes.push_back(inserting(ids_, "{\"new\":1}"));
      if (own.size() > 10) changes.push_back(removing(own[own.size() / 2]));
      EXPECT_TRUE(session->apply(changes));
      for (int i = 0; i < 3; ++i) own.push_back(changes[static_cast<size_t>(i)].record.id);
      ++batches;
    }
  });
  for (int round = 0; round < 5; ++round) {
    // Pages are read between batches, not all before the first.
    for (const int seen = batches; batches == seen;) std::this_thread::yield();
    const auto records = all_records(*session_, 7);
    ASSERT_TRUE(records) << records.error().what;
    std::map<RecordId, int> seen;
    for (size_t i = 0; i < records->size(); ++i) {
      ++seen[(*records)[i].id];
      EXPECT_TRUE(i == 0 || (*records)[i].id < (*records)[i - 1].id);
    }
    for (const RecordId& id : there) EXPECT_EQ(seen[id], 1) << id.text();
    for (const auto& [id, count] : seen) EXPECT_EQ(count, 1) << id.text();
  }
  done = true;
}

TEST_P(AnyDatabase, ShowsAChangeToOtherSessionsAtOnce) {
  const auto other = open_session();
  for (int i = 0; i < 20; ++i) {
    RecordId id;
    ASSERT_EQ(put(*session_, ids_, "{}", &id), "");
    Lookup lookup{.id = id};
    ASSERT_TRUE(other->find({&lookup, 1}));
    EXPECT_TRUE(lookup.record);
    ASSERT_EQ(apply(*session_, {removing(id)}), "");
    Lookup again{.id = id};
    ASSERT_TRUE(other->find({&again, 1}));
    EXPECT_FALSE(again.record);
  }
}

constexpr BackEnd kBackEnds[] = {
    // With room for whatever is inserted meanwhile: its bound is a test of its own.
    {"memory", [](const TestDirectory&) { return open_memory({.bytes_max = 1024 * 1024 * 1024}); }},
    {"sqlite",
     [](const TestDirectory& directory) {
       return open_sqlite({.path = directory.file("kiln.db"), .bytes_max = 64 * 1024 * 1024});
     }},
};

INSTANTIATE_TEST_SUITE_P(Store, AnyDatabase, testing::ValuesIn(kBackEnds),
                         [](const auto& row) { return std::string(row.param.name); });

}  // namespace
}  // namespace kiln::store
