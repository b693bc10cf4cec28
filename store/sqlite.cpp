#include "store/sqlite.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/fd.h"

namespace kiln::store {

namespace {

constexpr int64_t kApplicationId = 0x4b494c4e;  // "KILN", at offset 68 of the file
constexpr int64_t kSchemaVersion = 1;
constexpr int kBusyMilliseconds = 5000;
constexpr int kBusyPause = 10;  // milliseconds
constexpr uint64_t kPageBytes = 4096;
constexpr int kLogPages = 1000;           // the log is merged when it has more: SQLite's own default
constexpr int kLogPagesMax = 4 * 1000;    // more than that, and it waits for readers to let it begin anew
constexpr int kRestartMilliseconds = 50;  // for so long

constexpr const char* kSchema =
    "CREATE TABLE records(id BLOB NOT NULL UNIQUE, created_at INTEGER NOT NULL, data TEXT NOT NULL)";

std::string directory_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

// A new name in a directory is durable once the directory is (fsync(2)).
void sync_directory(const std::string& directory) {
  const base::Fd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd.valid()) ::fsync(fd.get());
}

// Which file a name stands for.
struct FileIdentity {
  dev_t device;
  ino_t inode;

  static std::optional<FileIdentity> of(const std::string& path) {
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0) return std::nullopt;
    return FileIdentity{status.st_dev, status.st_ino};
  }
  friend bool operator==(const FileIdentity&, const FileIdentity&) = default;
};

// A database's own file, its log and the log's index. Whatever of them is removed or replaced while it is open goes on
// to take commits, which nobody will ever see again.
class Files {
 public:
  Files() = default;
  explicit Files(const std::string& path) : paths_{path, path + "-wal", path + "-shm"} {
    for (size_t i = 0; i < paths_.size(); ++i) identities_[i] = FileIdentity::of(paths_[i]);
  }

  // True when each name still stands for the file that it stood for at first.
  [[nodiscard]] bool are_there() const {
    for (size_t i = 0; i < paths_.size(); ++i) {
      if (!identities_[i] || FileIdentity::of(paths_[i]) != identities_[i]) return false;
    }
    return true;
  }

 private:
  std::array<std::string, 3> paths_;
  std::array<std::optional<FileIdentity>, 3> identities_;
};

class Statement {
 public:
  Statement() = default;
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;
  ~Statement() { sqlite3_finalize(handle_); }

  static int prepare(sqlite3* connection, std::string_view sql, Statement& out) {
    return sqlite3_prepare_v3(connection, sql.data(), static_cast<int>(sql.size()), SQLITE_PREPARE_PERSISTENT,
                              &out.handle_, nullptr);
  }

  // What is bound must live until reset().
  void bind(int place, const RecordId& id) {
    CHECK(sqlite3_bind_blob(handle_, place, id.bytes.data(), static_cast<int>(id.bytes.size()), SQLITE_STATIC) ==
          SQLITE_OK);
  }
  void bind(int place, int64_t number) { CHECK(sqlite3_bind_int64(handle_, place, number) == SQLITE_OK); }
  void bind(int place, std::string_view text) {
    CHECK(sqlite3_bind_text(handle_, place, text.data(), static_cast<int>(text.size()), SQLITE_STATIC) == SQLITE_OK);
  }

  int step() { return sqlite3_step(handle_); }
  void reset() {
    sqlite3_reset(handle_);
    sqlite3_clear_bindings(handle_);
  }

  [[nodiscard]] int64_t number(int column) const { return sqlite3_column_int64(handle_, column); }
  [[nodiscard]] std::span<const uint8_t> blob(int column) const {
    const auto* data = static_cast<const uint8_t*>(sqlite3_column_blob(handle_, column));
    return {data, static_cast<size_t>(sqlite3_column_bytes(handle_, column))};
  }
  [[nodiscard]] std::string text(int column) const {
    const std::span<const uint8_t> bytes = blob(column);
    return {bytes.begin(), bytes.end()};
  }

 private:
  sqlite3_stmt* handle_ = nullptr;
};

// False when it is no id of ours: somebody else wrote into the file.
bool read_record(const Statement& row, Record& record) {
  const std::span<const uint8_t> id = row.blob(0);
  if (id.size() != record.id.bytes.size()) return false;
  std::ranges::copy(id, record.id.bytes.begin());
  record.created_at = row.number(1);
  record.data = row.text(2);
  return true;
}

