// Records in a MongoDB that all replicas share: collection `records` of the database that the URI names, `kiln` when it
// names none.
//
//   {_id: "<the id as text>", created_at: <date>, text: "<the client's bytes>", doc: {...}}
//
// `doc` is for people who look into the database (store/mongodb_document.h); it is missing where it cannot be had, and
// never read here. Any other document in the collection is left alone and never shown.
//
// The driver and all that it brings are in a shared object of their own, libkiln_mongodb.so, so that a server that
// keeps its records elsewhere does not carry them.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "store/database.h"

namespace kiln::store {

struct MongodbOptions {
  std::string uri;
  // Where the URI names no user, or no password. Empty: none.
  std::string user = {};
  std::string password = {};
};

// Loads the driver: from the directory of the running program, else from ../lib/kiln beside that. Nothing is connected
// yet. Error::code EINVAL: the connection string is wrong; no error says more of what is in it than its hosts.
//
// Sets an environment variable, so no other thread may read any meanwhile. The threads of the driver inherit the signal
// mask of the thread that first opens a session.
[[nodiscard]] base::Result<std::unique_ptr<Database>> open_mongodb(const MongodbOptions& options);

}  // namespace kiln::store
