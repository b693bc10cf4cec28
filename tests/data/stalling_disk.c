// A disk that hangs on demand: preloaded into the server, it holds up every fsync(2) and fdatasync(2) while the file
// that STALLING_DISK names exists. What had to be written is written before that, as on a disk that is merely slow.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static void stall(void) {
  const char *sign = getenv("STALLING_DISK");
  const struct timespec moment = {.tv_nsec = 1000000};
  while (sign != NULL && access(sign, F_OK) == 0) nanosleep(&moment, NULL);
}

static int forward(const char *name, int fd) {
  int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
  const int result = real(fd);
  stall();
  return result;
}

int fsync(int fd) { return forward("fsync", fd); }
int fdatasync(int fd) { return forward("fdatasync", fd); }
