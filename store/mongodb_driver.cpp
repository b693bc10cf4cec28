#include "store/mongodb_driver.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <initializer_list>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/check.h"
#include "store/mongodb_document.h"
#include "store/mongodb_uri.h"

namespace kiln::store {

namespace {

template <auto kDestroy>
struct Destroy {
  template <class T>
  void operator()(T* it) const {
    kDestroy(it);
  }
};
using Bulk = std::unique_ptr<mongoc_bulk_operation_t, Destroy<mongoc_bulk_operation_destroy>>;
using Collection = std::unique_ptr<mongoc_collection_t, Destroy<mongoc_collection_destroy>>;
using Cursor = std::unique_ptr<mongoc_cursor_t, Destroy<mongoc_cursor_destroy>>;
using Pool = std::unique_ptr<mongoc_client_pool_t, Destroy<mongoc_client_pool_destroy>>;
using ReadPreference = std::unique_ptr<mongoc_read_prefs_t, Destroy<mongoc_read_prefs_destroy>>;

// A connection that breaks at once was most likely dead before; one that breaks late has cost enough time.
constexpr std::chrono::seconds kAtOnce{1};

// Documents of one answer, so that its size is bounded: the server's own bound is 16 MiB.
constexpr int32_t kAnswerDocumentsMax = 101;

// Past every id of ours, and before those of other types that sort after strings.
constexpr std::string_view kPastAllIds = "g";

constexpr int kDuplicateKey = 11000;

// What libmongoc fills in, and must be destroyed also when it failed.
class Reply {
 public:
  Reply() { bson_init(&bson_); }
  Reply(const Reply&) = delete;
  Reply& operator=(const Reply&) = delete;
  ~Reply() { bson_destroy(&bson_); }

  bson_t* fresh() {
    bson_destroy(&bson_);  // libmongoc initialises it
    return &bson_;
  }
  [[nodiscard]] const bson_t& bson() const { return bson_; }