// After each commit of a connection. SQLite's own hook never waits: while one reader comes before the other has gone,
// the log could not begin anew. Whatever fails here fails again later; the commit stands.
int merge_log(void* /*context*/, sqlite3* connection, const char* name, int pages) {
  if (pages < kLogPages) return SQLITE_OK;
  const int mode = pages < kLogPagesMax ? SQLITE_CHECKPOINT_PASSIVE : SQLITE_CHECKPOINT_RESTART;
  sqlite3_busy_timeout(connection, kRestartMilliseconds);
  sqlite3_wal_checkpoint_v2(connection, name, mode, nullptr, nullptr);
  sqlite3_busy_timeout(connection, kBusyMilliseconds);
  return SQLITE_OK;
}

struct Close {
  void operator()(sqlite3* connection) const { sqlite3_close(connection); }
};

struct Statements {
  Statement begin, commit, insert, remove, find, newest, older;
};

class Sqlite;

class SqliteSession final : public Session {
 public:
  explicit SqliteSession(Sqlite& database) : database_(database) {}
  ~SqliteSession() override;

  base::Result<void> open(IdMaker& ids);

  // Any thread, when it is open: closes it if its files are gone.
  void leave_lost_files();

  base::Result<void> apply(std::span<Change> changes) override;
  base::Result<void> find(std::span<Lookup> lookups) override;
  base::Result<Page> page(const PageRequest& request) override;

 private:
  [[nodiscard]] std::unexpected<base::Error> failed() const;
  [[nodiscard]] std::unexpected<base::Error> refused(std::string_view why) const;
  [[nodiscard]] base::Result<void> run(const char* sql);
  [[nodiscard]] base::Result<int64_t> ask(const char* sql);
  void close();
  void keep_log(bool keep);
  [[nodiscard]] base::Result<void> look_at_schema();
  [[nodiscard]] base::Result<void> make_schema();
  [[nodiscard]] base::Result<void> configure();
  [[nodiscard]] base::Result<void> prepare();
  [[nodiscard]] base::Result<void> run(Statement& statement);
  [[nodiscard]] base::Result<void> check_files() const;

  Sqlite& database_;
  Files files_;
  std::mutex mutex_;                            // of what follows
  std::unique_ptr<sqlite3, Close> connection_;  // outlives its statements
  std::optional<Statements> statements_;        // nothing when it was closed
};

class Sqlite final : public Database {
 public:
  explicit Sqlite(SqliteOptions options) : options_(std::move(options)) {
    // Once a process, before any connection; later calls are refused, and change nothing.
    sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
    if (!options_.make_directory) return;
    const std::string directory = directory_of(options_.path);
    if (::mkdir(directory.c_str(), 0777) == 0) sync_directory(directory_of(directory));
  }

  [[nodiscard]] std::string_view name() const override { return "sqlite"; }
  [[nodiscard]] const SqliteOptions& options() const { return options_; }

  base::Result<std::unique_ptr<Session>> open_session(IdMaker& ids) override {
    // SQLite keeps some of a file's state by name and some by its inode, for all connections of a process together. A
    // new one beside one that has the old files would write a log that nobody can read.
    auto session = std::make_unique<SqliteSession>(*this);
    const std::lock_guard lock(mutex_);
    for (SqliteSession* other : sessions_) other->leave_lost_files();
    if (auto opened = session->open(ids); !opened) return std::unexpected(std::move(opened.error()));
    sessions_.push_back(session.get());
    return session;
  }

  void forget(const SqliteSession* session) {
    const std::lock_guard lock(mutex_);
    std::erase(sessions_, session);
  }

 private:
  const SqliteOptions options_;
  std::mutex mutex_;
  std::vector<SqliteSession*> sessions_;  // that are open
};

std::unexpected<base::Error> SqliteSession::refused(std::string_view why) const {
  return base::error("SQLite file " + database_.options().path + ": " + std::string(why));
}

std::unexpected<base::Error> SqliteSession::failed() const {
  if (connection_ == nullptr) return refused("no memory");
  std::string why = sqlite3_errmsg(connection_.get());
  const int kind = sqlite3_errcode(connection_.get()) & 0xff;
  const int code = sqlite3_system_errno(connection_.get());
  if (code != 0 && (kind == SQLITE_CANTOPEN || kind == SQLITE_IOERR)) {
    why += std::string(" (") + std::strerror(code) + ")";
  }
  auto error = refused(why);
  if (kind == SQLITE_FULL) error.error().code = ENOSPC;
  return error;
}

base::Result<void> SqliteSession::run(const char* sql) {
  if (sqlite3_exec(connection_.get(), sql, nullptr, nullptr, nullptr) != SQLITE_OK) return failed();
  return {};
}

// The number in the first row, 0 without one.
base::Result<int64_t> SqliteSession::ask(const char* sql) {
  Statement statement;
  if (Statement::prepare(connection_.get(), sql, statement) != SQLITE_OK) return failed();
  const int result = statement.step();
  if (result == SQLITE_ROW) return statement.number(0);
  if (result != SQLITE_DONE) return failed();
  return 0;
}

