#include "store/store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <time.h>

#include <algorithm>
#include <set>

#include "store/memory.h"

namespace kiln::store {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr std::chrono::nanoseconds kNever = std::chrono::hours(24 * 365);
constexpr size_t kFirst = SIZE_MAX;  // number of the question that occupy() asks

std::chrono::nanoseconds thread_cpu_time() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
}

// What a scripted database does, and what it was asked. It waits where it is held, and fails where it is told to.
class Script {
 public:
  enum Call : size_t { Open, Apply, Find, List };

  void hold(Call call) { change([&] { held_[call] = true; }); }
  void release(Call call) { change([&] { held_[call] = false; }); }
  void fail(Call call, std::string reason, int code = 0) {
    change([&] {
      reasons_[call] = std::move(reason);
      code_ = code;
    });
  }
  void heal(Call call) { fail(call, {}); }

  // Until this many calls have begun, counted from the start.
  void wait_for(Call call, size_t count) {
    wait([&] { return begun_[call] >= count; });
  }
  void wait_for_closed(size_t count) {
    wait([&] { return closed_ >= count; });
  }

  size_t begun(Call call) {
    const std::lock_guard lock(mutex_);
    return begun_[call];
  }
  // The data of each batch of changes, '-' for one that removes.
  std::vector<std::vector<std::string>> applied() {
    const std::lock_guard lock(mutex_);
    return applied_;
  }

  std::function<void()> in_apply = [] {};
  std::function<Page()> in_list = [] { return Page{}; };

  // --- For its sessions
  base::Result<void> enter(Call call) {
    std::unique_lock lock(mutex_);
    ++begun_[call];
    changed_.notify_all();
    changed_.wait(lock, [&] { return !held_[call]; });
    if (!reasons_[call].empty()) return std::unexpected(base::Error{code_, reasons_[call]});
    return {};
  }
  void note_applied(std::span<const Change> changes) {
    change([&] {
      std::vector<std::string>& batch = applied_.emplace_back();
      for (const Change& one : changes) batch.push_back(one.kind == Change::Kind::Insert ? one.record.data : "-");
    });
  }
  void note_closed() {
    change([&] { ++closed_; });
  }

 private:
  void change(auto&& how) {
    const std::lock_guard lock(mutex_);
    how();
    changed_.notify_all();
  }
  void wait(auto&& until) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, until);
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::array<bool, 4> held_{};
  int code_ = 0;
  std::array<std::string, 4> reasons_;
  std::array<size_t, 4> begun_{};
  size_t closed_ = 0;
  std::vector<std::vector<std::string>> applied_;
};

class ScriptedSession final : public Session {
 public:
  explicit ScriptedSession(Script& script) : script_(script) {}
  ~ScriptedSession() override { script_.note_closed(); }

  base::Result<void> apply(std::span<Change> changes) override {
    script_.note_applied(changes);
    if (auto entered = script_.enter(Script::Apply); !entered) return entered;
    script_.in_apply();
    return {};
  }
  base::Result<void> find(std::span<Lookup> lookups) override {
    if (auto entered = script_.enter(Script::Find); !entered) return entered;
    for (Lookup& lookup : lookups) lookup.record = Record{.id = lookup.id, .created_at = 1, .data = "{}"};
    return {};
  }
  base::Result<Page> page(const PageRequest& /*request*/) override {
    if (auto entered = script_.enter(Script::List); !entered) return std::unexpected(entered.error());
    return script_.in_list();
  }

 private:
  Script& script_;
};

class ScriptedDatabase final : public Database {
 public:
  explicit ScriptedDatabase(Script& script) : script_(script) {}

  [[nodiscard]] std::string_view name() const override { return "scripted"; }
  base::Result<std::unique_ptr<Session>> open_session(IdMaker& /*ids*/) override {
    if (auto entered = script_.enter(Script::Open); !entered) return std::unexpected(entered.error());
    return std::make_unique<ScriptedSession>(script_);
  }

 private:
  Script& script_;
};

// Collects what arrives, by the number of the question.
class Answers {
 public:
  Store::Done to(size_t number) {
    return [this, number](Answer answer) {
      const std::lock_guard lock(mutex_);
      answer.untaken = {};
      arrived_.emplace_back(number, std::move(answer));
      changed_.notify_all();
    };
  }

  void wait_for(size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return arrived_.size() >= count; });
  }
  size_t count() {
    const std::lock_guard lock(mutex_);
    return arrived_.size();
  }
  std::vector<std::pair<size_t, Answer>> all() {
    const std::lock_guard lock(mutex_);
    std::vector<std::pair<size_t, Answer>> copies;
    for (const auto& [number, answer] : arrived_) copies.emplace_back(number, copy_of(answer));
    return copies;
  }
  Answer last() {
    const std::lock_guard lock(mutex_);
    return copy_of(arrived_.back().second);
  }

 private:
  static Answer copy_of(const Answer& answer) {
    return {.outcome = answer.outcome,
            .reason = answer.reason,
            .record = answer.record,
            .page = answer.page,
            .cpu = answer.cpu};
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::pair<size_t, Answer>> arrived_;
};

