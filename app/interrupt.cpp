#include "app/interrupt.h"

#include <atomic>
#include <csignal>

namespace kiln::app {

namespace {

std::atomic<int> signal_seen{0};
static_assert(std::atomic<int>::is_always_lock_free, "a signal handler writes it");

}  // namespace

void notice_interrupts() {
  struct sigaction once {};
  once.sa_handler = [](int number) {
    signal_seen = number;
    ::signal(SIGINT, SIG_DFL);
    ::signal(SIGTERM, SIG_DFL);
  };
  ::sigaction(SIGINT, &once, nullptr);
  ::sigaction(SIGTERM, &once, nullptr);
}

int interrupted_by() { return signal_seen; }

}  // namespace kiln::app
