// Who holds memory, and how much together, in the order in which they began to. A holder that gives everything back
// and takes again stands at the end, so a client whose answer is out after a moment is never long at the front.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kiln::core {

class Holders {
 public:
  // A holder's own part: it stays where it is while it holds anything.
  struct Link {
    size_t bytes = 0;
    Link* older = nullptr;
    Link* younger = nullptr;
    uint32_t slot = 0;  // its owner's name for it
  };

  void set(Link& link, size_t bytes) {
    if (bytes == link.bytes) return;
    change(link, bytes);
  }

  [[nodiscard]] size_t bytes() const { return bytes_; }
  [[nodiscard]] const Link* oldest() const { return oldest_; }  // nothing: nobody holds anything

 private:
  void change(Link& link, size_t bytes);

  size_t bytes_ = 0;
  Link* oldest_ = nullptr;
  Link* youngest_ = nullptr;
};

}  // namespace kiln::core
