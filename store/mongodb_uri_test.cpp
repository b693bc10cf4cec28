#include "store/mongodb_uri.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <cstdint>
#include <string>
#include <string_view>

namespace kiln::store {
namespace {

using testing::HasSubstr;
using testing::Not;

std::string text(const char* value) { return value == nullptr ? "(none)" : value; }

TEST(MongodbUri, FillsInWhatIsMissing) {
  struct Row {
    MongodbOptions options;
    std::string user = "(none)";
    std::string password = "(none)";
    std::string source = "admin";
    std::string database = "kiln";
  };
  const Row rows[] = {
      {.options = {.uri = "mongodb://mongodb-service"}},
      {.options = {.uri = "mongodb://mongodb-service/"}},
      {.options = {.uri = "mongodb://user:password@mongodb-service"}, .user = "user", .password = "password"},
      {.options = {.uri = "mongodb://user:p%40s%2Fs@a:1,b,[::1]:3/other?replicaSet=rs"},
       .user = "user",
       .password = "p@s/s",
       .database = "other"},
      {.options = {.uri = "mongodb://user:password@a/other?authSource=here"},
       .user = "user",
       .password = "password",
       .source = "here",
       .database = "other"},
      {.options = {.uri = "mongodb+srv://user:password@cluster.example.com/?AUTHSOURCE=here"},
       .user = "user",
       .password = "password",
       .source = "here"},
      {.options = {.uri = "mongodb://a/other", .user = "us/er", .password = "p@:%/ss"},
       .user = "us/er",
       .password = "p@:%/ss",
       .database = "other"},
      {.options = {.uri = "mongodb://user:password@a", .user = "not", .password = "these"},
       .user = "user",
       .password = "password"},
      {.options = {.uri = "mongodb://user@a", .password = "password"}, .user = "user", .password = "password"},
      {.options = {.uri = "mongodb://name@a/?authMechanism=MONGODB-X509&tls=true", .password = "password"},
       .user = "name",
       .source = "$external"},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.options.uri);
    const auto uri = make_mongodb_uri(row.options);
    ASSERT_TRUE(uri) << uri.error().what;
    EXPECT_EQ(text(mongoc_uri_get_username(uri->get())), row.user);
    EXPECT_EQ(text(mongoc_uri_get_password(uri->get())), row.password);
    EXPECT_EQ(text(mongoc_uri_get_database(uri->get())), row.database);
    if (row.user != "(none)") {
      EXPECT_EQ(text(mongoc_uri_get_auth_source(uri->get())), row.source);
    }
  }
}

TEST(MongodbUri, LimitsTimeUnlessItSaysOtherwise) {
  const auto number = [](const MongodbUri& uri, const char* option) {
    return mongoc_uri_get_option_as_int32(uri.get(), option, -1);
  };
  const auto uri = make_mongodb_uri({.uri = "mongodb://a"});
  ASSERT_TRUE(uri);
  EXPECT_EQ(number(*uri, MONGOC_URI_SERVERSELECTIONTIMEOUTMS), 2000);
  EXPECT_EQ(number(*uri, MONGOC_URI_CONNECTTIMEOUTMS), 2000);
  EXPECT_EQ(number(*uri, MONGOC_URI_SOCKETTIMEOUTMS), 5000);
  EXPECT_EQ(number(*uri, MONGOC_URI_MAXPOOLSIZE), kMongodbClientsMax);
  EXPECT_EQ(text(mongoc_uri_get_appname(uri->get())), "kiln");
  EXPECT_TRUE(mongoc_uri_get_option_as_bool(uri->get(), MONGOC_URI_RETRYWRITES, false));

  const auto other = make_mongodb_uri(
      {.uri = "mongodb://a/?connectTimeoutMS=1&socketTimeoutMS=2&serverSelectionTimeoutMS=3&retryWrites=false"
              "&appName=other&maxPoolSize=1"});
  ASSERT_TRUE(other);
  EXPECT_EQ(number(*other, MONGOC_URI_CONNECTTIMEOUTMS), 1);
  EXPECT_EQ(number(*other, MONGOC_URI_SOCKETTIMEOUTMS), 2);
  EXPECT_EQ(number(*other, MONGOC_URI_SERVERSELECTIONTIMEOUTMS), 3);
  EXPECT_EQ(number(*other, MONGOC_URI_MAXPOOLSIZE), kMongodbClientsMax);
  EXPECT_EQ(text(mongoc_uri_get_appname(other->get())), "other");
  EXPECT_FALSE(mongoc_uri_get_option_as_bool(other->get(), MONGOC_URI_RETRYWRITES, true));
}

TEST(MongodbUri, AlwaysAsksForConfirmation) {
  struct Row {
    std::string query;
    int32_t w;
    int64_t milliseconds = 4000;
  };
  const Row rows[] = {
      {"", MONGOC_WRITE_CONCERN_W_MAJORITY},
      {"?w=majority", MONGOC_WRITE_CONCERN_W_MAJORITY},
      {"?w=1", 1},
      {"?w=2&wTimeoutMS=7&journal=false", 2, 7},
      {"?w=one_each", MONGOC_WRITE_CONCERN_W_TAG},
      {"?journal=false", MONGOC_WRITE_CONCERN_W_MAJORITY},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.query);
    const auto uri = make_mongodb_uri({.uri = "mongodb://a/" + row.query});
    ASSERT_TRUE(uri);
    const mongoc_write_concern_t* const concern = mongoc_uri_get_write_concern(uri->get());
    EXPECT_EQ(mongoc_write_concern_get_w(concern), row.w);
    EXPECT_TRUE(mongoc_write_concern_get_journal(concern));
    EXPECT_EQ(mongoc_write_concern_get_wtimeout_int64(concern), row.milliseconds);
  }
}

