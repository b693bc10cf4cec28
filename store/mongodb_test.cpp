// Through the shared object, as the program does. MongodbServer's need a server that KILN_TEST_MONGODB_URI names, and
// fail without; tests/mongodb/with_server starts one.
#include "store/mongodb.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mongoc/mongoc.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "store/mongodb_document.h"
#include "store/mongodb_uri.h"

namespace kiln::store {
namespace {

using std::chrono::steady_clock;
using testing::HasSubstr;
using testing::Not;

IdMaker& id_maker() {
  static IdMaker maker;
  return maker;
}

Change insertion(std::string data, int64_t created_at = 1'700'000'000'123) {
  return {.kind = Change::Kind::Insert,
          .record = {.id = id_maker().next(created_at), .created_at = created_at, .data = std::move(data)}};
}

Change removal(const RecordId& id) { return {.kind = Change::Kind::Remove, .record = {.id = id, .data = {}}}; }

// A port of this host that nobody answers on: bound, and listening or not.
struct Port {
  explicit Port(bool listens) : fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* const any = reinterpret_cast<sockaddr*>(&address);
    EXPECT_EQ(::bind(fd.get(), any, size), 0);
    EXPECT_EQ(::getsockname(fd.get(), any, &size), 0);
    if (listens) {
      EXPECT_EQ(::listen(fd.get(), 8), 0);
    }
    host = "127.0.0.1:" + std::to_string(ntohs(address.sin_port));
  }

  base::Fd fd;
  std::string host;
};

TEST(Mongodb, RefusesAWrongConnectionString) {
  const auto opened = open_mongodb({.uri = "mongodb://hush:secret@a/?w=0"});
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, EINVAL);
  EXPECT_THAT(opened.error().what, HasSubstr("w=0"));
  EXPECT_THAT(opened.error().what, Not(HasSubstr("secret")));
}

TEST(Mongodb, TellsInTimeThatNobodyIsThere) {
  for (const bool listens : {false, true}) {
    SCOPED_TRACE(listens);
    const Port port(listens);
    auto opened = open_mongodb({.uri = "mongodb://" + port.host, .user = "hush", .password = "secret"});
    ASSERT_TRUE(opened) << opened.error().what;
    EXPECT_EQ((*opened)->name(), "mongodb");
    const auto begin = steady_clock::now();
    auto session = (*opened)->open_session(id_maker());
    ASSERT_TRUE(session) << session.error().what;
    EXPECT_LT(steady_clock::now() - begin, std::chrono::seconds(1));

    std::vector<Change> changes{insertion("{}")};
    const auto applied = (*session)->apply(changes);
    EXPECT_LT(steady_clock::now() - begin, std::chrono::seconds(5));
    ASSERT_FALSE(applied);
    EXPECT_THAT(applied.error().what, HasSubstr("MongoDB: no suitable server"));
    EXPECT_THAT(applied.error().what, HasSubstr(port.host));
    EXPECT_THAT(applied.error().what, Not(HasSubstr("hush")));
    EXPECT_THAT(applied.error().what, Not(HasSubstr("secret")));
  }
}

// libmongoc asks the DNS for it while it makes its pool; it must not stay without one.
TEST(Mongodb, TellsThatANameIsUnknown) {
  for (const std::string_view uri : {"mongodb+srv://hush:secret@cluster.kiln.invalid", "mongodb://kiln.invalid"}) {
    SCOPED_TRACE(uri);
    auto opened = open_mongodb({.uri = std::string(uri)});
    ASSERT_TRUE(opened) << opened.error().what;
    for (int attempt = 0; attempt < 2; ++attempt) {
      base::Result<Page> page;
      auto session = (*opened)->open_session(id_maker());
      page = session ? (*session)->page({.before = std::nullopt, .count_max = 1})
                     : std::unexpected(std::move(session.error()));
      ASSERT_FALSE(page);
      EXPECT_THAT(page.error().what, HasSubstr("kiln.invalid"));
      EXPECT_THAT(page.error().what, Not(HasSubstr("secret")));
    }
  }
}

// --- With a server ---------------------------------------------------------------------------------------------------

struct Client {
  void operator()(mongoc_client_t* client) const { mongoc_client_destroy(client); }
};
struct Collection {
  void operator()(mongoc_collection_t* collection) const { mongoc_collection_destroy(collection); }
};
struct Cursor {
  void operator()(mongoc_cursor_t* cursor) const { mongoc_cursor_destroy(cursor); }
};