class Newspaper {
 public:
  std::function<void(const News&)> teller() {
    return [this](const News& news) {
      const std::lock_guard lock(mutex_);
      news_.push_back(news);
      changed_.notify_all();
    };
  }
  void wait_for(size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return news_.size() >= count; });
  }
  std::vector<News> all() {
    const std::lock_guard lock(mutex_);
    return news_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<News> news_;
};

Question insert(std::string data) { return {.operation = Operation::Insert, .data = std::move(data)}; }
Question remove(const RecordId& id = {}) { return {.operation = Operation::Remove, .id = id}; }
Question find(const RecordId& id = {}) { return {.operation = Operation::Find, .id = id}; }
Question list(size_t count_max = 50) {
  return {.operation = Operation::List, .page = {.before = std::nullopt, .count_max = count_max}};
}

// For the tests in which the lane is empty when the question comes.
Answer ask(Store& store, Question question) {
  Answers answers;
  if (auto refused = store.submit(std::move(question), answers.to(0))) return std::move(*refused);
  answers.wait_for(1);
  return answers.last();
}

StoreOptions scripted(Script& script) { return {.database = std::make_unique<ScriptedDatabase>(script)}; }

// One change that stays inside the database, so that those after it wait.
void occupy(Store& store, Script& script, Answers& answers) {
  script.hold(Script::Apply);
  ASSERT_FALSE(store.submit(insert("first"), answers.to(kFirst)));
  script.wait_for(Script::Apply, 1);
}

uint64_t total(const LaneStatistics::Seconds& histogram) {
  uint64_t sum = 0;
  for (size_t i = 0; i <= LaneStatistics::kSeconds.size(); ++i) sum += histogram.bucket(i);
  return sum;
}

TEST(Store, AnswersEveryKindOfQuestion) {
  Store store({.database = open_memory({})});
  EXPECT_EQ(store.database_name(), "memory");
  const Answer made = ask(store, insert("{\"a\":1}"));
  EXPECT_EQ(made.outcome, Outcome::Done);
  EXPECT_EQ(made.record.data, "{\"a\":1}");
  EXPECT_GT(made.record.created_at, 1'700'000'000'000);
  EXPECT_TRUE(RecordId::parse(made.record.id.text()));
  const Answer second = ask(store, insert("{\"a\":2}"));
  EXPECT_GT(second.record.id, made.record.id);

  const Answer found = ask(store, find(made.record.id));
  EXPECT_EQ(found.outcome, Outcome::Done);
  EXPECT_EQ(found.record.data, "{\"a\":1}");
  EXPECT_EQ(found.record.created_at, made.record.created_at);
  EXPECT_EQ(ask(store, find()).outcome, Outcome::NotFound);

  const Answer listed = ask(store, list(1));
  ASSERT_EQ(listed.page.records.size(), 1U);
  EXPECT_EQ(listed.page.records[0].id, second.record.id);
  EXPECT_TRUE(listed.page.more);

  EXPECT_EQ(ask(store, remove(made.record.id)).outcome, Outcome::Done);
  EXPECT_EQ(ask(store, remove(made.record.id)).outcome, Outcome::NotFound);
  EXPECT_EQ(ask(store, find(made.record.id)).outcome, Outcome::NotFound);
}

TEST(Store, AnswersMixedReadsOfOneBatchEachWithItsOwn) {
  Script script;
  script.in_list = [] { return Page{.records = {Record{.id = {}, .created_at = 7, .data = "page"}}, .more = false}; };
  Store store(scripted(script));
  Answers answers;
  script.hold(Script::Find);
  ASSERT_FALSE(store.submit(find(), answers.to(0)));
  script.wait_for(Script::Find, 1);
  RecordId one, two;
  one.bytes[15] = 1;
  two.bytes[15] = 2;
  ASSERT_FALSE(store.submit(find(one), answers.to(1)));
  ASSERT_FALSE(store.submit(list(), answers.to(2)));
  ASSERT_FALSE(store.submit(find(two), answers.to(3)));
  script.release(Script::Find);
  answers.wait_for(4);
  const auto all = answers.all();
  EXPECT_EQ(all[1].second.record.id, one);
  ASSERT_EQ(all[2].second.page.records.size(), 1U);
  EXPECT_EQ(all[2].second.page.records[0].data, "page");
  EXPECT_EQ(all[3].second.record.id, two);
}

