#include "store/sqlite.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <functional>
#include <set>
#include <thread>

#include "base/fd.h"
#include "store/test_directory.h"

namespace {

std::atomic<int> synchronisations{0};
std::atomic<bool> synchronising_fails{false};

int synchronise(int fd) {
  ++synchronisations;
  if (synchronising_fails) {
    errno = EIO;
    return -1;
  }
  return static_cast<int>(::syscall(SYS_fdatasync, fd));
}

}  // namespace

// In place of the C library's, so that a test can count them and let them fail; SQLite calls one or the other.
extern "C" int fdatasync(int fd) { return synchronise(fd); }
extern "C" int fsync(int fd) { return synchronise(fd); }

namespace kiln::store {
namespace {

using testing::AnyOf;
using testing::HasSubstr;
using testing::IsEmpty;

namespace fs = std::filesystem;

constexpr uint64_t kRoom = 64 * 1024 * 1024;

// Another program at the same file.
class Side {
 public:
  explicit Side(const std::string& path, int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE) {
    EXPECT_EQ(sqlite3_open_v2(path.c_str(), &connection_, flags, nullptr), SQLITE_OK) << path;
  }
  Side(const Side&) = delete;
  Side& operator=(const Side&) = delete;
  ~Side() { sqlite3_close(connection_); }

  // The values of all rows, with '|' between them, or the error.
  std::string ask(const char* sql) {
    std::string all;
    const auto append = [](void* to, int count, char** values, char**) {
      auto& text = *static_cast<std::string*>(to);
      for (int i = 0; i < count; ++i) text += (text.empty() ? "" : "|") + std::string(values[i] ? values[i] : "null");
      return 0;
    };
    if (sqlite3_exec(connection_, sql, append, &all, nullptr) != SQLITE_OK) return sqlite3_errmsg(connection_);
    return all;
  }

 private:
  sqlite3* connection_ = nullptr;
};

class Sqlite : public testing::Test {
 protected:
  base::Result<std::unique_ptr<Session>> try_open() { return database_->open_session(ids_); }
  std::unique_ptr<Session> open() {
    auto opened = try_open();
    if (opened) return std::move(*opened);
    ADD_FAILURE() << opened.error().what;
    return nullptr;
  }
  // "" when it worked.
  std::string why_not() {
    auto opened = try_open();
    return opened ? "" : opened.error().what;
  }
  std::string put(Session& session, std::string data = "{}", RecordId* id = nullptr) {
    return store::put(session, ids_, std::move(data), id);
  }

