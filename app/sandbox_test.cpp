#include "app/sandbox.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <fstream>
#include <functional>
#include <future>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

#include "base/fd.h"
#include "core/engine.h"
#include "core/listener.h"

namespace kiln::app {
namespace {

// Runs `body` in a process of its own, since a filter stays for good. What it finds wrong comes back as text; no text
// is no fault.
std::string in_child(const std::function<std::string()>& body) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return "pipe2";
  base::Fd read_end(ends[0]);
  base::Fd write_end(ends[1]);
  const pid_t child = ::fork();
  if (child < 0) return "fork";
  if (child == 0) {
    const std::string wrong = body();
    const bool told = ::write(write_end.get(), wrong.data(), wrong.size()) == static_cast<ssize_t>(wrong.size());
    ::_exit(told ? 0 : 1);
  }
  write_end.reset();
  std::string wrong;
  std::array<char, 512> piece{};
  for (ssize_t got = 0; (got = ::read(read_end.get(), piece.data(), piece.size())) > 0;) {
    wrong.append(piece.data(), static_cast<size_t>(got));
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) wrong += "the child ended with " + std::to_string(status) + "\n";
  return wrong;
}

std::string install() {
  const auto installed = install_sandbox();
  return installed ? "" : installed.error().what + "\n";
}

// The arguments are such that a call which came through would do no harm.
TEST(Sandbox, DeniesWhatAServerNeverNeeds) {
  const std::string wrong = in_child([] {
    std::string found = install();
    const auto denied = [&found](const char* name, int with, long number, auto... arguments) {
      errno = 0;
      const long result = ::syscall(number, arguments...);
      if (result == 0 && (number == SYS_fork || number == SYS_vfork || number == SYS_clone)) ::_exit(0);
      if (result != -1 || errno != with) {
        found +=
            std::string(name) + ": " + std::to_string(result) + ", " + std::generic_category().message(errno) + "\n";
      }
    };
    io_uring_params params{};
    const char* const nothing[] = {nullptr};
    denied("io_uring_setup", EPERM, SYS_io_uring_setup, 8, &params);
    denied("io_uring_register", EPERM, SYS_io_uring_register, -1, uint64_t{IORING_REGISTER_BUFFERS}, nullptr, 0);
    // Of nothing that exists: where it is allowed, the errors found so far must not go with this program.
    denied("execve", EPERM, SYS_execve, "", nothing, nothing);
    denied("execveat", EPERM, SYS_execveat, AT_FDCWD, "", nothing, nothing, 0);
    denied("clone3", ENOSYS, SYS_clone3, nullptr, 0);
#ifdef SYS_fork
    denied("fork", EPERM, SYS_fork);
    denied("vfork", EPERM, SYS_vfork);
#endif
#ifndef __SANITIZE_ADDRESS__  // it looks for leaks from a process that traces this one
    denied("clone", EPERM, SYS_clone, SIGCHLD, nullptr, nullptr, nullptr, 0);
    denied("ptrace", EPERM, SYS_ptrace, PTRACE_PEEKDATA, 0, nullptr, nullptr);
#endif
    denied("process_vm_readv", EPERM, SYS_process_vm_readv, ::getpid(), nullptr, 0, nullptr, 0, 0);
    denied("process_vm_writev", EPERM, SYS_process_vm_writev, ::getpid(), nullptr, 0, nullptr, 0, 0);
    denied("pidfd_getfd", EPERM, SYS_pidfd_getfd, -1, -1, 0);
    denied("mount", EPERM, SYS_mount, nullptr, nullptr, nullptr, 0, nullptr);
    denied("umount2", EPERM, SYS_umount2, nullptr, 0);
    denied("chroot", EPERM, SYS_chroot, nullptr);
    denied("unshare", EPERM, SYS_unshare, 0);
    denied("setns", EPERM, SYS_setns, -1, 0);
    denied("mknodat", EPERM, SYS_mknodat, AT_FDCWD, nullptr, 0, 0);
    denied("open_by_handle_at", EPERM, SYS_open_by_handle_at, -1, nullptr, 0);
    denied("setuid", EPERM, SYS_setuid, ::getuid());
    denied("setresgid", EPERM, SYS_setresgid, -1, -1, -1);
    denied("bpf", EPERM, SYS_bpf, 0, nullptr, 0);
    denied("perf_event_open", EPERM, SYS_perf_event_open, nullptr, 0, 0, -1, 0);
    denied("userfaultfd", EPERM, SYS_userfaultfd, -1);
    denied("keyctl", EPERM, SYS_keyctl, -1, 0, 0, 0, 0);
    denied("finit_module", EPERM, SYS_finit_module, -1, "", 0);
    denied("reboot", EPERM, SYS_reboot, 0, 0, 0, nullptr);
    denied("personality", EPERM, SYS_personality, 0xffffffffUL);
    return found;
  });
  EXPECT_EQ(wrong, "");
}

std::string what_fails_in_a_thread() {
  std::string found;
  const auto works = [&found](const char* name, bool did) {
    if (!did) found += std::string(name) + ": " + std::generic_category().message(errno) + "\n";
  };
  works("pthread_setname_np", ::pthread_setname_np(::pthread_self(), "of-the-test") == 0);
  works("setpriority", ::setpriority(PRIO_PROCESS, 0, 19) == 0);

  base::Fd file(::open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  works("open", file.valid());
  works("write", ::write(file.get(), "kiln", 4) == 4);
  works("fsync", ::fsync(file.get()) == 0);
  flock lock{.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 0, .l_pid = 0};
  works("fcntl", ::fcntl(file.get(), F_SETLK, &lock) == 0);
  void* const shared = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
  works("mmap", shared != MAP_FAILED);
  works("munmap", ::munmap(shared, 4096) == 0);

  auto listener = core::listen({.address = "127.0.0.1", .port = 0});
  works("listen", listener.has_value());
  base::Fd client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  works("getsockname", ::getsockname(listener->get(), reinterpret_cast<sockaddr*>(&address), &size) == 0);
  works("connect", ::connect(client.get(), reinterpret_cast<sockaddr*>(&address), size) == 0);
  base::Fd server(::accept4(listener->get(), nullptr, nullptr, SOCK_CLOEXEC));
  works("accept4", server.valid());
  works("send", ::send(client.get(), "kiln", 4, MSG_NOSIGNAL) == 4);
  char bytes[4];
  works("recv", ::recv(server.get(), bytes, sizeof bytes, MSG_WAITALL) == 4);

  works("epoll_create1", base::Fd(::epoll_create1(EPOLL_CLOEXEC)).valid());
  works("eventfd", base::Fd(::eventfd(0, EFD_CLOEXEC)).valid());
  return found;
}

TEST(Sandbox, LeavesThreadsFilesAndSockets) {
  const std::string wrong = in_child([] {
    std::string found = install();
    std::thread([&found] { found += what_fails_in_a_thread(); }).join();
    return found;
  });
  EXPECT_EQ(wrong, "");
}

TEST(Sandbox, HoldsForThreadsThatRunAlready) {
  const std::string wrong = in_child([] {
    std::promise<void> installed;
    std::string found;
    std::thread earlier([&] {
      installed.get_future().wait();
      if (::syscall(SYS_unshare, 0) != -1 || errno != EPERM) found += "a thread from before may still call\n";
    });
    const std::string failed = install();
    installed.set_value();
    earlier.join();
    return failed + found;
  });
  EXPECT_EQ(wrong, "");
}

TEST(Sandbox, LeavesTheRingThereIsAndNoOther) {
  const std::string wrong = in_child([]() -> std::string {
    auto engine = core::open_io_uring({});
    if (!engine) return engine.error().what;
    if (const std::string failed = install(); !failed.empty()) return failed;
    if (const auto passed = core::self_test(**engine); !passed) return passed.error().what;

    // It ends with its engine, and lets go of the socket that it was receiving on.
    int pair[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) return "socketpair";
    base::Fd ours(pair[0]);
    const base::Fd peer(pair[1]);
    struct Nobody final : core::CompletionSink {
      void woke() override {}
      void complete(const core::Completion& /*completion*/) override {}
    } nobody;
    (*engine)->receive(ours.get(), {core::Operation::Receive, 1, 1}, core::Repeat::Stream);
    (*engine)->wait(core::Duration::zero(), nobody);
    engine->reset();
    ours.reset();
    pollfd seen{.fd = peer.get(), .events = POLLIN, .revents = 0};
    if (::poll(&seen, 1, 5000) != 1) return "the ring has not ended";

    const auto another = core::open_io_uring({});
    if (another) return "another ring can be opened";
    return another.error().code == EPERM ? "" : another.error().what;
  });
  EXPECT_EQ(wrong, "");
}

TEST(Sandbox, GoesOnTopOfAnother) {
  EXPECT_EQ(in_child([] { return install() + install(); }), "");
}

}  // namespace
}  // namespace kiln::app