TEST(Store, MakesOneBatchOfWhatWaits) {
  struct Row {
    const char* name;
    size_t batch_max;
    size_t questions;
    size_t bytes;  // of data, each
    std::vector<size_t> batches;
  };
  const Row rows[] = {
      {"all", 512, 5, 10, {1, 5}},
      {"as many as the batch takes", 5, 5, 10, {1, 5}},
      {"one more", 5, 6, 10, {1, 5, 1}},
      {"two batches and a rest", 4, 11, 10, {1, 4, 4, 3}},
      {"one by one", 1, 3, 10, {1, 1, 1, 1}},
      {"2 MiB exactly", 512, 4, 512 * 1024, {1, 4}},
      {"past 2 MiB", 512, 5, 512 * 1024, {1, 4, 1}},
      {"in the middle of one", 512, 7, 700 * 1024, {1, 3, 3, 1}},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.name);
    Script script;
    StoreOptions options = scripted(script);
    options.batch_max = row.batch_max;
    Store store(std::move(options));
    Answers answers;
    ASSERT_NO_FATAL_FAILURE(occupy(store, script, answers));
    for (size_t i = 0; i < row.questions; ++i) {
      std::string data = std::to_string(i);
      data.resize(row.bytes, 'x');
      ASSERT_FALSE(store.submit(insert(std::move(data)), answers.to(i)));
    }
    EXPECT_EQ(store.waiting(), row.questions);
    script.release(Script::Apply);
    answers.wait_for(row.questions + 1);
    EXPECT_EQ(store.waiting(), 0U);
    std::vector<size_t> sizes;
    size_t next = 0;
    for (const auto& batch : script.applied()) {
      sizes.push_back(batch.size());
      for (const std::string& data : batch) {
        if (data != "first") {
          EXPECT_EQ(data.substr(0, data.find_first_of("x")), std::to_string(next++)) << "in order";
        }
      }
    }
    EXPECT_EQ(sizes, row.batches);
    EXPECT_EQ(store.changes().batches.sum(), static_cast<double>(row.questions + 1));
  }
}

TEST(Store, RefusesWhatIsPastTheBoundsOfTheQueue) {
  struct Row {
    const char* name;
    size_t queue_max, queue_bytes_max;
    std::vector<size_t> bytes;  // of the questions that wait
    bool last_is_taken;
  };
  const Row rows[] = {
      {"one below the count", 4, 1000, {1, 1, 1}, true},
      {"the count", 4, 1000, {1, 1, 1, 1}, true},
      {"one above the count", 4, 1000, {1, 1, 1, 1, 1}, false},
      {"one below the bytes", 4, 100, {60, 39}, true},
      {"the bytes", 4, 100, {60, 40}, true},
      {"one above the bytes", 4, 100, {60, 41}, false},
      {"one alone of the bytes", 4, 100, {100}, true},
      {"one alone above the bytes", 4, 100, {101}, false},
      {"nothing after the bytes, but what has none", 4, 100, {100, 0}, true},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.name);
    Script script;
    StoreOptions options = scripted(script);
    options.queue_max = row.queue_max;
    options.queue_bytes_max = row.queue_bytes_max;
    Store store(std::move(options));
    Answers answers;
    ASSERT_NO_FATAL_FAILURE(occupy(store, script, answers));
    size_t taken = 1;
    for (size_t i = 0; i < row.bytes.size(); ++i) {
      const auto refused = store.submit(insert(std::string(row.bytes[i], 'x')), answers.to(i));
      const bool is_last = i + 1 == row.bytes.size();
      if (refused) {
        EXPECT_EQ(refused->outcome, Outcome::Busy);
        EXPECT_THAT(refused->reason, HasSubstr("too many"));
      } else {
        ++taken;
      }
      EXPECT_EQ(!refused, !is_last || row.last_is_taken) << i;
    }
    EXPECT_EQ(ask(store, find()).outcome, Outcome::Done) << "the other lane has a queue of its own";
    script.release(Script::Apply);
    answers.wait_for(taken);
    // The room is there again, all of it.
    for (int i = 0; i < 3; ++i) {
      EXPECT_EQ(ask(store, insert(std::string(row.queue_bytes_max, 'x'))).outcome, Outcome::Done);
    }
    EXPECT_EQ(answers.count(), taken);
    EXPECT_EQ(store.count(Operation::Insert, Outcome::Busy), row.last_is_taken ? 0U : 1U);
  }
}

TEST(Store, ReadsDoNotWaitForChangesNorChangesForReads) {
  Script script;
  Store store(scripted(script));
  Answers answers;
  ASSERT_NO_FATAL_FAILURE(occupy(store, script, answers));
  EXPECT_EQ(ask(store, find()).outcome, Outcome::Done);
  EXPECT_EQ(ask(store, list()).outcome, Outcome::Done);
  EXPECT_EQ(answers.count(), 0U);
  script.release(Script::Apply);
  answers.wait_for(1);
  script.hold(Script::List);
  ASSERT_FALSE(store.submit(list(), answers.to(1)));
  script.wait_for(Script::List, 2);
  EXPECT_EQ(ask(store, insert("x")).outcome, Outcome::Done);
  EXPECT_EQ(ask(store, remove()).outcome, Outcome::Done);
  script.release(Script::List);
  answers.wait_for(2);
}

