#include "store/mongodb.h"

#include <dlfcn.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "store/mongodb_driver.h"

namespace kiln::store {

namespace {

namespace fs = std::filesystem;

base::Result<OpenMongodb*> load_driver() {
  std::error_code unreadable;
  const fs::path program = fs::read_symlink("/proc/self/exe", unreadable);
  if (unreadable) return base::system_error("MongoDB: /proc/self/exe", unreadable.value());
  const fs::path beside = program.parent_path() / kMongodbDriver;
  const fs::path installed = (program.parent_path() / "../lib/kiln" / kMongodbDriver).lexically_normal();
  const bool is_beside = ::access(beside.c_str(), F_OK) == 0;
  if (!is_beside && ::access(installed.c_str(), F_OK) != 0) {
    return base::error("MongoDB: its driver is missing, neither " + beside.string() + " nor " + installed.string() +
                       " is there");
  }
  // Or libmongoc, while it is loaded, makes a file of counters in /dev/shm, which a process that is killed leaves
  // behind, and complains on standard error when there is one.
  ::setenv("MONGOC_DISABLE_SHM", "1", 0);
  // Never closed: the driver has threads.
  void* const driver = ::dlopen((is_beside ? beside : installed).c_str(), RTLD_NOW | RTLD_LOCAL);
  if (driver == nullptr) return base::error(std::string("MongoDB: its driver cannot be loaded: ") + ::dlerror());
  auto* const open = reinterpret_cast<OpenMongodb*>(::dlsym(driver, kOpenMongodb));
  if (open == nullptr) return base::error(std::string("MongoDB: its driver is another: ") + ::dlerror());
  return open;
}

}  // namespace

base::Result<std::unique_ptr<Database>> open_mongodb(const MongodbOptions& options) {
  const auto open = load_driver();
  if (!open) return std::unexpected(open.error());
  base::Result<std::unique_ptr<Database>> opened;
  (*open)(options, opened);
  return opened;
}

}  // namespace kiln::store
