#include "calibrate/server.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sched.h>
#include <simdjson.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <ctime>
#include <string_view>
#include <utility>

#include "load/report.h"

namespace kiln::calibrate {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds kStartMax{20};

// What the server would take from there is not what is calibrated here: `kiln serve` with its defaults.
std::vector<std::string> environment_without_settings() {
  std::vector<std::string> kept;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    if (!std::string_view(*entry).starts_with("KILN_")) kept.emplace_back(*entry);
  }
  return kept;
}

std::vector<char*> pointers_to(std::vector<std::string>& texts) {
  std::vector<char*> out;
  for (std::string& text : texts) out.push_back(text.data());
  out.push_back(nullptr);
  return out;
}

// All that the child does, with what was prepared before the fork: only calls that a signal handler might make, too.
struct Child {
  std::vector<base::Fd> entrances;
  std::optional<cpu_set_t> cpus;
  int output = -1;
  pid_t parent = -1;
  char* const* arguments = nullptr;
  char* const* environment = nullptr;

  [[noreturn]] void become() const {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(kNotStarted);  // it has died before
    ::setpgid(0, 0);  // Ctrl-C is for the one who measures
    for (const base::Fd& entrance : entrances) {
      if (::write(entrance.get(), "0", 1) != 1) give_up("it may not enter its control group");
    }
    if (cpus && ::sched_setaffinity(0, sizeof *cpus, &*cpus) != 0) give_up("it gets none of its CPUs");
    if (::dup2(output, STDOUT_FILENO) < 0 || ::dup2(output, STDERR_FILENO) < 0) give_up("it has no output");
    ::execve("/proc/self/exe", arguments, environment);
    give_up("/proc/self/exe cannot be executed");
  }

  [[noreturn]] void give_up(std::string_view why) const {
    [[maybe_unused]] const ssize_t told = ::write(output, why.data(), why.size());
    ::_exit(kNotStarted);
  }

  static constexpr int kNotStarted = 127;
};

// "port" of a line of the server's log that says it listens.
std::optional<uint16_t> port_in(std::string_view line) {
  simdjson::dom::parser parser;
  simdjson::dom::element root;
  std::string_view message;
  uint64_t port = 0;
  if (parser.parse(simdjson::padded_string(line)).get(root) != simdjson::SUCCESS) return std::nullopt;
  if (root["msg"].get(message) != simdjson::SUCCESS || message != "listening") return std::nullopt;
  if (root["port"].get(port) != simdjson::SUCCESS || port > UINT16_MAX) return std::nullopt;
  return static_cast<uint16_t>(port);
}

}  // namespace

base::Result<Server> Server::start(ServerOptions options, const std::function<bool()>& interrupted) {
  std::vector<std::string> arguments = {"kiln",       "serve",   "--address", "127.0.0.1",   "--port", "0",
                                        "--data-uri", "memory:", "--engine",  options.engine};
  std::vector<std::string> environment = environment_without_settings();
  const std::vector<char*> argument_pointers = pointers_to(arguments);
  const std::vector<char*> environment_pointers = pointers_to(environment);
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return base::system_error("making a pipe", errno);
  Server server;
  server.output_ = base::Fd(ends[0]);
  base::Fd to_us(ends[1]);

  Child child{.entrances = {},
              .cpus = {},
              .output = to_us.get(),
              .parent = ::getpid(),
              .arguments = argument_pointers.data(),
              .environment = environment_pointers.data()};
  if (options.group) {
    server.group_.emplace(std::move(*options.group));
    for (const std::string& path : server.group_->entrances()) {
      child.entrances.emplace_back(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    }
  }
  if (!options.cpus.empty()) {
    CPU_ZERO(&child.cpus.emplace());
    for (const size_t cpu : options.cpus) CPU_SET(cpu, &*child.cpus);
  }
  server.process_ = ::fork();
  if (server.process_ < 0) {
    const int error = errno;
    const bool forbidden = error == ENOSYS || error == EPERM;
    return base::system_error(forbidden ? "starting the server (a seccomp profile forbids new processes: take the "
                                          "container runtime's own, or measure a server at a URL)"
                                        : "starting the server", error);
  }
  if (server.process_ == 0) child.become();
  to_us.reset();  // so that its end shows
  if (const auto serves = server.wait_until_it_serves(interrupted); !serves) return std::unexpected(serves.error());
  server.cgroup_ = base::Cgroup::find("", std::to_string(server.process_));
  if (::clock_getcpuclockid(server.process_, &server.clock_) != 0) return base::error("the server has no CPU clock");
  return server;
}

// Its log comes by the pipe, from which nothing is read later: it is a few lines.
base::Result<void> Server::wait_until_it_serves(const std::function<bool()>& interrupted) {
  const auto until = Clock::now() + kStartMax;
  std::string text;
  std::string last;
  for (;;) {
    for (size_t end = text.find('\n'); end != std::string::npos; end = text.find('\n')) {
      last = text.substr(0, end);
      text.erase(0, end + 1);
      if (const auto port = port_in(last)) {
        port_ = *port;
        return {};
      }
    }
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now()).count();
    pollfd watched{.fd = output_.get(), .events = POLLIN, .revents = 0};
    const int ready = left <= 0 ? 0 : ::poll(&watched, 1, static_cast<int>(left));
    if (ready == 0) return base::error("the server does not start");
    if (ready < 0) {
      if (interrupted()) return base::system_error("starting the server", EINTR);
      continue;
    }
    char piece[4096];
    const ssize_t got = ::read(output_.get(), piece, sizeof piece);
    if (got == 0) return base::error("the server has ended at its start: " + load::printable(last + text));
    if (got > 0) text.append(piece, static_cast<size_t>(got));
  }
}

Server::Server(Server&& other) noexcept
    : group_(std::move(other.group_)),
      cgroup_(std::move(other.cgroup_)),
      output_(std::move(other.output_)),
      process_(std::exchange(other.process_, -1)),
      clock_(other.clock_),
      port_(other.port_) {}

// What it still works on is nobody's.
Server::~Server() {
  if (process_ < 0) return;
  ::kill(process_, SIGKILL);
  while (::waitpid(process_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

base::Result<std::chrono::nanoseconds> Server::bill() const {
  siginfo_t ended{};
  const bool known = ::waitid(P_PID, static_cast<id_t>(process_), &ended, WEXITED | WNOHANG | WNOWAIT) == 0;
  if (!known || ended.si_pid != 0) return base::error("the server has ended");
  if (group_) {
    const auto bill = cgroup_.cpu_bill();
    return bill ? base::Result<std::chrono::nanoseconds>(bill->used) : base::error("its control group has no bill");
  }
  timespec now{};
  if (::clock_gettime(clock_, &now) != 0) return base::system_error("reading the server's CPU clock", errno);
  return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
}

}  // namespace kiln::calibrate