TEST(Store, HoldsFewPagesAtOnceHoweverManyAreAskedFor) {
  Script script;
  std::atomic<int> made{0}, held{0}, held_max{0};
  script.in_list = [&] {
    ++made;
    held_max = std::max(held_max.load(), ++held);
    return Page{.records = {Record{.id = {}, .created_at = 0, .data = std::string(kPageBytesMax, 'x')}}, .more = true};
  };
  Store store(scripted(script));
  Answers answers;
  script.hold(Script::List);
  ASSERT_FALSE(store.submit(list(), answers.to(0)));
  script.wait_for(Script::List, 1);
  constexpr size_t kQuestions = 100;
  for (size_t i = 0; i < kQuestions; ++i) {
    ASSERT_FALSE(store.submit(list(), [&, done = answers.to(i)](Answer answer) mutable {
      --held;
      answer.page = {};
      done(std::move(answer));
    }));
  }
  script.release(Script::List);
  answers.wait_for(kQuestions + 1);
  EXPECT_EQ(made, static_cast<int>(kQuestions + 1));
  EXPECT_LE(held_max, 10) << "pages that nobody had yet: those of a batch of 2 MiB, and a few";
}

// --- Down ------------------------------------------------------------------------------------------------------------

TEST(Store, ReadsNoFurtherWhileAnswersAreNotTaken) {
  constexpr size_t kPages = 40;
  constexpr size_t kPageBytes = 100'000;
  constexpr size_t kUntakenMax = 3 * kPageBytes;
  Script script;
  script.in_list = [] {
    Page page;
    page.records.push_back({.id = {}, .data = std::string(kPageBytes, 'x')});
    return page;
  };
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<Answer> kept;
  size_t taken = 0;
  Store store({.database = std::make_unique<ScriptedDatabase>(script), .untaken_bytes_max = kUntakenMax});
  for (size_t i = 0; i < kPages; ++i) {
    ASSERT_FALSE(store.submit({.operation = Operation::List}, [&](Answer answer) {
      const std::lock_guard lock(mutex);
      kept.push_back(std::move(answer));
      changed.notify_all();
    }));
  }
  while (taken < kPages) {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return !kept.empty(); });
    // What may be there, and a batch that began below it: of 2 MiB, of pages that may have 256 KiB each.
    EXPECT_LE(kept.size(), kUntakenMax / kPageBytes + 8);
    const std::vector<Answer> now = std::exchange(kept, {});
    taken += now.size();
    lock.unlock();
  }
}

TEST(Store, RefusesAtOnceWithTheReasonWhileDown) {
  Script script;
  Newspaper newspaper;
  StoreOptions options = scripted(script);
  options.tell = newspaper.teller();
  options.retry_after = kNever;
  Store store(std::move(options));
  EXPECT_EQ(ask(store, insert("x")).outcome, Outcome::Done);
  EXPECT_TRUE(store.available());
  EXPECT_EQ(store.why_not(), "");
  script.fail(Script::Apply, "the disk is full");
  const Answer failed = ask(store, insert("x"));
  EXPECT_EQ(failed.outcome, Outcome::Unavailable);
  EXPECT_EQ(failed.reason, "the disk is full");
  script.heal(Script::Apply);
  const size_t calls = script.begun(Script::Apply);
  const size_t opened = script.begun(Script::Open);
  Answers answers;
  for (size_t i = 0; i < 1000; ++i) {
    const auto refused = store.submit(i % 2 == 0 ? insert("x") : remove(), answers.to(i));
    ASSERT_TRUE(refused);
    EXPECT_EQ(refused->outcome, Outcome::Unavailable);
    EXPECT_EQ(refused->reason, "the disk is full");
  }
  EXPECT_FALSE(store.available());
  EXPECT_EQ(store.why_not(), "the disk is full");
  EXPECT_EQ(script.begun(Script::Apply), calls);
  EXPECT_EQ(script.begun(Script::Open), opened);
  EXPECT_EQ(ask(store, find()).outcome, Outcome::Done) << "reads go on";
  const auto news = newspaper.all();
  ASSERT_EQ(news.size(), 1U);
  EXPECT_TRUE(news[0].changes);
  EXPECT_FALSE(news[0].available);
  EXPECT_EQ(news[0].reason, "the disk is full");
  EXPECT_EQ(answers.count(), 0U);
  EXPECT_EQ(store.count(Operation::Insert, Outcome::Unavailable), 501U);
  EXPECT_EQ(store.count(Operation::Remove, Outcome::Unavailable), 500U);
}