 private:
  bson_t bson_;
};

void append_text(bson_t& out, std::string_view key, std::string_view text) {
  CHECK(bson_append_utf8(&out, key.data(), static_cast<int>(key.size()), text.data(), static_cast<int>(text.size())));
}

void append_document(bson_t& out, std::string_view key, const bson_t& value) {
  CHECK(bson_append_document(&out, key.data(), static_cast<int>(key.size()), &value));
}

// {_id: {$in: [...]}, text: {$gte: ""}}: a comparison finds its own type alone, so any text, and nothing else.
Bson one_of(std::span<const RecordId> ids) {
  const Bson array;
  uint32_t index = 0;
  for (const RecordId& id : ids) append_text(*array, std::to_string(index++), id.text());
  const Bson in;
  CHECK(bson_append_array(in.get(), "$in", -1, array.get()));
  Bson filter;
  append_document(*filter, "_id", *in);
  const Bson any;
  append_text(*any, "$gte", "");
  append_document(*filter, "text", *any);
  return filter;
}

// {_id: {$lt: "..."}}
Bson before(std::string_view id) {
  const Bson less;
  append_text(*less, "$lt", id);
  Bson filter;
  append_document(*filter, "_id", *less);
  return filter;
}

// Of a query: these fields and no others.
Bson only(std::initializer_list<const char*> fields) {
  const Bson projection;
  for (const char* field : fields) CHECK(bson_append_int32(projection.get(), field, -1, 1));
  Bson options;
  append_document(*options, "projection", *projection);
  return options;
}

std::optional<std::string_view> text_of(const bson_t& document, const char* key) {
  bson_iter_t at;
  if (!bson_iter_init_find(&at, &document, key) || !BSON_ITER_HOLDS_UTF8(&at)) return std::nullopt;
  uint32_t bytes = 0;
  const char* const text = bson_iter_utf8(&at, &bytes);
  return std::string_view(text, bytes);
}

std::optional<RecordId> id_of(const bson_t& document) {
  const auto text = text_of(document, "_id");
  if (!text) return std::nullopt;
  const auto id = RecordId::parse(*text);
  if (!id || id->text() != *text) return std::nullopt;
  return id;
}

std::optional<int64_t> creation_of(const bson_t& document) {
  bson_iter_t at;
  if (!bson_iter_init_find(&at, &document, "created_at") || !BSON_ITER_HOLDS_DATE_TIME(&at)) return std::nullopt;
  return bson_iter_date_time(&at);
}

// Nothing when somebody else wrote it.
std::optional<Record> record_of(const bson_t& document) {
  const auto id = id_of(document);
  const auto created_at = creation_of(document);
  const auto text = text_of(document, "text");
  if (!id || !created_at || !text) return std::nullopt;
  return Record{.id = *id, .created_at = *created_at, .data = std::string(*text)};
}

bool has_elements(const bson_t& reply, const char* array) {
  bson_iter_t at;
  bson_iter_t element;
  return bson_iter_init_find(&at, &reply, array) && bson_iter_recurse(&at, &element) && bson_iter_next(&element);
}

// The first of a reply's errors: {code, errmsg}.
bson_error_t first_of(const bson_t& reply, const char* array) {
  bson_error_t error{};
  bson_iter_t at;
  bson_iter_t field;
  const std::string prefix = std::string(array) + ".0.";
  if (bson_iter_init(&at, &reply) && bson_iter_find_descendant(&at, (prefix + "code").c_str(), &field)) {
    error.code = static_cast<uint32_t>(bson_iter_as_int64(&field));
  }
  const char* message = "a write was refused";
  if (bson_iter_init(&at, &reply) && bson_iter_find_descendant(&at, (prefix + "errmsg").c_str(), &field) &&
      BSON_ITER_HOLDS_UTF8(&field)) {
    message = bson_iter_utf8(&field, nullptr);
  }
  bson_set_error(&error, MONGOC_ERROR_SERVER, error.code, "%s", message);
  return error;
}

struct WriteError {
  size_t index = 0;
  int64_t code = 0;
};

std::vector<WriteError> write_errors(const bson_t& reply) {
  std::vector<WriteError> errors;
  bson_iter_t at;
  bson_iter_t element;
  if (!bson_iter_init_find(&at, &reply, "writeErrors") || !bson_iter_recurse(&at, &element)) return errors;
  while (bson_iter_next(&element)) {
    WriteError& error = errors.emplace_back();
    bson_iter_t field;
    if (!bson_iter_recurse(&element, &field)) continue;
    while (bson_iter_next(&field)) {
      const std::string_view key = bson_iter_key(&field);
      if (key == "index") error.index = static_cast<size_t>(bson_iter_as_int64(&field));
      if (key == "code") error.code = bson_iter_as_int64(&field);
    }
  }
  return errors;
}

size_t inserted(const bson_t& reply) {
  bson_iter_t at;
  return bson_iter_init_find(&at, &reply, "nInserted") ? static_cast<size_t>(bson_iter_as_int64(&at)) : 0;
}

class MongodbSession final : public Session {
 public:
  MongodbSession(const mongoc_uri_t& uri, mongoc_client_pool_t* pool, mongoc_client_t* client)
      : uri_(uri),
        pool_(pool),
        client_(client),
        collection_(mongoc_client_get_collection(client, mongoc_uri_get_database(&uri), kMongodbCollection)),
        primary_(mongoc_read_prefs_new(MONGOC_READ_PRIMARY)) {}
  ~MongodbSession() override {
    collection_.reset();
    mongoc_client_pool_push(pool_, client_);
  }
  MongodbSession(const MongodbSession&) = delete;
  MongodbSession& operator=(const MongodbSession&) = delete;

  base::Result<void> apply(std::span<Change> changes) override;
  base::Result<void> find(std::span<Lookup> lookups) override;
  base::Result<Page> page(const PageRequest& request) override;

 private:
  using Records = std::vector<const Record*>;
  enum class Form : uint8_t { WithDoc, Plain };
  enum class Reader : uint8_t { Any, Primary };  // Any: as the URI says

  [[nodiscard]] std::unexpected<base::Error> failed(const bson_error_t& error) const {
    return std::unexpected(mongodb_error(error, uri_));
  }
  template <class Attempt>
  bool attempt(bson_error_t& error, Attempt&& run) const;
  template <class Visit>
  [[nodiscard]] base::Result<void> query(const bson_t& filter, const bson_t& options, Reader reader, Visit&& visit);