class MongodbServer : public testing::Test {
 protected:
  void SetUp() override {
    const char* const given = std::getenv("KILN_TEST_MONGODB_URI");
    ASSERT_NE(given, nullptr) << "KILN_TEST_MONGODB_URI names no server";
    uri_ = given;
    // Every test has a database of its own: "mongodb://user:password@host:1/?x=y" gets one in its path.
    name_ = "kiln_" + id_maker().next(0).text().substr(24);
    const size_t host = uri_.find("://") + 3;
    const size_t slash = uri_.find('/', host);
    options_.uri = slash == std::string::npos ? uri_ + "/" + name_
                                              : uri_.substr(0, slash + 1) + name_ + uri_.substr(uri_.find('?', slash));
    open();
    client_.reset(mongoc_client_new(uri_.c_str()));
    ASSERT_NE(client_, nullptr);
    collection_.reset(mongoc_client_get_collection(client_.get(), name_.c_str(), kMongodbCollection));
  }

  void TearDown() override {
    if (collection_ == nullptr) return;
    bson_error_t error{};
    EXPECT_TRUE(mongoc_collection_drop(collection_.get(), &error)) << error.message;
  }

  void open() {
    auto opened = open_mongodb(options_);
    ASSERT_TRUE(opened) << opened.error().what;
    session_.reset();
    database_ = std::move(*opened);
    auto session = database_->open_session(id_maker());
    ASSERT_TRUE(session) << session.error().what;
    session_ = std::move(*session);
  }

  void apply(std::vector<Change>& changes) {
    const auto applied = session_->apply(changes);
    ASSERT_TRUE(applied) << applied.error().what;
  }

  std::optional<Record> find(const RecordId& id) {
    std::vector<Lookup> lookups{{.id = id}};
    const auto found = session_->find(lookups);
    EXPECT_TRUE(found) << found.error().what;
    return lookups[0].record;
  }

  Page page(std::optional<RecordId> before, size_t count_max) {
    auto page = session_->page({.before = before, .count_max = count_max});
    EXPECT_TRUE(page) << page.error().what;
    return page ? std::move(*page) : Page{};
  }

  // As another program does; from extended JSON.
  void insert(std::string_view json) {
    bson_error_t error{};
    bson_t document;
    ASSERT_TRUE(bson_init_from_json(&document, json.data(), static_cast<ssize_t>(json.size()), &error)) << json;
    EXPECT_TRUE(mongoc_collection_insert_one(collection_.get(), &document, nullptr, nullptr, &error)) << error.message;
    bson_destroy(&document);
  }

  // What is there of one id, as extended JSON; "" when nothing is.
  std::string stored(std::string_view id) {
    Bson filter;
    EXPECT_TRUE(bson_append_utf8(filter.get(), "_id", -1, id.data(), static_cast<int>(id.size())));
    const std::unique_ptr<mongoc_cursor_t, Cursor> cursor(
        mongoc_collection_find_with_opts(collection_.get(), filter.get(), nullptr, nullptr));
    const bson_t* document = nullptr;
    if (!mongoc_cursor_next(cursor.get(), &document)) return {};
    char* const json = bson_as_relaxed_extended_json(document, nullptr);
    std::string out(json);
    bson_free(json);
    return out;
  }

  int64_t count() {
    const Bson everything;
    bson_error_t error{};
    const int64_t count =
        mongoc_collection_count_documents(collection_.get(), everything.get(), nullptr, nullptr, nullptr, &error);
    EXPECT_GE(count, 0) << error.message;
    return count;
  }

  std::string uri_;
  std::string name_;
  MongodbOptions options_;
  std::unique_ptr<Database> database_;
  std::unique_ptr<Session> session_;
  std::unique_ptr<mongoc_client_t, Client> client_;
  std::unique_ptr<mongoc_collection_t, Collection> collection_;
};

std::string nested(int levels) {
  std::string text;
  for (int i = 0; i < levels; ++i) text += R"({"a":)";
  text += "1";
  for (int i = 0; i < levels; ++i) text += '}';
  return text;
}

