#include "app/data_location.h"

#include <gtest/gtest.h>

#include <string>

namespace kiln::app {
namespace {

using Kind = DataLocation::Kind;

TEST(DataLocation, TakesEveryForm) {
  struct Row {
    const char* text;
    Kind kind;
    const char* where;
  };
  for (const Row& row : {
           Row{"memory:", Kind::Memory, ""},
           Row{"sqlite:records.db", Kind::Sqlite, "records.db"},
           Row{"sqlite:/var/lib/kiln/a b.db", Kind::Sqlite, "/var/lib/kiln/a b.db"},
           Row{"mongodb://user:password@mongodb-service", Kind::Mongodb, "mongodb://user:password@mongodb-service"},
           Row{"mongodb+srv://cluster.example", Kind::Mongodb, "mongodb+srv://cluster.example"},
       }) {
    const auto location = parse_data_uri(row.text);
    ASSERT_TRUE(location) << row.text;
    EXPECT_EQ(location->kind, row.kind);
    EXPECT_EQ(location->where, row.where);
  }
}

TEST(DataLocation, RefusesOthersWithoutQuotingThem) {
  for (const char* text : {"", "sqlite:", "mongodb://", "mongodb:/u:secret@h", "mongo://u:secret@h", "memory:x",
                           "postgres://u:secret@h", "secret", "Sqlite:secret", "file:secret"}) {
    const auto location = parse_data_uri(text);
    ASSERT_FALSE(location) << text;
    EXPECT_EQ(location.error().what.find("secret"), std::string::npos) << text;
    EXPECT_EQ(shown_data_uri(text).find("secret"), std::string::npos) << text;
  }
}

TEST(DataLocation, ShowsNothingSecret) {
  struct Row {
    const char* text;
    const char* shown;
  };
  for (const Row& row : {
           Row{"memory:", "memory:"},
           Row{"sqlite:records.db", "sqlite:records.db"},
           Row{"mongodb://mongodb-service", "mongodb://mongodb-service"},
           Row{"mongodb://u:secret@a:27017,b:27018/db?replicaSet=r", "mongodb://a:27017,b:27018"},
           Row{"mongodb+srv://u:secret@cluster.example/?w=1", "mongodb+srv://cluster.example"},
           // Wrong, since these must be escaped, and common.
           Row{"mongodb://u:sec@ret@host/db", "mongodb://host"},
           Row{"mongodb://u:sec/ret@host/db", "mongodb://(hidden)"},
           Row{"mongodb://u:sec?ret@host", "mongodb://(hidden)"},
           Row{"mongodb://u:secret/mongodb-service", "mongodb://(hidden)"},
           Row{"mongodb://a,u:secret", "mongodb://(hidden)"},
           Row{"mongodb://u:x@[::1]:27017,[fe80::1]/db", "mongodb://[::1]:27017,[fe80::1]"},
           Row{"mongodb://host/?authMechanismProperties=A:secret@b", "mongodb://(hidden)"},
           Row{"mongodb://host/?tlsCertificateKeyFilePassword=secret", "mongodb://host"},
       }) {
    EXPECT_EQ(shown_data_uri(row.text), row.shown);
  }
}

TEST(DataLocation, FollowsTheSettings) {
  ServeSettings settings;
  settings.data_dir = "/var/lib/kiln";
  EXPECT_EQ(data_location(settings)->where, "/var/lib/kiln/kiln.db");
  settings.data_dir = "here/";
  EXPECT_EQ(data_location(settings)->where, "here/kiln.db");
  settings.mongo_host = "mongodb-service:27017";
  EXPECT_EQ(data_location(settings)->where, "mongodb://mongodb-service:27017");
  settings.data_uri = "sqlite:x.db";
  EXPECT_EQ(data_location(settings)->where, "x.db") << "the URI decides";
}

}  // namespace
}  // namespace kiln::app