  [[nodiscard]] base::Result<void> remove(std::span<Change*> changes);
  [[nodiscard]] base::Result<void> insert(const Records& records);
  [[nodiscard]] base::Result<Records> insert(const Records& records, Form form);
  [[nodiscard]] base::Result<void> check_stored(const Records& records, const bson_error_t& otherwise);
  [[nodiscard]] Bson document_of(const Record& record, Form form);

  const mongoc_uri_t& uri_;
  mongoc_client_pool_t* const pool_;
  mongoc_client_t* const client_;
  Collection collection_;
  const ReadPreference primary_;
  BsonConverter converter_;
};

// Once more when the connection was lost: libmongoc tries again by itself, but no writes on a single server, which has
// no memory of them. Ours all may be done twice.
template <class Attempt>
bool MongodbSession::attempt(bson_error_t& error, Attempt&& run) const {
  const auto begin = std::chrono::steady_clock::now();
  if (run()) return true;
  if (error.domain != MONGOC_ERROR_STREAM || std::chrono::steady_clock::now() - begin > kAtOnce) return false;
  return run();
}

// `visit` gets each document, and says whether it wants more.
template <class Visit>
base::Result<void> MongodbSession::query(const bson_t& filter, const bson_t& options, Reader reader, Visit&& visit) {
  bson_error_t error{};
  bool is_first = true;
  const auto run = [&] {
    const Cursor cursor(mongoc_collection_find_with_opts(collection_.get(), &filter, &options,
                                                         reader == Reader::Primary ? primary_.get() : nullptr));
    const bson_t* document = nullptr;
    while (mongoc_cursor_next(cursor.get(), &document)) {
      is_first = false;
      if (!visit(*document)) return true;
    }
    return !mongoc_cursor_error(cursor.get(), &error);
  };
  // What was visited must not be visited twice.
  if (!attempt(error, [&] { return is_first && run(); })) return failed(error);
  return {};
}

// --- Changes ---------------------------------------------------------------------------------------------------------

// Removes first: when they fail nothing has been inserted that nobody knows of.
base::Result<void> MongodbSession::apply(std::span<Change> changes) {
  std::vector<Change*> removes;
  Records inserts;
  for (Change& change : changes) {
    if (change.kind == Change::Kind::Insert) {
      inserts.push_back(&change.record);
    } else {
      removes.push_back(&change);
    }
  }
  if (!removes.empty()) {
    if (auto removed = remove(removes); !removed) return removed;
  }
  if (inserts.empty()) return {};
  return insert(inserts);
}

// The server tells how many it removed, and not which: so it is asked before which are there. When another process
// removes the same ones at the same moment, both may be told that they did.
base::Result<void> MongodbSession::remove(std::span<Change*> changes) {
  std::vector<RecordId> ids;
  for (const Change* change : changes) ids.push_back(change->record.id);
  std::ranges::sort(ids);
  ids.erase(std::ranges::unique(ids).begin(), ids.end());

  std::vector<RecordId> there;
  auto asked = query(*one_of(ids), *only({"_id", "created_at"}), Reader::Primary, [&](const bson_t& document) {
    const auto id = id_of(document);
    if (id && creation_of(document)) there.push_back(*id);
    return true;
  });
  if (!asked) return asked;

  if (!there.empty()) {
    bson_error_t error{};
    Reply reply;
    int attempts = 0;
    const Bson filter = one_of(there);
    const bool done = attempt(error, [&] {
      ++attempts;
      return mongoc_collection_delete_many(collection_.get(), filter.get(), nullptr, reply.fresh(), &error);
    });
    if (!done) return failed(error);
    bson_iter_t count;
    const bool is_counted = bson_iter_init_find(&count, &reply.bson(), "deletedCount");
    // Somebody else was faster; it may have been our first attempt, when there are two.
    if (is_counted && bson_iter_as_int64(&count) == 0 && attempts == 1) there.clear();
  }

  std::ranges::sort(there);
  for (Change* change : changes) {
    const auto at = std::ranges::lower_bound(there, change->record.id);
    change->found = at != there.end() && *at == change->record.id;
    if (change->found) there.erase(at);  // a second remove of it finds nothing
  }
  return {};
}

// Without `doc` where the server refuses it: older ones do not store keys with dots and dollars, for example.
base::Result<void> MongodbSession::insert(const Records& records) {
  auto refused = insert(records, Form::WithDoc);
  if (!refused) return std::unexpected(std::move(refused.error()));
  if (refused->empty()) return {};
  refused = insert(*refused, Form::Plain);
  if (!refused) return std::unexpected(std::move(refused.error()));
  CHECK(refused->empty());
  return {};
}

Bson MongodbSession::document_of(const Record& record, Form form) {
  Bson document;
  append_text(*document, "_id", record.id.text());
  CHECK(bson_append_date_time(document.get(), "created_at", -1, record.created_at));
  append_text(*document, "text", record.data);
  if (form == Form::Plain) return document;
  if (const Bson doc = converter_.convert(record.data)) append_document(*document, "doc", *doc);
  return document;
}

// Answers with those that the server does not want in this form; never any in the plain one, where that is an error.
base::Result<MongodbSession::Records> MongodbSession::insert(const Records& records, Form form) {
  const Bson unordered;
  CHECK(bson_append_bool(unordered.get(), "ordered", -1, false));
  const Bson unchecked;  // the server has a look at them, with other ideas about keys
  CHECK(bson_append_bool(unchecked.get(), "validate", -1, false));

  bson_error_t error{};
  Reply reply;
  const bool stored = attempt(error, [&] {
    const Bulk bulk(mongoc_collection_create_bulk_operation_with_opts(collection_.get(), unordered.get()));
    for (const Record* record : records) {
      const Bson document = document_of(*record, form);
      if (!mongoc_bulk_operation_insert_with_opts(bulk.get(), document.get(), unchecked.get(), &error)) return false;
    }
    return mongoc_bulk_operation_execute(bulk.get(), reply.fresh(), &error) != 0;
  });
  if (stored) return Records{};
  if (has_elements(reply.bson(), "writeConcernErrors")) return failed(first_of(reply.bson(), "writeConcernErrors"));

  const std::vector<WriteError> errors = write_errors(reply.bson());
  if (errors.empty()) {
    // The command as a whole was refused: perhaps for one of its documents, unless the server says that its own state
    // is the reason.
    const bool is_passing = mongoc_error_has_label(&reply.bson(), "RetryableWriteError");
    if (error.domain == MONGOC_ERROR_SERVER && form == Form::WithDoc && !is_passing) return records;
    return failed(error);
  }
  // Some may not have been tried at all: libmongoc splits what is too large for one message.
  if (inserted(reply.bson()) + errors.size() != records.size()) return failed(error);
  Records refused;
  Records twice;
  for (const WriteError& write_error : errors) {
    if (write_error.index >= records.size()) return failed(error);
    (write_error.code == kDuplicateKey ? twice : refused).push_back(records[write_error.index]);
  }
  const bson_error_t first = first_of(reply.bson(), "writeErrors");
  if (!refused.empty() && form == Form::Plain) return failed(first);
  if (!twice.empty()) {
    if (auto checked = check_stored(twice, first); !checked) return std::unexpected(std::move(checked.error()));
  }
  return refused;
}

// An id of ours is new, so who has it already is our own earlier attempt. But another key may be meant, of an index
// that somebody else has made, so we look.
base::Result<void> MongodbSession::check_stored(const Records& records, const bson_error_t& otherwise) {
  std::vector<RecordId> ids;
  for (const Record* record : records) ids.push_back(record->id);
  size_t stored = 0;
  auto asked = query(*one_of(ids), *only({"_id", "created_at", "text"}), Reader::Primary, [&](const bson_t& document) {
    const auto record = record_of(document);
    stored += record && std::ranges::any_of(records, [&](const Record* ours) {
                return ours->id == record->id && ours->data == record->data;
              });
    return true;
  });
  if (!asked) return asked;
  if (stored < records.size()) return failed(otherwise);
  return {};
}

// --- Reads -----------------------------------------------------------------------------------------------------------

base::Result<void> MongodbSession::find(std::span<Lookup> lookups) {
  std::vector<RecordId> ids;
  for (const Lookup& lookup : lookups) ids.push_back(lookup.id);
  std::ranges::sort(ids);
  ids.erase(std::ranges::unique(ids).begin(), ids.end());

  const Bson options = only({"_id", "created_at", "text"});
  CHECK(bson_append_int32(options.get(), "batchSize", -1, kAnswerDocumentsMax));
  return query(*one_of(ids), *options, Reader::Any, [&](const bson_t& document) {
    const auto record = record_of(document);
    for (Lookup& lookup : lookups) {
      if (record && lookup.id == record->id) lookup.record = *record;
    }
    return true;
  });
}

base::Result<Page> MongodbSession::page(const PageRequest& request) {
  Page page;
  size_t bytes = 0;
  std::string last = request.before ? request.before->text() : std::string(kPastAllIds);
  for (;;) {
    const auto limit = static_cast<int64_t>(request.count_max - page.records.size() + 1);
    const Bson options = only({"_id", "created_at", "text"});
    const Bson newest_first;
    CHECK(bson_append_int32(newest_first.get(), "_id", -1, -1));
    append_document(*options, "sort", *newest_first);
    CHECK(bson_append_int64(options.get(), "limit", -1, limit));
    CHECK(bson_append_int32(options.get(), "batchSize", -1, kAnswerDocumentsMax));

    int64_t seen = 0;
    const std::string from = last;
    const Bson filter = before(from);
    auto asked = query(*filter, *options, Reader::Any, [&](const bson_t& document) {
      ++seen;
      if (const auto text = text_of(document, "_id")) last = *text;
      auto record = record_of(document);
      if (!record) return true;
      if (page.records.size() == request.count_max || bytes > kPageBytesMax) {
        page.more = true;
        return false;
      }
      bytes += record->data.size();
      page.records.push_back(std::move(*record));
      return true;
    });
    if (!asked) return std::unexpected(std::move(asked.error()));
    // Documents of others may have taken the place of ours.
    if (page.more || seen < limit || last == from) return page;
  }
}

// --- The database ----------------------------------------------------------------------------------------------------

class Mongodb final : public Database {
 public:
  explicit Mongodb(MongodbUri uri) : uri_(std::move(uri)) {}