TEST_F(MongodbServer, KeepsEveryByte) {
  const std::string texts[] = {
      "{}",
      "{ \"a\" :\t1 ,\r\n \"b\" : [ ] }",
      R"({"a":1,"a":2,"a":3})",
      R"({"$set":1,"a.b":2,"":3,"$":{"$where":"x"},"_id":4,"__proto__":5})",
      R"({"$oid":"507f1f77bcf86cd799439011"})",
      R"({"created_at":1,"text":"x","doc":{}})",
      R"({"n":[0,-0,1,-1,1.5,1e5,1E+5,1e-5,0.1,123456789012345678901234567890,1e400,-1e-400]})",
      R"({"i":[9223372036854775807,-9223372036854775808,9223372036854775808,18446744073709551616]})",
      R"({"s":"\"\\\/\b\f\n\r\t\u0041\u00e9\ud83d\ude00"})",
      R"({"nul":"a\u0000b","\u0000":1})",
      R"({"nul":"a\u0000b"})",
      "{\"utf8\":\"\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80 \xef\xbf\xbf \x7f\"}",
      nested(64),
      R"({"a":")" + std::string(65536 - 8, 'x') + "\"}",
      R"({"a":[)" + std::string(32000 * 2, '1').replace(0, 0, "0,") + "]}",
  };
  std::vector<Change> changes;
  for (const std::string& text : texts) changes.push_back(insertion(text));
  apply(changes);
  for (const Change& change : changes) {
    SCOPED_TRACE(change.record.data.substr(0, 100));
    const auto found = find(change.record.id);
    ASSERT_TRUE(found);
    EXPECT_EQ(found->id, change.record.id);
    EXPECT_EQ(found->created_at, change.record.created_at);
    EXPECT_EQ(found->data, change.record.data);
  }
  EXPECT_EQ(count(), static_cast<int64_t>(std::size(texts)));
}

TEST_F(MongodbServer, ShowsADocumentToPeople) {
  std::vector<Change> changes{insertion(R"({"loadtest":"true","n":[1,2.5,null]})", 1'700'000'000'123)};
  apply(changes);
  const std::string id = changes[0].record.id.text();
  EXPECT_EQ(stored(id), R"({ "_id" : ")" + id +
                            R"(", "created_at" : { "$date" : "2023-11-14T22:13:20.123Z" }, )"
                            R"("text" : "{\"loadtest\":\"true\",\"n\":[1,2.5,null]}", )"
                            R"("doc" : { "loadtest" : "true", "n" : [ 1, 2.5, null ] } })");
}

// One record's `doc` that cannot be must not cost the others theirs.
TEST_F(MongodbServer, KeepsTheDocumentsOfOthers) {
  std::vector<Change> changes{insertion(R"({"a":1})"), insertion(R"({"k\u0000":1})"), insertion(R"({"$a":1})"),
                              insertion(R"({"b":1,"b":2})"), insertion(R"({"a":2})")};
  apply(changes);
  EXPECT_EQ(count(), 5);
  EXPECT_THAT(stored(changes[0].record.id.text()), HasSubstr(R"("doc" : { "a" : 1 })"));
  EXPECT_THAT(stored(changes[1].record.id.text()), Not(HasSubstr(R"("doc")")));
  EXPECT_THAT(stored(changes[4].record.id.text()), HasSubstr(R"("doc" : { "a" : 2 })"));
}

TEST_F(MongodbServer, FindsEachOfABatch) {
  std::vector<Change> changes{insertion(R"({"a":1})"), insertion(R"({"a":2})"), insertion(R"({"a":3})")};
  apply(changes);
  std::vector<Lookup> lookups;
  for (const size_t i : {2u, 0u, 2u}) lookups.push_back({.id = changes[i].record.id});
  lookups.push_back({.id = id_maker().next(1)});
  ASSERT_TRUE(session_->find(lookups));
  for (const auto& [at, data] : {std::pair{0, R"({"a":3})"}, {1, R"({"a":1})"}, {2, R"({"a":3})"}}) {
    ASSERT_TRUE(lookups[static_cast<size_t>(at)].record) << at;
    EXPECT_EQ(lookups[static_cast<size_t>(at)].record->data, data);
  }
  EXPECT_FALSE(lookups[3].record);
}

TEST_F(MongodbServer, RemovesWhatIsThereOnce) {
  std::vector<Change> changes;
  for (int i = 0; i < 5; ++i) changes.push_back(insertion("{}"));
  apply(changes);
  const auto id = [&](size_t i) { return changes[i].record.id; };

  std::vector<Change> removes{removal(id_maker().next(1)), removal(id(1)), removal(id(3)), removal(id(1))};
  removes.push_back(insertion(R"({"new":1})"));
  apply(removes);
  EXPECT_FALSE(removes[0].found);
  EXPECT_TRUE(removes[1].found);
  EXPECT_TRUE(removes[2].found);
  EXPECT_FALSE(removes[3].found);
  EXPECT_TRUE(find(removes[4].record.id));

  std::vector<Change> again{removal(id(1)), removal(id(3))};
  apply(again);
  EXPECT_FALSE(again[0].found);
  EXPECT_FALSE(again[1].found);
  std::vector<Change> one{removal(id(0))};
  apply(one);
  EXPECT_TRUE(one[0].found);
  for (const size_t i : {0u, 1u, 3u}) EXPECT_FALSE(find(id(i))) << i;
  for (const size_t i : {2u, 4u}) EXPECT_TRUE(find(id(i))) << i;
  EXPECT_EQ(count(), 3);
}

