// The door into libkiln_mongodb.so. Both sides are of one build: what passes through are C++ types.
#pragma once

#include <memory>

#include "base/result.h"
#include "store/database.h"
#include "store/mongodb.h"

namespace kiln::store {

using OpenMongodb = void(const MongodbOptions& options, base::Result<std::unique_ptr<Database>>& opened);

inline constexpr const char* kMongodbDriver = "libkiln_mongodb.so";
inline constexpr const char* kOpenMongodb = "kiln_open_mongodb";

}  // namespace kiln::store

extern "C" kiln::store::OpenMongodb kiln_open_mongodb;