TEST(MongodbUri, RefusesWithoutASecret) {
  struct Row {
    MongodbOptions options;
    std::string_view why;
  };
  const Row rows[] = {
      {{.uri = ""}, "mongodb://"},
      {{.uri = "hush:secret@a"}, "mongodb://"},
      {{.uri = "postgres://hush:secret@a"}, "mongodb://"},
      {{.uri = "mongodb://"}, ""},
      {{.uri = "mongodb://hush:sec%ret@a"}, "percent-encoded"},
      {{.uri = "mongodb://hush:sec@ret@a"}, "percent-encoded"},
      {{.uri = "mongodb://hush:12/secret@a"}, "percent-encoded"},
      {{.uri = "mongodb://hush:12?secret@a"}, "percent-encoded"},
      {{.uri = "mongodb://hush:se:cret@a"}, "percent-encoded"},
      {{.uri = "mongodb://hush:secret%ff@a"}, ""},
      {{.uri = "mongodb://hush:secret@a:99999"}, "host"},
      {{.uri = "mongodb://hush:secret@a?w=1"}, ""},
      {{.uri = "mongodb://hush:secret@a/?w=0"}, "w=0"},
      {{.uri = "mongodb://hush:secret@a/?w=0&journal=false"}, "w=0"},
      {{.uri = "mongodb://hush:secret@a/?w=0&journal=true"}, ""},
      {{.uri = "mongodb://hush:secret@a/?appName=" + std::string(200, 'h') + "&w=-1"}, ""},
      {{.uri = "mongodb://hush:secret@a/?tls=true&tlsInsecure=true&tlsAllowInvalidCertificates=true"}, ""},
      {{.uri = "mongodb+srv://hush:secret@a:1"}, ""},
      {{.uri = "mongodb+srv://hush:secret@one.example.com,two.example.com"}, ""},
      {{.uri = "mongodb://a", .password = "secret"}, "user"},
      {{.uri = "mongodb://a", .user = "hush\xff", .password = "secret"}, "UTF-8"},
      {{.uri = "mongodb://a", .user = "hush", .password = "secret\xff"}, "UTF-8"},
      {{.uri = std::string("mongodb://a\0b", 13)}, "NUL"},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.options.uri);
    const auto uri = make_mongodb_uri(row.options);
    if (uri) {
      ADD_FAILURE() << "taken";
      continue;
    }
    EXPECT_EQ(uri.error().code, EINVAL);
    EXPECT_THAT(uri.error().what, HasSubstr(row.why));
    for (const std::string_view secret : {"secret", "hush", "HUSH", "sec", "cret"}) {
      EXPECT_THAT(uri.error().what, Not(HasSubstr(secret)));
    }
  }
}