TEST_F(MongodbServer, PagesNewestFirst) {
  EXPECT_TRUE(page({}, 10).records.empty());
  std::vector<Change> changes;
  for (int i = 0; i < 25; ++i) changes.push_back(insertion("{\"i\":" + std::to_string(i) + "}"));
  apply(changes);
  std::ranges::reverse(changes);
  std::optional<RecordId> before;
  size_t seen = 0;
  for (const size_t expected : {10u, 10u, 5u}) {
    const Page got = page(before, 10);
    ASSERT_EQ(got.records.size(), expected);
    for (const Record& record : got.records) {
      EXPECT_EQ(record.id, changes[seen].record.id);
      EXPECT_EQ(record.data, changes[seen++].record.data);
    }
    EXPECT_EQ(got.more, seen < changes.size());
    before = got.records.back().id;
  }
  EXPECT_TRUE(page(before, 10).records.empty());
  EXPECT_FALSE(page({}, 25).more);
  EXPECT_TRUE(page({}, 24).more);
}

TEST_F(MongodbServer, EndsAPageThatIsLargeEnough) {
  const std::string data = R"({"a":")" + std::string(65000, 'x') + "\"}";
  const size_t full = kPageBytesMax / data.size() + 1;
  std::vector<Change> changes;
  for (size_t i = 0; i < 2 * full; ++i) changes.push_back(insertion(data));
  apply(changes);
  const Page first = page({}, 100);
  EXPECT_EQ(first.records.size(), full);
  EXPECT_TRUE(first.more);
  const Page rest = page(first.records.back().id, 100);
  EXPECT_EQ(first.records.size() + rest.records.size(), changes.size());
  EXPECT_FALSE(rest.more);
}

TEST_F(MongodbServer, TakesALargeBatch) {
  std::vector<Change> changes;
  for (int i = 0; i < 512; ++i) changes.push_back(insertion("{\"i\":" + std::to_string(i) + "}"));
  apply(changes);
  EXPECT_EQ(count(), 512);
  std::vector<Lookup> lookups;
  for (const Change& change : changes) lookups.push_back({.id = change.record.id});
  ASSERT_TRUE(session_->find(lookups));
  for (size_t i = 0; i < changes.size(); ++i) {
    ASSERT_TRUE(lookups[i].record);
    EXPECT_EQ(lookups[i].record->data, changes[i].record.data);
  }
  EXPECT_EQ(page({}, 512).records.size(), 512u);
  std::vector<Change> removes;
  for (const Change& change : changes) removes.push_back(removal(change.record.id));
  apply(removes);
  EXPECT_TRUE(std::ranges::all_of(removes, &Change::found));
  EXPECT_EQ(count(), 0);
}

TEST_F(MongodbServer, TakesAnIdOfOursThatIsThereForStored) {
  std::vector<Change> changes{insertion(R"({"a":1})"), insertion(R"({"a":2})")};
  apply(changes);
  changes.push_back(insertion(R"({"a":3})"));
  apply(changes);
  EXPECT_EQ(count(), 3);
  for (const Change& change : changes) EXPECT_EQ(find(change.record.id)->data, change.record.data);

  // The id of somebody else's record, whatever made it so.
  changes[0].record.data = "{}";
  EXPECT_FALSE(session_->apply(changes));
  EXPECT_EQ(find(changes[1].record.id)->data, R"({"a":2})");
}

