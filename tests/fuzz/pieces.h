// How a fuzz target cuts its input: at places that the input itself chooses, since they come from its hash. So a corpus
// file stays plain text, and one that failed fails again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "base/check.h"

namespace kiln::fuzz {

inline std::string_view text_of(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

// FNV-1a, then xorshift64: http://www.isthe.com/chongo/tech/comp/fnv/ and Marsaglia 2003.
class Chooser {
 public:
  explicit Chooser(std::string_view input) {
    for (const char byte : input) state_ = (state_ ^ static_cast<unsigned char>(byte)) * 0x100000001b3;
    if (state_ == 0) state_ = 1;
  }

  // A number from 0 to `max`.
  size_t up_to(size_t max) {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return state_ % (max + 1);
  }

 private:
  uint64_t state_ = 0xcbf29ce484222325;
};

// A copy of exactly its size, so that AddressSanitizer sees every byte read too many.
class ExactCopy {
 public:
  explicit ExactCopy(std::string_view text) : bytes_(new char[text.size()]), size_(text.size()) {
    text.copy(bytes_.get(), text.size());
  }
  [[nodiscard]] std::string_view view() const { return {bytes_.get(), size_}; }

 private:
  std::unique_ptr<char[]> bytes_;
  size_t size_;
};

}  // namespace kiln::fuzz
