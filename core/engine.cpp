#include "core/engine.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/utsname.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <string>
#include <utility>

#include "base/fd.h"

namespace kiln::core {

std::string_view engine_name(EngineKind kind) { return kind == EngineKind::IoUring ? "io_uring" : "epoll"; }

namespace {

class Recorder final : public CompletionSink {
 public:
  void woke() override {}
  void complete(const Completion& completion) override {
    ++completions;
    result = completion.result;
    more = completion.more;
    bytes.assign(completion.data.begin(), completion.data.end());
  }

  // Waits for one completion; false when none came within a second.
  bool await(Engine& engine) {
    const int before = completions;
    const TimePoint end = engine.now() + std::chrono::seconds(1);
    while (completions == before && engine.now() < end) engine.wait(std::chrono::milliseconds(100), *this);
    return completions > before;
  }

  int completions = 0;
  int result = 0;
  bool more = false;
  std::string bytes;
};

std::string first_line(const char* path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// Mode 2 of /proc/self/status's "Seccomp:" (proc(5)): a filter is in force.
bool seccomp_filtered() {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("Seccomp:")) return line.find('2') != std::string::npos;
  }
  return false;
}

std::string kernel_release() {
  utsname name{};
  return ::uname(&name) == 0 ? name.release : "unknown";
}

}  // namespace

int Engine::accept_now(int listener) {
  ::fcntl(listener, F_SETFL, ::fcntl(listener, F_GETFL) | O_NONBLOCK);
  const int fd = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
  return fd < 0 ? -errno : fd;
}

int Engine::new_socket(int family) {
  const int fd = ::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return fd;
}

void set_reset_at_close(int fd) {
  const linger at_once{.l_onoff = 1, .l_linger = 0};
  ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
}

base::Result<void> self_test(Engine& engine) {
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) return base::system_error("socketpair", errno);
  base::Fd ours(pair[0]);
  base::Fd peer(pair[1]);
  Recorder seen;
  const Token token{Operation::Receive, 1, 0};
  const auto failed = [&](std::string what) {
    engine.shutdown(ours.get(), SHUT_RDWR);
    return base::error("self-test: " + std::move(what));
  };

  engine.receive(ours.get(), token, Repeat::Stream);
  engine.wait(Duration::zero(), seen);
  if (seen.completions != 0) return failed("a receive completed before any byte was sent");
  constexpr std::string_view kProof = "kiln";
  if (::send(peer.get(), kProof.data(), kProof.size(), MSG_NOSIGNAL) < 0) return base::system_error("send", errno);
  if (!seen.await(engine)) return failed("a receive did not complete within a second");
  if (seen.result < 0) return failed("receive: " + std::system_category().message(-seen.result));
  if (seen.bytes != kProof) return failed("wrong bytes were received");
  if (!seen.more) return failed("a stream of receives ended after its first");
  peer.reset();
  if (!seen.await(engine) || seen.result != 0 || seen.more) return failed("the end of a stream was not seen");
  engine.close(ours.release());
  return {};
}

base::Result<OpenedEngine> open_engine(EngineRequest request, const EngineOptions& options) {
  std::string reason = "requested";
  if (request != EngineRequest::Epoll) {
    auto engine = open_io_uring(options);
    base::Result<void> proven;
    if (engine) proven = self_test(**engine);
    if (engine && proven) {
      if (request == EngineRequest::Auto) reason = "self-test passed";
      return OpenedEngine{std::move(*engine), std::move(reason)};
    }
    const base::Error& why = engine ? proven.error() : engine.error();
    reason = why.code == 0 ? why.what : why.what + ": " + explain_io_uring_error(why.code);
    // A real shortage of descriptors would only hit again later, and harder.
    const bool shortage = why.code == EMFILE || why.code == ENFILE;
    if (request == EngineRequest::IoUring || shortage) return base::error("io_uring cannot be used: " + reason);
  }
  auto engine = open_epoll();
  if (!engine) return std::unexpected(std::move(engine.error()));
  return OpenedEngine{std::move(*engine), std::move(reason)};
}

std::string explain_io_uring_error(int error) {
  const std::string disabled = first_line("/proc/sys/kernel/io_uring_disabled");
  switch (error) {
    case EPERM:
    case EACCES:
      if (!disabled.empty() && disabled != "0") {
        return "disabled on this node by sysctl kernel.io_uring_disabled=" + disabled +
               "; only the node's administrator can change it";
      }
      if (seccomp_filtered()) {
        return "blocked by the container's seccomp profile; allow io_uring_setup, io_uring_enter and io_uring_register "
               "in it";
      }
      return "not permitted here, by neither a seccomp filter nor kernel.io_uring_disabled; ask for a security "
             "module's "
             "denial in the kernel log";
    case ENOSYS:
      if (seccomp_filtered()) {
        return "blocked by the container's seccomp profile, which answers ENOSYS; allow io_uring_setup, io_uring_enter "
               "and io_uring_register in it";
      }
      return "this kernel (" + kernel_release() + ") or sandbox has no io_uring";
    case ENOMEM: {
      rlimit limit{};
      ::getrlimit(RLIMIT_MEMLOCK, &limit);
      const std::string size =
          limit.rlim_cur == RLIM_INFINITY ? "unlimited" : std::to_string(limit.rlim_cur / 1024) + " KiB";
      return "no memory for the ring: RLIMIT_MEMLOCK is " + size +
             ", shared by all processes of this user on the node; raise it or the memory limit";
    }
    case EINVAL: return "kernel " + kernel_release() + " lacks what is needed; Linux 6.1 or later has it";
    default: return "kernel " + kernel_release();
  }
}

}  // namespace kiln::core
