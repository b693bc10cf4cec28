#include "core/holders.h"

#include <utility>

namespace kiln::core {

void Holders::change(Link& link, size_t bytes) {
  const bool held = link.bytes > 0;
  bytes_ += bytes - link.bytes;
  link.bytes = bytes;
  if (!held) {
    link.older = std::exchange(youngest_, &link);
    (link.older != nullptr ? link.older->younger : oldest_) = &link;
  } else if (bytes == 0) {
    (link.older != nullptr ? link.older->younger : oldest_) = link.younger;
    (link.younger != nullptr ? link.younger->older : youngest_) = link.older;
    link.older = link.younger = nullptr;
  }
}

}  // namespace kiln::core
