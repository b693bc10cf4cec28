#include "burn/background.h"

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <system_error>
#include <utility>

namespace kiln::burn {

std::thread start_background(const char* name, std::move_only_function<void()> work) {
  // A thread starts with its creator's signal mask (pthread_sigmask(3)): with all blocked, a signal to the process
  // never lands here, not even before the thread's first line.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread thread;
  try {
    thread = std::thread([name, work = std::move(work)]() mutable {
      pthread_setname_np(pthread_self(), name);
      // Linux keeps the nice value by thread (setpriority(2), "C library/kernel differences"), and everybody may raise
      // it. Should a sandbox refuse, the thread is less polite but does the same.
      static_cast<void>(setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), 19));
      work();
    });
  } catch (const std::system_error&) {
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return thread;
}

}  // namespace kiln::burn