TEST(Store, LetsOneQuestionThroughToTryAgain) {
  Script script;
  Newspaper newspaper;
  StoreOptions options = scripted(script);
  options.tell = newspaper.teller();
  options.retry_after = {};
  Store store(std::move(options));
  script.fail(Script::Find, "no answer");
  EXPECT_EQ(ask(store, find()).outcome, Outcome::Unavailable);
  newspaper.wait_for(1);
  for (const bool works : {false, true}) {
    SCOPED_TRACE(works);
    const size_t opened = script.begun(Script::Open);
    script.hold(Script::Open);
    Answers answers;
    ASSERT_FALSE(store.submit(find(), answers.to(0)));
    script.wait_for(Script::Open, opened + 1);
    for (size_t i = 1; i < 10; ++i) {
      const auto refused = store.submit(find(), answers.to(i));
      ASSERT_TRUE(refused);
      EXPECT_EQ(refused->reason, "no answer");
    }
    if (works) script.heal(Script::Find);
    script.release(Script::Open);
    answers.wait_for(1);
    EXPECT_EQ(answers.last().outcome, works ? Outcome::Done : Outcome::Unavailable);
    EXPECT_EQ(store.available(), works);
  }
  EXPECT_EQ(ask(store, find()).outcome, Outcome::Done);
  const auto news = newspaper.all();
  ASSERT_EQ(news.size(), 2U);
  EXPECT_FALSE(news[0].changes);
  EXPECT_FALSE(news[0].available);
  EXPECT_FALSE(news[1].changes);
  EXPECT_TRUE(news[1].available);
  EXPECT_GT(news[1].outage.count(), 0);
}

TEST(Store, TriesAgainOnlyAfterTheTimeToWait) {
  Script script;
  StoreOptions options = scripted(script);
  options.retry_after = std::chrono::milliseconds(20);
  Store store(std::move(options));
  script.fail(Script::Apply, "gone");
  std::optional<std::chrono::steady_clock::time_point> last;  // before the attempt that failed last
  for (int round = 0; round < 3; ++round) {
    std::chrono::steady_clock::time_point before;
    std::optional<Answer> refused;
    Answers answers;
    do {
      before = std::chrono::steady_clock::now();
      refused = store.submit(insert("x"), answers.to(0));
    } while (refused);
    const auto after = std::chrono::steady_clock::now();
    if (last) {
      EXPECT_GE(after - *last, std::chrono::milliseconds(20));
    }
    last = before;
    answers.wait_for(1);
  }
}

TEST(Store, FailsThoseWhoWaitedWhenItFailed) {
  Script script;
  StoreOptions options = scripted(script);
  options.retry_after = kNever;
  options.batch_max = 3;
  Store store(std::move(options));
  Answers answers;
  ASSERT_NO_FATAL_FAILURE(occupy(store, script, answers));
  for (size_t i = 0; i < 10; ++i) ASSERT_FALSE(store.submit(insert("x"), answers.to(i)));
  script.fail(Script::Apply, "gone");
  script.release(Script::Apply);
  answers.wait_for(11);
  for (const auto& [number, answer] : answers.all()) {
    EXPECT_EQ(answer.outcome, Outcome::Unavailable) << number;
    EXPECT_EQ(answer.reason, "gone");
    EXPECT_TRUE(answer.record.data.empty());
  }
  EXPECT_EQ(script.begun(Script::Apply), 1U) << "one attempt for all of them";
  EXPECT_EQ(store.waiting(), 0U);
}

TEST(Store, LetsThroughWhoRemovesWhereThereIsNoRoom) {
  Script script;
  Newspaper newspaper;
  StoreOptions options = scripted(script);
  options.tell = newspaper.teller();
  options.retry_after = kNever;
  Store store(std::move(options));
  script.fail(Script::Apply, "full", ENOSPC);
  EXPECT_EQ(ask(store, insert("x")).outcome, Outcome::Unavailable);
  EXPECT_EQ(ask(store, remove()).outcome, Outcome::Unavailable) << "it was tried";
  EXPECT_EQ(script.begun(Script::Apply), 2U);
  script.heal(Script::Apply);
  for (int i = 0; i < 10; ++i) EXPECT_EQ(ask(store, remove()).outcome, Outcome::Done);
  EXPECT_EQ(ask(store, insert("x")).reason, "full") << "nobody has seen yet that there is room again";
  EXPECT_EQ(script.begun(Script::Apply), 12U);
  EXPECT_EQ(newspaper.all().size(), 1U) << "told once";
}

TEST(Store, LetsNobodyThroughWhereTheDatabaseIsGone) {
  Script script;
  StoreOptions options = scripted(script);
  options.retry_after = kNever;
  Store store(std::move(options));
  script.fail(Script::Apply, "gone");
  EXPECT_EQ(ask(store, insert("x")).outcome, Outcome::Unavailable);
  EXPECT_EQ(ask(store, remove()).reason, "gone");
  EXPECT_EQ(script.begun(Script::Apply), 1U);
}

