#include "core/mailbox.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>

namespace kiln::core {

base::Result<std::unique_ptr<Mailbox>> Mailbox::open() {
  base::Fd eventfd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!eventfd.valid()) return base::system_error("eventfd", errno);
  return std::unique_ptr<Mailbox>(new Mailbox(std::move(eventfd)));
}

void Mailbox::post(Letter letter) {
  bool was_empty;
  {
    const std::lock_guard lock(mutex_);
    was_empty = letters_.empty();
    letters_.push_back(std::move(letter));
  }
  // One wake-up for a whole batch: whoever finds letters waiting knows that the eventfd is set already.
  if (was_empty) ::eventfd_write(eventfd_.get(), 1);
}

std::vector<Mailbox::Letter> Mailbox::take() {
  // First the eventfd, then the letters: one posted in between rings again, which is harmless; the other way round it
  // would be lost.
  eventfd_t ignored;
  ::eventfd_read(eventfd_.get(), &ignored);
  std::vector<Letter> taken;
  const std::lock_guard lock(mutex_);
  taken.swap(letters_);
  return taken;
}

}  // namespace kiln::core
