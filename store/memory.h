// Records in memory, for a while: past the bound the oldest go, and with the process all of them.
#pragma once

#include <cstddef>
#include <memory>

#include "store/database.h"

namespace kiln::store {

struct MemoryOptions {
  size_t bytes_max = 16 * 1024 * 1024;  // of data, and kRecordBytes each
};

// What a record is counted for beside its data.
inline constexpr size_t kRecordBytes = 256;

[[nodiscard]] std::unique_ptr<Database> open_memory(const MemoryOptions& options);

}  // namespace kiln::store
