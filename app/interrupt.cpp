#include "app/interrupt.h"

#include <atomic>
#include <csignal>

namespace kiln::app {

namespace {

constexpr int kSignals[] = {SIGINT, SIGTERM, SIGHUP};

std::atomic<int> signal_seen{0};
static_assert(std::atomic<int>::is_always_lock_free, "a signal handler writes it");

}  // namespace

void notice_interrupts() {
  struct sigaction once {};
  once.sa_handler = [](int number) {
    signal_seen = number;
    for (const int each : kSignals) ::signal(each, SIG_DFL);
  };
  for (const int each : kSignals) ::sigaction(each, &once, nullptr);
}

int interrupted_by() { return signal_seen; }

}  // namespace kiln::app
