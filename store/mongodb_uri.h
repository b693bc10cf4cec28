// From what the user gave to what libmongoc is given: the connection string with our defaults in it, and errors that
// hold nothing secret. libmongoc's own quote user and password.
#pragma once

#include <mongoc/mongoc.h>

#include <memory>
#include <string>

#include "base/result.h"
#include "store/mongodb.h"

namespace kiln::store {

struct MongodbUriDestroy {
  void operator()(mongoc_uri_t* uri) const { mongoc_uri_destroy(uri); }
};
using MongodbUri = std::unique_ptr<mongoc_uri_t, MongodbUriDestroy>;

inline constexpr const char* kMongodbDatabase = "kiln";  // when the URI names none
inline constexpr const char* kMongodbCollection = "records";

// Clients of libmongoc's pool; the store has two sessions, and opens no other before it has given one back.
inline constexpr int kMongodbClientsMax = 4;

// Where the URI does not say otherwise everything has a time limit, writes are confirmed by a majority, and are tried
// again after a lost connection. Whatever it says, they are confirmed, by the journals too. EINVAL when it cannot be.
// The first call initialises libmongoc.
[[nodiscard]] base::Result<MongodbUri> make_mongodb_uri(const MongodbOptions& options);

// What an operation's failure is called towards clients.
[[nodiscard]] base::Error mongodb_error(const bson_error_t& error, const mongoc_uri_t& uri);

}  // namespace kiln::store
