// How other threads speak to a loop: closures in, run later on the loop's thread, in order. The eventfd tells it.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

namespace kiln::core {

class Mailbox {
 public:
  using Letter = std::move_only_function<void()>;

  [[nodiscard]] static base::Result<std::unique_ptr<Mailbox>> open();

  // Any thread.
  void post(Letter letter);

  // The loop's thread: empties the eventfd and hands out what was posted.
  [[nodiscard]] std::vector<Letter> take();

  [[nodiscard]] int eventfd() const { return eventfd_.get(); }

 private:
  explicit Mailbox(base::Fd eventfd) : eventfd_(std::move(eventfd)) {}

  base::Fd eventfd_;
  std::mutex mutex_;
  std::vector<Letter> letters_;
};

}  // namespace kiln::core