  TestDirectory directory_;
  const std::string path_ = directory_.file("kiln.db");
  std::unique_ptr<Database> database_ = open_sqlite({.path = path_, .bytes_max = kRoom});
  IdMaker ids_;
};

// The bytes of every file of a directory.
std::vector<std::pair<std::string, std::string>> contents(const TestDirectory& directory) {
  std::vector<std::pair<std::string, std::string>> files;
  for (const std::string& name : directory.names()) files.emplace_back(name, read_file(directory.file(name)));
  return files;
}

// What a crash now would leave, opened elsewhere; nothing when it cannot be.
std::optional<std::vector<Record>> records_after_a_crash(const std::string& path) {
  const TestDirectory elsewhere;
  for (const char* suffix : {"", "-wal"}) {
    if (fs::exists(path + suffix)) fs::copy_file(path + suffix, elsewhere.file("kiln.db") + suffix);
  }
  const auto database = open_sqlite({.path = elsewhere.file("kiln.db"), .bytes_max = kRoom});
  IdMaker ids;
  auto session = database->open_session(ids);
  if (!session) return std::nullopt;
  auto records = all_records(**session);
  if (!records) return std::nullopt;
  return std::move(*records);
}

// In a process of its own, which ends with the number that `what` returns.
pid_t run_apart(const std::function<int()>& what) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(what());
  EXPECT_GT(child, 0);
  return child;
}

int exit_status(pid_t child) {
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

// --- The file --------------------------------------------------------------------------------------------------------

TEST_F(Sqlite, MakesTheFileItSays) {
  const auto session = open();
  RecordId id;
  ASSERT_EQ(put(*session, "{\"a\":1}", &id), "");
  Side side(path_, SQLITE_OPEN_READONLY);
  EXPECT_EQ(side.ask("PRAGMA application_id"), std::to_string(0x4b494c4e));
  EXPECT_EQ(side.ask("PRAGMA user_version"), "1");
  EXPECT_EQ(side.ask("PRAGMA journal_mode"), "wal");
  EXPECT_EQ(side.ask("PRAGMA encoding"), "UTF-8");
  EXPECT_EQ(side.ask("SELECT name, type FROM pragma_table_info('records')"),
            "id|BLOB|created_at|INTEGER|data|TEXT");
  EXPECT_EQ(side.ask("SELECT typeof(id), length(id), created_at, typeof(data), data FROM records"),
            "blob|16|1750000000000|text|{\"a\":1}");
  EXPECT_EQ(side.ask("PRAGMA integrity_check"), "ok");
}

TEST_F(Sqlite, SynchronisesOnceABatchBeforeItReturns) {
  const auto session = open();
  for (const int count : {1, 2, 100}) {
    std::vector<Change> changes;
    for (int i = 0; i < count; ++i) changes.push_back(inserting(ids_, "{}"));
    const int before = synchronisations;
    ASSERT_TRUE(session->apply(changes));
    EXPECT_GE(synchronisations - before, 1);
    EXPECT_LE(synchronisations - before, 3) << count << " share it (the log's first has its directory too)";
  }
}

TEST_F(Sqlite, AcknowledgesNothingThatIsNotSynchronised) {
  auto session = open();
  ASSERT_EQ(put(*session, "{\"kept\":1}"), "");
  synchronising_fails = true;
  EXPECT_THAT(put(*session, "{\"lost\":1}"), HasSubstr("I/O error"));
  session.reset();
  synchronising_fails = false;
  session = open();
  ASSERT_EQ(put(*session, "{\"after\":1}"), "");
  const auto records = all_records(*session);
  ASSERT_TRUE(records);
  EXPECT_EQ(records->front().data, "{\"after\":1}");
  EXPECT_EQ(records->back().data, "{\"kept\":1}");
  EXPECT_EQ(records_after_a_crash(path_)->back().data, "{\"kept\":1}");
}

TEST_F(Sqlite, KeepsRecordsWhenItIsOpenedAgain) {
  RecordId id;
  ASSERT_EQ(put(*open(), "{\"a\":1}", &id), "");
  EXPECT_EQ(directory_.names(), std::vector<std::string>{"kiln.db"}) << "the log is merged when the last one leaves";
  Lookup lookup{.id = id};
  ASSERT_TRUE(open()->find({&lookup, 1}));
  ASSERT_TRUE(lookup.record);
  EXPECT_EQ(lookup.record->data, "{\"a\":1}");
}

TEST_F(Sqlite, IdsGoOnAboveTheNewest) {
  RecordId newest;
  {
    const auto session = open();
    newest = ids_.next(4'000'000'000'000);
    ASSERT_EQ(apply(*session, {{.record = {.id = newest, .created_at = 0, .data = "{}"}}}), "");
  }
  IdMaker fresh;
  ASSERT_TRUE(database_->open_session(fresh));
  EXPECT_GT(fresh.next(1000), newest);
}

TEST_F(Sqlite, KeepsWhatItAcknowledgedWhenItIsKilled) {
  for (int round = 0; round < 3; ++round) {
    SCOPED_TRACE(round);
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    const pid_t child = run_apart([&] {
      const auto session = open();
      for (;;) {
        std::vector<Change> changes;
        for (int i = 0; i < 5; ++i) changes.push_back(inserting(ids_, R"({"x":")" + std::string(500, 'x') + "\"}"));
        if (!session->apply(changes)) return 1;
        for (const Change& change : changes) {
          if (::write(ends[1], change.record.id.bytes.data(), 16) != 16) return 2;
        }
      }
    });
    ::close(ends[1]);
    std::set<RecordId> acknowledged;
    RecordId id;
    while (::read(ends[0], id.bytes.data(), 16) == 16) {
      acknowledged.insert(id);
      if (acknowledged.size() == 500) ::kill(child, SIGKILL);
    }
    ::close(ends[0]);
    EXPECT_EQ(exit_status(child), 1000 + SIGKILL);
    const auto records = all_records(*open());
    ASSERT_TRUE(records);
    for (const Record& record : *records) acknowledged.erase(record.id);
    EXPECT_THAT(acknowledged, IsEmpty());
  }
}

// --- Other files -----------------------------------------------------------------------------------------------------

TEST_F(Sqlite, LeavesFilesThatAreNotItsOwn) {
  const auto sql = [](const char* text) {
    return [text](const std::string& path) { EXPECT_EQ(Side(path).ask(text), ""); };
  };
  const auto bytes = [](std::string text) {
    return [text = std::move(text)](const std::string& path) { write_file(path, text); };
  };
  const auto damaged = [this](auto&& damage) {
    return [this, damage](const std::string& path) {
      {
        const auto session = open();
        for (int i = 0; i < 200; ++i) ASSERT_EQ(put(*session, std::string(500, 'x')), "");
      }
      std::string file = read_file(path);
      damage(file);
      write_file(path, file);
    };
  };
  struct Row {
    const char* name;
    std::function<void(const std::string&)> make;
    const char* why;
  };
  const Row rows[] = {
      {"another program's database", sql("CREATE TABLE notes(text)"), "another program's database"},
      {"with a table of the same name", sql("CREATE TABLE records(id, created_at, data)"), "another program's"},
      {"an empty one with a mark", sql("PRAGMA application_id = 7"), "another program's database"},
      {"an empty one with a version", sql("PRAGMA user_version = 1"), "another program's database"},
      {"a version to come", sql("PRAGMA application_id = 1263094862; PRAGMA user_version = 2"), "version 2"},
      {"a version before", sql("PRAGMA application_id = 1263094862"), "version 0"},
      {"our mark without a table", sql("PRAGMA application_id = 1263094862; PRAGMA user_version = 1"), "no such table"},
      {"a text", bytes("The quick brown fox.\n"), "not a database"},
      {"two bytes", bytes("xy"), "not a database"},
      {"a long text", bytes(std::string(10'000, 'x')), "not a database"},
      {"a damaged header", damaged([](std::string& file) { file[3] = 'X'; }), "not a database"},
      {"a damaged schema", damaged([](std::string& file) { file[100] = 'X'; }), "malformed"},
      {"cut short", damaged([](std::string& file) { file.resize(file.size() / 2); }), "malformed"},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.name);
    ASSERT_NO_FATAL_FAILURE(row.make(path_));
    const auto before = contents(directory_);
    EXPECT_THAT(why_not(), AllOf(HasSubstr(row.why), HasSubstr(path_)));
    EXPECT_EQ(contents(directory_) == before, true) << "it is as it was";
    fs::remove(path_);
  }
}

// Its last words are in its log still, which is for it to merge.
TEST_F(Sqlite, LeavesTheLogOfAnotherProgramThatWasKilled) {
  const pid_t child = run_apart([&] {
    Side side(path_);
    side.ask("PRAGMA journal_mode = WAL; CREATE TABLE notes(text); INSERT INTO notes VALUES('kept')");
    ::kill(::getpid(), SIGKILL);
    return 0;
  });
  EXPECT_EQ(exit_status(child), 1000 + SIGKILL);
  const std::string file = read_file(path_), log = read_file(path_ + "-wal");
  ASSERT_FALSE(log.empty());
  EXPECT_THAT(why_not(), HasSubstr("another program's database"));
  EXPECT_TRUE(read_file(path_) == file);
  EXPECT_TRUE(read_file(path_ + "-wal") == log);
  EXPECT_EQ(Side(path_).ask("SELECT text FROM notes"), "kept");
}

TEST_F(Sqlite, TakesAnEmptyFile) {
  write_file(path_, "");
  const auto session = open();
  EXPECT_EQ(put(*session), "");
}

TEST_F(Sqlite, FindsADamagedPageWhenItReadsIt) {
  RecordId oldest;
  {
    const auto session = open();
    ASSERT_EQ(put(*session, std::string(500, 'x'), &oldest), "");
    for (int i = 0; i < 2000; ++i) ASSERT_EQ(put(*session, std::string(500, 'x')), "");
  }
  std::string file = read_file(path_);
  std::fill(file.begin() + 20 * 4096, file.begin() + 120 * 4096, '\xff');
  write_file(path_, file);
  const auto session = open();
  const auto records = all_records(*session);
  ASSERT_FALSE(records);
  EXPECT_THAT(records.error().what, HasSubstr("malformed"));
  EXPECT_TRUE(read_file(path_) == file);
}

TEST_F(Sqlite, RefusesARecordThatIsNotItsOwn) {
  const auto session = open();
  EXPECT_EQ(Side(path_).ask("INSERT INTO records VALUES(x'ff', 0, '{}')"), "");
  const auto page = session->page({.before = std::nullopt, .count_max = 1});
  ASSERT_FALSE(page);
  EXPECT_THAT(page.error().what, HasSubstr("another program"));
}

TEST(SqlitePath, IsRefusedWithTheReason) {
  const TestDirectory directory;
  write_file(directory.file("file"), "");
  fs::create_directory(directory.file("folder"));
  struct Row {
    const char* name;
    std::string path;
    const char* why;
  };
  const Row rows[] = {
      {"a directory", directory.file("folder"), "unable to open"},
      {"in a missing directory", directory.file("missing/kiln.db"), "No such file or directory"},
      {"below a file", directory.file("file/kiln.db"), "unable to open"},
      {"nothing", "", "no write-ahead log"},
      {"in memory", ":memory:", "no write-ahead log"},
      {"where nobody may write", "/proc/kiln.db", "unable to open"},
      {"too long", directory.file(std::string(5000, 'x')), "unable to open"},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.name);
    const auto database = open_sqlite({.path = row.path, .bytes_max = kRoom});
    IdMaker ids;
    const auto session = database->open_session(ids);
    ASSERT_FALSE(session);
    EXPECT_THAT(session.error().what, HasSubstr(row.why));
  }
  EXPECT_EQ(directory.names(), (std::vector<std::string>{"file", "folder"})) << "nothing was made";
}

TEST(SqlitePath, IsRefusedInADirectoryThatIsReadOnly) {
  const TestDirectory directory;
  fs::permissions(directory.path(), fs::perms(0555));
  // Not as root, who may write everywhere.
  const pid_t child = run_apart([&] {
    if (::geteuid() == 0 && (::setgid(65534) != 0 || ::setuid(65534) != 0)) return 2;
    const auto database = open_sqlite({.path = directory.file("kiln.db"), .make_directory = true, .bytes_max = kRoom});
    IdMaker ids;
    const auto session = database->open_session(ids);
    return !session && session.error().what.contains("unable to open") ? 0 : 1;
  });
  EXPECT_EQ(exit_status(child), 0);
  EXPECT_THAT(directory.names(), IsEmpty());
  fs::permissions(directory.path(), fs::perms(0755));
}

TEST(SqlitePath, HasItsLastDirectoryMadeAtTheStartAndNeverLater) {
  const TestDirectory directory;
  const std::string folder = directory.file("data");
  IdMaker ids;
  {
    const auto database = open_sqlite({.path = folder + "/kiln.db", .make_directory = true, .bytes_max = kRoom});
    ASSERT_TRUE(database->open_session(ids));
    fs::remove_all(folder);
    EXPECT_FALSE(database->open_session(ids));
    EXPECT_FALSE(fs::exists(folder)) << "the volume that was there is gone";
  }
  {
    const auto database = open_sqlite({.path = folder + "/kiln.db", .make_directory = false, .bytes_max = kRoom});
    EXPECT_FALSE(database->open_session(ids));
    EXPECT_FALSE(fs::exists(folder));
  }
  const auto database = open_sqlite({.path = folder + "/more/kiln.db", .make_directory = true, .bytes_max = kRoom});
  EXPECT_FALSE(database->open_session(ids));
  EXPECT_FALSE(fs::exists(folder)) << "the last one only";
}

// --- Files that go while they are open -------------------------------------------------------------------------------

struct Loss {
  const char* name;
  std::function<void(const std::string&)> happen;
};

const Loss kLosses[] = {
    {"removed", [](const std::string& path) { fs::remove(path); }},
    {"all removed",
     [](const std::string& path) {
       for (const char* suffix : {"", "-wal", "-shm"}) fs::remove(path + suffix);
     }},
    {"moved away", [](const std::string& path) { fs::rename(path, path + ".old"); }},
    {"replaced by a copy",
     [](const std::string& path) {
       fs::copy_file(path, path + ".copy");
       fs::rename(path + ".copy", path);
     }},
    {"replaced by an empty one",
     [](const std::string& path) {
       write_file(path + ".new", "");
       fs::rename(path + ".new", path);
     }},
    {"log removed", [](const std::string& path) { fs::remove(path + "-wal"); }},
    {"log replaced",
     [](const std::string& path) {
       fs::copy_file(path + "-wal", path + ".copy");
       fs::rename(path + ".copy", path + "-wal");
     }},
    {"index of the log removed", [](const std::string& path) { fs::remove(path + "-shm"); }},
};

TEST_F(Sqlite, NoticesThatItsFilesAreGoneBeforeItAcknowledges) {
  for (const bool is_linked : {false, true}) {
    for (const Loss& loss : kLosses) {
      SCOPED_TRACE(std::string(loss.name) + (is_linked ? " behind a link" : ""));
      const TestDirectory directory;
      const std::string path = directory.file("kiln.db"), link = directory.file("link.db");
      if (is_linked) fs::create_symlink(path, link);
      const auto database = open_sqlite({.path = is_linked ? link : path, .bytes_max = kRoom});
      auto session = std::move(*database->open_session(ids_));
      auto other = std::move(*database->open_session(ids_));
      ASSERT_EQ(put(*session), "");
      ASSERT_TRUE(other->page({.before = std::nullopt, .count_max = 1}));
      loss.happen(path);
      EXPECT_THAT(put(*session), HasSubstr("removed or replaced"));
      Lookup lookup;
      EXPECT_FALSE(other->find({&lookup, 1}));
      EXPECT_FALSE(other->page({.before = std::nullopt, .count_max = 1}));
      session.reset();
      other.reset();
      auto again = database->open_session(ids_);
      ASSERT_TRUE(again) << again.error().what;
      RecordId id;
      EXPECT_EQ(put(**again, "{}", &id), "");
      const auto left = records_after_a_crash(path);
      ASSERT_TRUE(left);
      ASSERT_FALSE(left->empty());
      EXPECT_EQ(left->front().id, id);
    }
  }
}

// One lane notices and opens anew while the session of the other, which nobody asks, still has the old files.
TEST_F(Sqlite, OpensAnewWhileAnIdleSessionHasTheOldFiles) {
  for (const Loss& loss : kLosses) {
    SCOPED_TRACE(loss.name);
    const TestDirectory directory;
    const std::string path = directory.file("kiln.db");
    const auto database = open_sqlite({.path = path, .bytes_max = kRoom});
    auto session = std::move(*database->open_session(ids_));
    RecordId oldest;
    ASSERT_EQ(put(*session, "{}", &oldest), "");
    for (int i = 0; i < 100; ++i) ASSERT_EQ(put(*session, std::string(500, 'x')), "");
    const auto idle = std::move(*database->open_session(ids_));
    EXPECT_EQ(Side(path).ask("PRAGMA wal_checkpoint(TRUNCATE)"), "0|0|0");
    ASSERT_EQ(apply(*session, {removing(oldest)}), "");
    loss.happen(path);
    ASSERT_THAT(put(*session), HasSubstr("removed or replaced"));
    session.reset();
    auto again = database->open_session(ids_);
    ASSERT_TRUE(again) << again.error().what;
    std::set<RecordId> acknowledged;
    for (int i = 0; i < 10; ++i) {
      RecordId id;
      ASSERT_EQ(put(**again, "{}", &id), "");
      acknowledged.insert(id);
    }
    const auto left = records_after_a_crash(path);
    ASSERT_TRUE(left);
    for (const Record& record : *left) acknowledged.erase(record.id);
    EXPECT_THAT(acknowledged, IsEmpty()) << "all that was acknowledged since";
    EXPECT_FALSE(idle->page({.before = std::nullopt, .count_max = 1}));
  }
}

// --- A full disk -----------------------------------------------------------------------------------------------------

void limit_file_size(rlim_t bytes) {
  rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &limit), 0);
  limit.rlim_cur = std::min(bytes, limit.rlim_max);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
}