TEST_F(MongodbServer, LeavesDocumentsOfOthersAlone) {
  std::vector<Change> changes;
  for (int i = 0; i < 3; ++i) changes.push_back(insertion("{}"));
  const std::vector<RecordId> theirs{id_maker().next(1), id_maker().next(1), id_maker().next(1)};
  apply(changes);
  insert(R"({"_id": {"$oid": "507f1f77bcf86cd799439011"}, "text": "{}",
             "created_at": {"$date": "2020-01-01T00:00:00Z"}})");
  insert(R"({"_id": {"$numberInt": "5"}, "text": "{}"})");
  for (const std::string id : {"0", "1", "2", "3", "a", "f", "g", "zzz"}) {
    insert(R"({"_id": ")" + id + R"(", "text": "{}", "created_at": {"$date": "2020-01-01T00:00:00Z"}})");
  }
  insert(R"({"_id": ")" + theirs[0].text() + R"(", "text": "{}"})");
  insert(R"({"_id": ")" + theirs[1].text() + R"(", "text": 1, "created_at": {"$date": "2020-01-01T00:00:00Z"}})");
  insert(R"({"_id": ")" + theirs[2].text() + R"(", "text": "{}", "created_at": "now"})");
  insert(R"({"_id": "01890A5D-AC96-774B-BCCE-B302099A8057", "text": "{}",
             "created_at": {"$date": "2020-01-01T00:00:00Z"}})");
  const int64_t all = count();

  std::vector<RecordId> paged;
  for (std::optional<RecordId> before; paged.size() < 10;) {
    const Page got = page(before, 1);
    for (const Record& record : got.records) paged.push_back(record.id);
    if (!got.more) break;
    before = paged.back();
  }
  EXPECT_THAT(paged, testing::ElementsAre(changes[2].record.id, changes[1].record.id, changes[0].record.id));

  for (const RecordId& id : theirs) {
    EXPECT_FALSE(find(id));
    std::vector<Change> remove{removal(id)};
    apply(remove);
    EXPECT_FALSE(remove[0].found);
  }
  EXPECT_EQ(count(), all);
}

TEST_F(MongodbServer, ServesTwoThreads) {
  auto opened = database_->open_session(id_maker());
  ASSERT_TRUE(opened);
  std::atomic<bool> is_over{false};
  std::atomic<int> failures{0};
  std::thread reader([&, session = std::move(*opened)] {
    while (!is_over) failures += !session->page({.before = std::nullopt, .count_max = 10}).has_value();
  });
  for (int i = 0; i < 50; ++i) {
    std::vector<Change> changes{insertion("{}"), insertion("{}")};
    apply(changes);
  }
  is_over = true;
  reader.join();
  EXPECT_EQ(failures, 0);
  EXPECT_EQ(count(), 100);
}

// A session that is given back may be had again, more often than there are connections.
TEST_F(MongodbServer, OpensSessionsOverAndOver) {
  for (int i = 0; i < 3 * kMongodbClientsMax; ++i) {
    auto opened = database_->open_session(id_maker());
    ASSERT_TRUE(opened) << opened.error().what;
    EXPECT_TRUE((*opened)->page({.before = std::nullopt, .count_max = 1}));
  }
}

class MongodbServerLogin : public MongodbServer {
 protected:
  void SetUp() override {
    MongodbServer::SetUp();
    if (HasFatalFailure()) return;
    auto parsed = make_mongodb_uri({.uri = uri_});
    ASSERT_TRUE(parsed);
    ASSERT_NE(mongoc_uri_get_username(parsed->get()), nullptr) << "this server lets everybody in";
    user_ = mongoc_uri_get_username(parsed->get());
    password_ = mongoc_uri_get_password(parsed->get());
    host_ = mongoc_uri_get_hosts(parsed->get())->host_and_port;
  }

  std::string user_, password_, host_;
};

TEST_F(MongodbServerLogin, TakesUserAndPasswordApart) {
  options_ = {.uri = "mongodb://" + host_ + "/" + name_, .user = user_, .password = password_};
  open();
  std::vector<Change> changes{insertion("{}")};
  apply(changes);
  EXPECT_TRUE(find(changes[0].record.id));
}

TEST_F(MongodbServerLogin, FailsWithAWrongPassword) {
  options_ = {.uri = "mongodb://" + host_, .user = user_, .password = password_ + "s3cr3t"};
  open();
  std::vector<Change> changes{insertion("{}")};
  const auto applied = session_->apply(changes);
  ASSERT_FALSE(applied);
  EXPECT_EQ(applied.error().what, "MongoDB: authentication failed");
}

TEST_F(MongodbServerLogin, FailsWithoutAUser) {
  options_ = {.uri = "mongodb://" + host_};
  open();
  const auto listed = session_->page({.before = std::nullopt, .count_max = 1});
  ASSERT_FALSE(listed);
  EXPECT_THAT(listed.error().what, HasSubstr("MongoDB: "));
}

}  // namespace
}  // namespace kiln::store