base::Result<void> SqliteSession::open(IdMaker& ids) {
  constexpr int kFlags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
  sqlite3* connection = nullptr;
  const int opened = sqlite3_open_v2(database_.options().path.c_str(), &connection, kFlags, nullptr);
  connection_.reset(connection);  // also when it failed: the reason is in it
  if (opened != SQLITE_OK) return failed();
  sqlite3_busy_timeout(connection_.get(), kBusyMilliseconds);
  // The last words of another program that was killed are for it to merge.
  keep_log(FileIdentity::of(std::string(sqlite3_db_filename(connection_.get(), "main")) + "-wal").has_value());
  if (auto looked = look_at_schema(); !looked) return looked;
  if (auto prepared = prepare(); !prepared) return prepared;
  keep_log(false);
  if (auto configured = configure(); !configured) return configured;
  // The first read after all that opens the log and its index.
  if (auto version = ask("PRAGMA user_version"); !version) return std::unexpected(std::move(version.error()));
  files_ = Files(sqlite3_db_filename(connection_.get(), "main"));  // absolute, and not through a link
  int moved = 0;
  if (sqlite3_file_control(connection_.get(), "main", SQLITE_FCNTL_HAS_MOVED, &moved) != SQLITE_OK) return failed();
  if (moved != 0) return refused("it was removed or replaced");
  auto newest = page({.before = std::nullopt, .count_max = 1});
  if (!newest) return std::unexpected(std::move(newest.error()));
  if (!newest->records.empty()) ids.pass(newest->records.front().id);
  return {};
}

// Whether the log stays as it is when this connection is the last one and closes.
void SqliteSession::keep_log(bool keep) {
  sqlite3_db_config(connection_.get(), SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, keep ? 1 : 0, nullptr);
}

base::Result<void> SqliteSession::look_at_schema() {
  // Two processes may open a new file at once: whoever has the lock makes the schema, the other looks again.
  for (int attempt = 0; attempt < 2; ++attempt) {
    // Of one moment: the other may be at it.
    if (auto begun = run("BEGIN"); !begun) return begun;
    const auto application = ask("PRAGMA application_id");
    if (!application) return std::unexpected(application.error());
    const auto version = ask("PRAGMA user_version");
    if (!version) return std::unexpected(version.error());
    const auto objects = ask("SELECT count(*) FROM sqlite_master");
    if (!objects) return std::unexpected(objects.error());
    if (auto ended = run("COMMIT"); !ended) return ended;
    if (*application == kApplicationId) {
      if (*version == kSchemaVersion) return {};
      return refused("its records are of version " + std::to_string(*version) + ", this program reads and writes " +
                     std::to_string(kSchemaVersion) + "; name another file by --data-uri");
    }
    if (*application != 0 || *version != 0 || *objects != 0) {
      return refused("another program's database; name another file by --data-uri");
    }
    if (auto made = make_schema(); !made) return made;
  }
  return refused("another program makes a database of it");
}

base::Result<void> SqliteSession::make_schema() {
  if (auto done = run("BEGIN IMMEDIATE"); !done) return done;
  const auto objects = ask("SELECT count(*) FROM sqlite_master");
  if (!objects) return std::unexpected(objects.error());
  if (*objects == 0) {
    const std::string sql = std::string(kSchema) + "; PRAGMA application_id = " + std::to_string(kApplicationId) +
                            "; PRAGMA user_version = " + std::to_string(kSchemaVersion);
    if (auto done = run(sql.c_str()); !done) return done;
  }
  if (auto done = run("COMMIT"); !done) return done;
  sync_directory(directory_of(sqlite3_db_filename(connection_.get(), "main")));
  return {};
}

base::Result<void> SqliteSession::configure() {
  // FULL: the log is synchronised before a commit returns. The cache is small, since a pod is charged for it, and the
  // system's own cache stands behind it.
  const std::string sql =
      "PRAGMA synchronous = FULL; PRAGMA cache_size = -1024; PRAGMA journal_size_limit = 16777216;"
      "PRAGMA trusted_schema = OFF; PRAGMA max_page_count = " +
      std::to_string(std::max<uint64_t>(database_.options().bytes_max / kPageBytes, 1));
  if (auto done = run(sql.c_str()); !done) return done;
  Statement mode;
  if (Statement::prepare(connection_.get(), "PRAGMA journal_mode = WAL", mode) != SQLITE_OK) return failed();
  // SQLite does not wait by itself for others who look at a new file just then.
  int result = mode.step();
  for (int waited = 0; (result & 0xff) == SQLITE_BUSY && waited < kBusyMilliseconds; waited += kBusyPause) {
    sqlite3_sleep(kBusyPause);
    mode.reset();
    result = mode.step();
  }
  if (result != SQLITE_ROW) return failed();
  if (mode.text(0) != "wal") return refused("this file system has no write-ahead log for it");
  sqlite3_wal_hook(connection_.get(), merge_log, nullptr);
  return {};
}