std::atomic<bool> disk_is_full{false};

ssize_t write_unless_full(int fd, const void* bytes, size_t count) {
  if (!disk_is_full) return ::write(fd, bytes, count);
  errno = ENOSPC;
  return -1;
}

ssize_t pwrite_unless_full(int fd, const void* bytes, size_t count, off_t at) {
  if (!disk_is_full) return ::pwrite(fd, bytes, count, at);
  errno = ENOSPC;
  return -1;
}

TEST_F(Sqlite, FailsOnAFullDiskAndGoesOnWhenThereIsRoom) {
  ::signal(SIGXFSZ, SIG_IGN);
  sqlite3_initialize();
  sqlite3_vfs* vfs = sqlite3_vfs_find(nullptr);
  const auto replace = [&](const char* name, auto* function) {
    vfs->xSetSystemCall(vfs, name, reinterpret_cast<sqlite3_syscall_ptr>(function));
  };
  replace("write", write_unless_full);
  replace("pwrite", pwrite_unless_full);
  replace("pwrite64", pwrite_unless_full);
  struct Row {
    const char* name;
    uint64_t bytes_max;
    std::function<void()> fill, make_room;
    const char* why;
  };
  const Row rows[] = {
      {"as large as it may become", 256 * 1024, [] {}, [] {}, "full"},
      {"no larger file", kRoom, [] { limit_file_size(128 * 1024); }, [] { limit_file_size(RLIM_INFINITY); }, "I/O"},
      {"no space", kRoom, [] { disk_is_full = true; }, [] { disk_is_full = false; }, "full"},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.name);
    const TestDirectory directory;
    const auto database = open_sqlite({.path = directory.file("kiln.db"), .bytes_max = row.bytes_max});
    auto session = std::move(*database->open_session(ids_));
    std::vector<RecordId> kept;
    const auto put_one = [&] {
      RecordId id;
      std::string failed = put(*session, std::string(1000, 'x'), &id);
      if (failed.empty()) kept.push_back(id);
      return failed;
    };
    for (int i = 0; i < 20; ++i) ASSERT_EQ(put_one(), "");
    row.fill();
    std::string failed;
    for (int i = 0; i < 1000 && failed.empty(); ++i) failed = put_one();
    EXPECT_THAT(failed, HasSubstr(row.why));
    session.reset();
    row.make_room();
    session = std::move(*database->open_session(ids_));
    const auto records = all_records(*session);
    ASSERT_TRUE(records);
    std::set<RecordId> there;
    for (const Record& record : *records) there.insert(record.id);
    for (const RecordId& id : kept) EXPECT_TRUE(there.contains(id));
    for (int i = 0; i < 10; ++i) ASSERT_EQ(apply(*session, {removing(kept[static_cast<size_t>(i)])}), "");
    for (int i = 0; i < 5; ++i) EXPECT_EQ(put_one(), "");
    EXPECT_EQ(Side(directory.file("kiln.db")).ask("PRAGMA integrity_check"), "ok");
  }
  for (const char* name : {"write", "pwrite", "pwrite64"}) vfs->xSetSystemCall(vfs, name, nullptr);
}

