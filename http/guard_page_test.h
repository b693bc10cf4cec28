// For tests: bytes that end where an unmapped page begins, so that reading one too many stops the test.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>
#include <string_view>

#include "base/check.h"

namespace kiln::http {

class GuardedBytes {
 public:
  explicit GuardedBytes(size_t bytes_max) {
    const auto page_bytes = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    usable_bytes_ = (bytes_max / page_bytes + 1) * page_bytes;
    mapped_bytes_ = usable_bytes_ + page_bytes;
    void* const mapped = mmap(nullptr, mapped_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(mapped != MAP_FAILED);
    pages_ = static_cast<char*>(mapped);
    CHECK(mprotect(pages_ + usable_bytes_, page_bytes, PROT_NONE) == 0);
  }
  ~GuardedBytes() { munmap(pages_, mapped_bytes_); }
  GuardedBytes(const GuardedBytes&) = delete;
  GuardedBytes& operator=(const GuardedBytes&) = delete;

  // A copy of `text` against the guard; the one before is gone.
  std::string_view place(std::string_view text) {
    CHECK(text.size() <= usable_bytes_);
    char* const begin = pages_ + usable_bytes_ - text.size();
    if (!text.empty()) std::memcpy(begin, text.data(), text.size());
    return {begin, text.size()};
  }

 private:
  char* pages_ = nullptr;
  size_t usable_bytes_ = 0;
  size_t mapped_bytes_ = 0;
};

}  // namespace kiln::http