TEST(Store, SaysOnceThatItIsDownHoweverOftenItTries) {
  Script script;
  Newspaper newspaper;
  StoreOptions options = scripted(script);
  options.tell = newspaper.teller();
  options.retry_after = {};
  Store store(std::move(options));
  script.wait_for(Script::Open, 1);
  for (int outage = 0; outage < 3; ++outage) {
    script.fail(Script::Apply, "gone");
    for (int i = 0; i < 100; ++i) EXPECT_EQ(ask(store, insert("x")).outcome, Outcome::Unavailable);
    script.heal(Script::Apply);
    for (int i = 0; i < 100; ++i) EXPECT_EQ(ask(store, insert("x")).outcome, Outcome::Done);
  }
  std::vector<bool> told;
  for (const News& news : newspaper.all()) told.push_back(news.available);
  EXPECT_THAT(told, ElementsAre(false, true, false, true, false, true));
}

TEST(Store, SaysAtTheStartThatItCannotOpen) {
  Script script;
  Newspaper newspaper;
  script.fail(Script::Open, "no such directory");
  StoreOptions options = scripted(script);
  options.tell = newspaper.teller();
  options.retry_after = kNever;
  Store store(std::move(options));
  newspaper.wait_for(1);
  EXPECT_EQ(newspaper.all()[0].reason, "no such directory");
  EXPECT_FALSE(store.available());
  Answers answers;
  const auto refused = store.submit(insert("x"), answers.to(0));
  ASSERT_TRUE(refused);
  EXPECT_EQ(refused->reason, "no such directory");
  EXPECT_EQ(newspaper.all().size(), 1U);
}

TEST(Store, FailsThoseWhoWaitedForTheStart) {
  Script script;
  script.fail(Script::Open, "no such directory");
  script.hold(Script::Open);
  StoreOptions options = scripted(script);
  options.retry_after = kNever;
  Store store(std::move(options));
  script.wait_for(Script::Open, 1);
  Answers answers;
  for (size_t i = 0; i < 5; ++i) ASSERT_FALSE(store.submit(insert("x"), answers.to(i)));
  script.release(Script::Open);
  answers.wait_for(5);
  for (const auto& [number, answer] : answers.all()) {
    EXPECT_EQ(answer.outcome, Outcome::Unavailable) << number;
    EXPECT_EQ(answer.reason, "no such directory");
  }
  EXPECT_EQ(script.begun(Script::Open), 1U) << "one attempt for all of them";
}

TEST(Store, IsBackAfterAQuestionThatFoundNoRoom) {
  Script script;
  StoreOptions options = scripted(script);
  options.retry_after = {};
  options.queue_bytes_max = 10;
  Store store(std::move(options));
  script.fail(Script::Apply, "gone");
  EXPECT_EQ(ask(store, insert("x")).outcome, Outcome::Unavailable);
  script.heal(Script::Apply);
  EXPECT_EQ(ask(store, insert(std::string(11, 'x'))).outcome, Outcome::Busy);
  EXPECT_EQ(ask(store, insert("x")).outcome, Outcome::Done);
}

// The log may be slow: whoever comes while the failure is being told, and after the time to wait, tries next.
TEST(Store, IsBackAfterAQuestionThatCameWhileItsFailureWasTold) {
  Script script;
  Answers answers;
  Store* store = nullptr;
  StoreOptions options = scripted(script);
  options.retry_after = {};
  options.tell = [&](const News& news) {
    if (news.available) return;
    EXPECT_FALSE(store->submit(insert("meanwhile"), answers.to(0)));
  };
  Store made(std::move(options));
  store = &made;
  script.fail(Script::Apply, "gone");
  EXPECT_EQ(ask(*store, insert("x")).outcome, Outcome::Unavailable);
  answers.wait_for(1);
  script.heal(Script::Apply);
  EXPECT_EQ(ask(*store, insert("x")).outcome, Outcome::Done);
}

// --- Stopping --------------------------------------------------------------------------------------------------------

TEST(Store, StopsWithPatience) {
  Script script;
  Store store(scripted(script));
  Answers answers;
  ASSERT_NO_FATAL_FAILURE(occupy(store, script, answers));
  for (size_t i = 0; i < 5; ++i) ASSERT_FALSE(store.submit(insert("x"), answers.to(i)));
  EXPECT_FALSE(store.stop({}));
  EXPECT_FALSE(store.stop(std::chrono::milliseconds(5)));
  EXPECT_EQ(answers.count(), 0U);
  const auto refused = store.submit(insert("x"), answers.to(9));
  ASSERT_TRUE(refused);
  EXPECT_EQ(refused->outcome, Outcome::Unavailable);
  EXPECT_THAT(refused->reason, HasSubstr("going away"));
  EXPECT_TRUE(store.submit(find(), answers.to(9)));

  script.release(Script::Apply);
  EXPECT_TRUE(store.stop(std::chrono::hours(1)));
  EXPECT_TRUE(store.stop({})) << "again";
  std::set<size_t> seen;
  for (const auto& [number, answer] : answers.all()) {
    EXPECT_TRUE(seen.insert(number).second) << number;
    EXPECT_EQ(answer.outcome, number == kFirst ? Outcome::Done : Outcome::Unavailable) << "what is under way is ended";
    EXPECT_EQ(answer.reason.contains("going away"), number != kFirst);
  }
  EXPECT_EQ(seen.size(), 6U);
  EXPECT_EQ(script.begun(Script::Apply), 1U);
}