TEST_F(Sqlite, IsNeverMuchLargerThanItMayBe) {
  constexpr uint64_t kMax = 1024 * 1024;
  const auto database = open_sqlite({.path = path_, .bytes_max = kMax});
  auto session = std::move(*database->open_session(ids_));
  size_t stored = 0;
  while (put(*session, std::string(10'000, 'x')) == "") ++stored;
  session.reset();
  EXPECT_LE(fs::file_size(path_), kMax);
  EXPECT_GE(stored * 10'000, kMax / 2);
}

// --- Several at once -------------------------------------------------------------------------------------------------

// In place of SQLite's waiting: a test decides what happens meanwhile, and no time passes.
class Waiting {
 public:
  explicit Waiting(std::function<void()> meanwhile) {
    sqlite3_initialize();
    vfs_ = sqlite3_vfs_find(nullptr);
    sleep_ = vfs_->xSleep;
    meanwhile_ = std::move(meanwhile);
    vfs_->xSleep = [](sqlite3_vfs*, int microseconds) {
      meanwhile_();
      return microseconds;
    };
  }
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;
  ~Waiting() { vfs_->xSleep = sleep_; }

 private:
  static inline std::function<void()> meanwhile_;
  sqlite3_vfs* vfs_ = nullptr;
  int (*sleep_)(sqlite3_vfs*, int) = nullptr;
};

TEST_F(Sqlite, WaitsForAnotherProgramThatWrites) {
  const auto session = open();
  Side side(path_);
  ASSERT_EQ(side.ask("BEGIN IMMEDIATE; INSERT INTO records VALUES(zeroblob(16), 0, '{}')"), "");
  int waited = 0;
  const Waiting waiting([&] {
    if (++waited == 3) side.ask("COMMIT");
  });
  EXPECT_TRUE(session->page({.before = std::nullopt, .count_max = 1})) << "reads need not wait";
  EXPECT_EQ(waited, 0);
  EXPECT_EQ(put(*session), "");
  EXPECT_EQ(waited, 3);
  EXPECT_EQ(all_records(*session)->size(), 2U);
}

TEST_F(Sqlite, SaysThatAnotherProgramWritesTooLong) {
  auto session = open();
  Side side(path_);
  ASSERT_EQ(side.ask("BEGIN IMMEDIATE"), "");
  int waited = 0;
  {
    const Waiting waiting([&] { ++waited; });
    EXPECT_THAT(put(*session), HasSubstr("locked"));
    EXPECT_GT(waited, 10);
    session = open();  // it need not write
    EXPECT_TRUE(session->page({.before = std::nullopt, .count_max = 1}));
  }
  ASSERT_EQ(side.ask("COMMIT"), "");
  EXPECT_EQ(put(*session), "");
}

// One reader comes before the other has gone, for ever.
TEST_F(Sqlite, BoundsItsLogWhileSomebodyAlwaysReads) {
  const auto session = open();
  ASSERT_EQ(put(*session), "");
  Side sides[] = {Side(path_), Side(path_)};
  const char* const begin = "BEGIN; SELECT count(*) FROM (SELECT 1 FROM records LIMIT 1)";
  size_t reading = 0;
  ASSERT_EQ(sides[reading].ask(begin), "1");
  const auto relieve = [&] {
    EXPECT_EQ(sides[1 - reading].ask(begin), "1");
    EXPECT_EQ(sides[reading].ask("COMMIT"), "");
    reading = 1 - reading;
  };
  const Waiting waiting(relieve);
  constexpr uintmax_t kTotal = 32 * 1024 * 1024, kRecord = 64 * 1024;
  uintmax_t largest = 0;
  for (uintmax_t written = 0; written < kTotal; written += kRecord) {
    RecordId id;
    ASSERT_EQ(put(*session, std::string(kRecord, 'x'), &id), "");
    relieve();
    largest = std::max(largest, fs::file_size(path_ + "-wal"));
  }
  EXPECT_LE(largest, kTotal * 3 / 4);
}

TEST_F(Sqlite, ReadsWhileAnotherSessionWrites) {
  const auto reader = open();
  std::atomic<bool> done = false;
  std::atomic<int> batches = 0;
  std::jthread writer([&] {
    const auto session = open();
    while (!done) {
      std::vector<Change> changes;
      for (int i = 0; i < 4; ++i) changes.push_back(inserting(ids_, std::string(2000, 'x')));
      const auto applied = session->apply(changes);
      EXPECT_TRUE(applied) << applied.error().what;
      if (!applied) return;
      ++batches;
    }
  });
  while (batches < 300) {
    const auto page = reader->page({.before = std::nullopt, .count_max = 10});
    ASSERT_TRUE(page) << page.error().what;
    for (const Record& record : page->records) EXPECT_EQ(record.data.size(), 2000U);
  }
  done = true;
}

TEST(SqliteProcesses, MakeOneNewFileTogether) {
  constexpr int kRounds = 20, kProcesses = 3;
  for (int round = 0; round < kRounds; ++round) {
    SCOPED_TRACE(round);
    const TestDirectory directory;
    const std::string path = directory.file("kiln.db");
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    std::vector<pid_t> children;
    for (int i = 0; i < kProcesses; ++i) {
      children.push_back(run_apart([&] {
        ::close(ends[1]);
        char byte = 0;
        if (::read(ends[0], &byte, 1) != 0) return 2;  // all at once, when the last holder closes it
        const auto database = open_sqlite({.path = path, .bytes_max = kRoom});
        IdMaker ids;
        auto session = database->open_session(ids);
        if (!session) {
          write_file(path + ".why", session.error().what);
          return 3;
        }
        for (int n = 0; n < 10; ++n) {
          if (!put(**session, ids, "{}").empty()) return 4;
        }
        return 0;
      }));
    }
    ::close(ends[0]);
    ::close(ends[1]);
    for (const pid_t child : children) EXPECT_EQ(exit_status(child), 0) << read_file(path + ".why");
    EXPECT_EQ(Side(path).ask("SELECT count(*) FROM records"), std::to_string(10 * kProcesses));
    EXPECT_EQ(Side(path).ask("PRAGMA integrity_check"), "ok");
  }
}

}  // namespace
}  // namespace kiln::store