base::Result<void> SqliteSession::prepare() {
  statements_.emplace();
  const std::pair<std::string_view, Statement*> statements[] = {
      {"BEGIN IMMEDIATE", &statements_->begin},
      {"COMMIT", &statements_->commit},
      {"INSERT INTO records(id, created_at, data) VALUES(?1, ?2, ?3)", &statements_->insert},
      {"DELETE FROM records WHERE id = ?1", &statements_->remove},
      {"SELECT id, created_at, data FROM records WHERE id = ?1", &statements_->find},
      {"SELECT id, created_at, data FROM records ORDER BY id DESC", &statements_->newest},
      {"SELECT id, created_at, data FROM records WHERE id < ?1 ORDER BY id DESC", &statements_->older},
  };
  for (const auto& [sql, statement] : statements) {
    if (Statement::prepare(connection_.get(), sql, *statement) != SQLITE_OK) return failed();
  }
  return {};
}

base::Result<void> SqliteSession::run(Statement& statement) {
  const int result = statement.step();
  base::Result<void> done;
  if (result != SQLITE_DONE) done = failed();
  statement.reset();
  return done;
}

// Known until it is closed: nobody opens new files meanwhile.
SqliteSession::~SqliteSession() {
  close();
  database_.forget(this);
}

void SqliteSession::leave_lost_files() {
  if (!files_.are_there()) close();
}

void SqliteSession::close() {
  const std::lock_guard lock(mutex_);
  statements_.reset();
  connection_.reset();
}

base::Result<void> SqliteSession::check_files() const {
  if (statements_ && files_.are_there()) return {};
  return refused("it or its log was removed or replaced");
}

base::Result<void> SqliteSession::apply(std::span<Change> changes) {
  const std::lock_guard lock(mutex_);
  if (auto there = check_files(); !there) return there;
  if (auto begun = run(statements_->begin); !begun) return begun;
  for (Change& change : changes) {
    const bool inserts = change.kind == Change::Kind::Insert;
    Statement& statement = inserts ? statements_->insert : statements_->remove;
    statement.bind(1, change.record.id);
    if (inserts) {
      statement.bind(2, change.record.created_at);
      statement.bind(3, change.record.data);
    }
    if (auto done = run(statement); !done) return done;
    change.found = sqlite3_changes(connection_.get()) > 0;
  }
  if (auto committed = run(statements_->commit); !committed) return committed;
  return check_files();
}

base::Result<void> SqliteSession::find(std::span<Lookup> lookups) {
  const std::lock_guard lock(mutex_);
  if (auto there = check_files(); !there) return there;
  Statement& statement = statements_->find;
  for (Lookup& lookup : lookups) {
    statement.bind(1, lookup.id);
    const int result = statement.step();
    Record record;
    base::Result<void> done;
    if (result == SQLITE_ROW) {
      if (read_record(statement, record)) {
        lookup.record = std::move(record);
      } else {
        done = refused("a record of another program");
      }
    } else if (result != SQLITE_DONE) {
      done = failed();
    }
    statement.reset();
    if (!done) return done;
  }
  return {};
}

base::Result<Page> SqliteSession::page(const PageRequest& request) {
  const std::lock_guard lock(mutex_);
  if (auto there = check_files(); !there) return std::unexpected(std::move(there.error()));
  Statement& statement = request.before ? statements_->older : statements_->newest;
  if (request.before) statement.bind(1, *request.before);
  Page page;
  size_t bytes = 0;
  base::Result<void> done;
  for (;;) {
    const int result = statement.step();
    if (result == SQLITE_DONE) break;
    if (result != SQLITE_ROW) {
      done = failed();
      break;
    }
    if (page.records.size() == request.count_max || bytes > kPageBytesMax) {
      page.more = true;
      break;
    }
    if (!read_record(statement, page.records.emplace_back())) {
      done = refused("a record of another program");
      break;
    }
    bytes += page.records.back().data.size();
  }
  statement.reset();
  if (!done) return std::unexpected(std::move(done.error()));
  return page;
}

}  // namespace

std::unique_ptr<Database> open_sqlite(SqliteOptions options) { return std::make_unique<Sqlite>(std::move(options)); }

}  // namespace kiln::store