TEST(MongodbError, EndsBetweenCharacters) {
  const auto uri = make_mongodb_uri({.uri = "mongodb://a"});
  ASSERT_TRUE(uri);
  for (size_t blanks = 0; blanks < 4; ++blanks) {
    bson_error_t error{};
    std::string message(blanks, ' ');
    while (message.size() < 400) message += "\xf0\x9f\x98\x80";
    bson_set_error(&error, MONGOC_ERROR_SERVER, 1, "%s", message.c_str());
    const std::string what = mongodb_error(error, **uri).what;
    EXPECT_LT(what.size(), 310u);
    EXPECT_GT(what.size(), 300u);
    EXPECT_TRUE(bson_utf8_validate(what.data(), what.size(), false)) << what;
  }
  bson_error_t error{};
  bson_set_error(&error, MONGOC_ERROR_SERVER, 1, "%s", "a\xff\x7f\xc3");
  EXPECT_EQ(mongodb_error(error, **uri).what, "MongoDB: a? ?");
}

TEST(MongodbError, IsShortAndHoldsNoSecret) {
  struct Row {
    uint32_t domain;
    uint32_t code;
    std::string_view message;
    std::string_view what;
  };
  const Row rows[] = {
      {MONGOC_ERROR_SERVER_SELECTION, MONGOC_ERROR_SERVER_SELECTION_FAILURE,
       "No suitable servers found: `serverSelectionTimeoutMS` expired: [connection refused calling hello on 'a:27017'] "
       "[connection timeout calling hello on 'b:2']",
       "MongoDB: no suitable server (connection refused at a:27017; connection timeout at b:2)"},
      {MONGOC_ERROR_SERVER_SELECTION, MONGOC_ERROR_SERVER_SELECTION_FAILURE, "nothing\nthere",
       "MongoDB: no suitable server (nothing there at a:27017)"},
      {MONGOC_ERROR_SERVER_SELECTION, MONGOC_ERROR_SERVER_SELECTION_FAILURE,
       "No suitable servers found: `serverSelectionTimeoutMS` expired",
       "MongoDB: no suitable server (none in time at a:27017)"},
      {MONGOC_ERROR_STREAM, MONGOC_ERROR_STREAM_SOCKET, "Failed to send \"insert\" command with database \"other\"",
       "MongoDB: the connection was lost, or nothing came in time (a:27017)"},
      {MONGOC_ERROR_CLIENT, MONGOC_ERROR_CLIENT_AUTHENTICATE, "Could not find user \"hush\" for db \"admin\"",
       "MongoDB: authentication failed"},
      {MONGOC_ERROR_SERVER, 18, "Authentication failed for hush", "MongoDB: authentication failed"},
      {MONGOC_ERROR_SERVER, 13, "not authorized on other to execute command { insert: \"records\" }",
       "MongoDB: the user may not read and write the collection records"},
      {MONGOC_ERROR_SERVER, 42, "it is hush who did it", "MongoDB: error 42"},
      {MONGOC_ERROR_SERVER, 43, "is it s3cr3t/ ?", "MongoDB: error 43"},
      {MONGOC_ERROR_SERVER, 44, "disk full", "MongoDB: disk full"},
  };
  const auto uri = make_mongodb_uri({.uri = "mongodb://hush:s3cr3t%2F@a"});
  ASSERT_TRUE(uri);
  for (const Row& row : rows) {
    bson_error_t error{};
    bson_set_error(&error, row.domain, row.code, "%s", std::string(row.message).c_str());
    const base::Error told = mongodb_error(error, **uri);
    EXPECT_EQ(told.what, row.what);
    EXPECT_EQ(told.code, 0);
  }
}

}  // namespace
}  // namespace kiln::store
