#include "store/memory.h"

#include <gtest/gtest.h>

#include <thread>

#include "store/test_directory.h"

namespace kiln::store {
namespace {

std::unique_ptr<Session> open(Database& database, IdMaker& ids) {
  auto opened = database.open_session(ids);
  EXPECT_TRUE(opened);
  return std::move(*opened);
}

TEST(Memory, ForgetsTheOldestPastItsBound) {
  struct Row {
    const char* name;
    size_t bytes_max;
    std::vector<size_t> bytes;  // of data, each, oldest first
    size_t kept;                // the newest ones
  };
  const size_t one = 100 + kRecordBytes;
  const Row rows[] = {
      {"one byte less than three", 3 * one - 1, {100, 100, 100}, 2},
      {"three exactly", 3 * one, {100, 100, 100}, 3},
      {"one byte more", 3 * one + 1, {100, 100, 100, 100}, 3},
      {"a large one moves several", 3 * one, {100, 100, 100, 100 + one}, 2},
      {"empty ones count too", 10 * kRecordBytes, std::vector<size_t>(25, 0), 10},
      {"one larger than all the room", one, {100, 100, 1000}, 1},
      {"one after that", one, {1000, 100}, 1},
      {"no room at all", 0, {5, 5}, 1},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.name);
    for (const bool at_once : {false, true}) {
      const auto database = open_memory({.bytes_max = row.bytes_max});
      IdMaker ids;
      const auto session = open(*database, ids);
      std::vector<Change> changes;
      for (const size_t bytes : row.bytes) changes.push_back(inserting(ids, std::string(bytes, 'x')));
      std::vector<RecordId> expected;
      for (size_t i = 0; i < row.kept; ++i) expected.push_back(changes[changes.size() - 1 - i].record.id);
      if (at_once) {
        ASSERT_TRUE(session->apply(changes));
      } else {
        for (Change& change : changes) ASSERT_TRUE(session->apply({&change, 1}));
      }
      std::vector<RecordId> kept;
      const auto records = all_records(*session);
      for (const Record& record : *records) kept.push_back(record.id);
      EXPECT_EQ(kept, expected);
    }
  }
}

TEST(Memory, HasRoomAgainForWhatIsRemoved) {
  const auto database = open_memory({.bytes_max = 3 * kRecordBytes});
  IdMaker ids;
  const auto session = open(*database, ids);
  RecordId oldest, middle;
  ASSERT_EQ(put(*session, ids, "", &oldest), "");
  ASSERT_EQ(put(*session, ids, "", &middle), "");
  ASSERT_EQ(put(*session, ids, ""), "");
  for (int i = 0; i < 100; ++i) {
    ASSERT_EQ(apply(*session, {removing(middle), removing(middle)}), "");
    ASSERT_EQ(put(*session, ids, "", &middle), "");
  }
  Lookup lookup{.id = oldest};
  ASSERT_TRUE(session->find({&lookup, 1}));
  EXPECT_TRUE(lookup.record);
}

TEST(Memory, OutlivesItsSessionsAndEndsWithItself) {
  IdMaker ids;
  auto database = open_memory({});
  ASSERT_EQ(put(*open(*database, ids), ids, "{}"), "");
  EXPECT_EQ(all_records(*open(*database, ids))->size(), 1U);
  database = open_memory({});
  EXPECT_TRUE(all_records(*open(*database, ids))->empty());
}

TEST(Memory, SessionsOfSeveralThreadsShareIt) {
  const auto database = open_memory({.bytes_max = 1000 * kRecordBytes});
  IdMaker ids;
  {
    std::vector<std::jthread> threads;
    for (int thread = 0; thread < 4; ++thread) {
      threads.emplace_back([&] {
        const auto session = open(*database, ids);
        for (int i = 0; i < 200; ++i) {
          RecordId id, gone;
          EXPECT_EQ(put(*session, ids, "", &id), "");
          EXPECT_EQ(put(*session, ids, "", &gone), "");
          EXPECT_EQ(apply(*session, {removing(gone)}), "");
          EXPECT_TRUE(session->page({.before = id, .count_max = 3}));
        }
      });
    }
  }
  EXPECT_EQ(all_records(*open(*database, ids), 33)->size(), 800U);
}

}  // namespace
}  // namespace kiln::store