  [[nodiscard]] std::string_view name() const override { return "mongodb"; }

  // Ids of several replicas are apart by chance alone, so there is none to move past.
  [[nodiscard]] base::Result<std::unique_ptr<Session>> open_session(IdMaker& /*ids*/) override {
    auto pool = pool_of_all();
    if (!pool) return std::unexpected(std::move(pool.error()));
    mongoc_client_t* const client = mongoc_client_pool_pop(*pool);
    if (client == nullptr) return base::error("MongoDB: all connections are in use");
    return std::make_unique<MongodbSession>(*uri_, *pool, client);
  }

 private:
  // With mongodb+srv:// this asks the DNS, and may succeed later; with mongodb:// it waits for nothing.
  [[nodiscard]] base::Result<mongoc_client_pool_t*> pool_of_all() {
    const std::lock_guard lock(mutex_);
    if (pool_) return pool_.get();
    bson_error_t error{};
    pool_.reset(mongoc_client_pool_new_with_error(uri_.get(), &error));
    if (!pool_) return std::unexpected(mongodb_error(error, *uri_));
    mongoc_client_pool_set_error_api(pool_.get(), MONGOC_ERROR_API_VERSION_2);
    return pool_.get();
  }

  const MongodbUri uri_;
  std::mutex mutex_;
  Pool pool_;
};

base::Result<std::unique_ptr<Database>> open(const MongodbOptions& options) {
  auto uri = make_mongodb_uri(options);
  if (!uri) return std::unexpected(std::move(uri.error()));
  return std::make_unique<Mongodb>(std::move(*uri));
}

}  // namespace

}  // namespace kiln::store

extern "C" [[gnu::visibility("default")]] void kiln_open_mongodb(
    const kiln::store::MongodbOptions& options, kiln::base::Result<std::unique_ptr<kiln::store::Database>>& opened) {
  opened = kiln::store::open(options);
}