TEST(Store, StopsOneLaneWhileTheOtherIsHeld) {
  Script script;
  Store store(scripted(script));
  EXPECT_EQ(ask(store, find()).outcome, Outcome::Done);
  Answers answers;
  ASSERT_NO_FATAL_FAILURE(occupy(store, script, answers));
  std::jthread stopper([&] { EXPECT_TRUE(store.stop(std::chrono::hours(1))); });
  script.wait_for_closed(1);  // the session of reads
  EXPECT_EQ(answers.count(), 0U);
  script.release(Script::Apply);
}

TEST(Store, AnswersEverybodyWhenItIsDestroyed) {
  Script script;
  Answers answers;
  size_t taken = 1;
  std::jthread visitor;
  {
    Store store(scripted(script));
    ASSERT_NO_FATAL_FAILURE(occupy(store, script, answers));
    for (; taken < 5; ++taken) ASSERT_FALSE(store.submit(insert("x"), answers.to(taken)));
    // The destructor waits for the change that is held, which is let go when the store has begun to refuse.
    visitor = std::jthread([&] {
      for (;; ++taken) {
        const auto refused = store.submit(insert("x"), answers.to(taken));
        if (refused && refused->reason.contains("going away")) break;
        if (refused) --taken;
      }
      script.release(Script::Apply);
    });
  }
  visitor.join();
  EXPECT_EQ(answers.count(), taken);
  std::set<size_t> seen;
  for (const auto& [number, answer] : answers.all()) EXPECT_TRUE(seen.insert(number).second) << number;
}

TEST(Store, IsDestroyedWhileNobodyAsks) {
  for (int i = 0; i < 50; ++i) Store store({.database = open_memory({})});
}

TEST(Store, IsDestroyedWhileItCannotOpen) {
  Script script;
  script.fail(Script::Open, "gone");
  Store store(scripted(script));
}

// --- Figures ---------------------------------------------------------------------------------------------------------

TEST(Store, BillsEachQuestionItsShareOfTheProcessorTime) {
  constexpr std::chrono::nanoseconds kBurn = std::chrono::milliseconds(8);
  Script script;
  script.in_apply = [&] {
    const auto until = thread_cpu_time() + kBurn;
    while (thread_cpu_time() < until) {
    }
  };
  std::atomic<int64_t> spent{0};
  StoreOptions options = scripted(script);
  options.spent = [&](std::chrono::nanoseconds piece) {
    EXPECT_GE(piece.count(), 0);
    spent += piece.count();
  };
  Answers answers;
  {
    Store store(std::move(options));
    ASSERT_NO_FATAL_FAILURE(occupy(store, script, answers));
    for (size_t i = 0; i < 4; ++i) ASSERT_FALSE(store.submit(insert("x"), answers.to(i)));
    script.release(Script::Apply);
    answers.wait_for(5);
  }
  int64_t billed = 0;
  for (const auto& [number, answer] : answers.all()) {
    EXPECT_GE(answer.cpu, number == kFirst ? kBurn : kBurn / 4) << number;
    billed += answer.cpu.count();
  }
  EXPECT_GE(billed, 2 * kBurn.count());
  EXPECT_LE(billed, spent);
}

TEST(Store, CountsWhatItAnswers) {
  Script script;
  StoreOptions options = scripted(script);
  options.queue_max = 2;
  options.retry_after = kNever;
  Store store(std::move(options));
  Answers answers;
  ASSERT_NO_FATAL_FAILURE(occupy(store, script, answers));
  ASSERT_FALSE(store.submit(remove(), answers.to(1)));
  ASSERT_FALSE(store.submit(insert("x"), answers.to(2)));
  ASSERT_TRUE(store.submit(insert("x"), answers.to(3)));
  script.release(Script::Apply);
  answers.wait_for(3);
  EXPECT_EQ(ask(store, find()).outcome, Outcome::Done);
  EXPECT_EQ(ask(store, list()).outcome, Outcome::Done);
  script.fail(Script::List, "gone");
  EXPECT_EQ(ask(store, list()).outcome, Outcome::Unavailable);
  EXPECT_EQ(ask(store, list()).outcome, Outcome::Unavailable);

  struct Row {
    Operation operation;
    std::array<uint64_t, kOutcomes> counts;  // done, not found, unavailable, busy
    uint64_t took;
  };
  const Row rows[] = {
      {Operation::Insert, {2, 0, 0, 1}, 2},
      {Operation::Remove, {1, 0, 0, 0}, 1},
      {Operation::Find, {1, 0, 0, 0}, 1},
      {Operation::List, {1, 0, 2, 0}, 2},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(operation_name(row.operation));
    for (size_t i = 0; i < kOutcomes; ++i) {
      EXPECT_EQ(store.count(row.operation, static_cast<Outcome>(i)), row.counts[i])
          << outcome_name(static_cast<Outcome>(i));
    }
    EXPECT_EQ(total(store.changes().took[static_cast<size_t>(row.operation)]) +
                  total(store.reads().took[static_cast<size_t>(row.operation)]),
              row.took);
  }
}

TEST(Store, NamesAreThoseOfTheMetrics) {
  std::set<std::string_view> names;
  for (size_t i = 0; i < kOperations; ++i) names.insert(operation_name(static_cast<Operation>(i)));
  EXPECT_THAT(names, ElementsAre("find", "insert", "list", "remove"));
  names.clear();
  for (size_t i = 0; i < kOutcomes; ++i) names.insert(outcome_name(static_cast<Outcome>(i)));
  EXPECT_THAT(names, ElementsAre("busy", "done", "not_found", "unavailable"));
}

// --- Together --------------------------------------------------------------------------------------------------------

TEST(Store, AnAnswerMayAskAgain) {
  Store store({.database = open_memory({})});
  Answers answers;
  std::function<void(int)> ask_again = [&](int left) {
    const auto refused = store.submit(left % 2 == 0 ? insert("{}") : list(), [&, left](Answer answer) {
      EXPECT_EQ(answer.outcome, Outcome::Done);
      if (left > 0) return ask_again(left - 1);
      answers.to(0)(std::move(answer));
    });
    EXPECT_FALSE(refused);
  };
  ask_again(200);
  answers.wait_for(1);
}

TEST(Store, AnswersEveryQuestionOnceWhileTheDatabaseComesAndGoes) {
  Script script;
  Newspaper newspaper;
  StoreOptions options = scripted(script);
  options.tell = newspaper.teller();
  options.retry_after = {};
  options.queue_max = 16;
  options.batch_max = 7;
  Store store(std::move(options));
  constexpr size_t kThreads = 3, kQuestions = 1500;
  std::array<std::array<std::atomic<int>, kQuestions>, kThreads> answered{};
  std::array<std::array<std::atomic<uint64_t>, kOutcomes>, kOperations> counts{};
  const auto note = [&](size_t thread, size_t i, Operation operation, const Answer& answer) {
    ++answered[thread][i];
    ++counts[static_cast<size_t>(operation)][static_cast<size_t>(answer.outcome)];
  };
  std::atomic<size_t> left = kThreads;
  {
    std::vector<std::jthread> threads;
    for (size_t thread = 0; thread < kThreads; ++thread) {
      threads.emplace_back([&, thread] {
        for (size_t i = 0; i < kQuestions; ++i) {
          const auto operation = static_cast<Operation>(i % kOperations);
          auto refused = store.submit({.operation = operation, .data = "x"}, [&, thread, i, operation](Answer answer) {
            note(thread, i, operation, answer);
          });
          if (refused) note(thread, i, operation, *refused);
        }
        --left;
      });
    }
    threads.emplace_back([&] {
      while (left > 0) {
        for (const auto call : {Script::Apply, Script::Find, Script::Open}) {
          script.fail(call, "gone");
          EXPECT_LE(store.waiting(), 32U);
          std::this_thread::yield();
          script.heal(call);
          std::this_thread::yield();
        }
      }
    });
  }
  for (const Operation operation : {Operation::Insert, Operation::Find}) {
    while (ask(store, {.operation = operation}).outcome != Outcome::Done) {
    }
    ++counts[static_cast<size_t>(operation)][static_cast<size_t>(Outcome::Done)];
  }
  EXPECT_TRUE(store.available());
  EXPECT_TRUE(store.stop(std::chrono::hours(1)));
  for (size_t thread = 0; thread < kThreads; ++thread) {
    for (size_t i = 0; i < kQuestions; ++i) ASSERT_EQ(answered[thread][i], 1) << thread << ' ' << i;
  }
  for (size_t operation = 0; operation < kOperations; ++operation) {
    const auto done = static_cast<size_t>(Outcome::Done);
    EXPECT_EQ(store.count(static_cast<Operation>(operation), Outcome::Done), counts[operation][done].load());
  }
  // Down and up in turn, for each lane.
  for (const bool changes : {false, true}) {
    bool available = true;
    for (const News& news : newspaper.all()) {
      if (news.changes != changes) continue;
      EXPECT_NE(news.available, available);
      available = news.available;
    }
    EXPECT_TRUE(available);
  }
}

}  // namespace
}  // namespace kiln::store
