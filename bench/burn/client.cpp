// An open-loop HTTP client for bench/burn/table: requests leave at absolute deadlines, uniformly spaced, whatever the
// answers do; latency counts from the deadline. One thread, so that it fits beside anything on its core.
//
//   client --port P --path /load?ms=5 --rate 100 [--connections 256] [--skip 2] [--fresh] [--drop-late]
//
// It connects and prints "ready". Each line of its input is a number of requests to send; each is answered by a line of
// JSON. It closes only when the input ends, so that neither connecting nor closing falls between two looks at the
// server's counter.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/quantity.h"

namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using std::chrono::nanoseconds;

constexpr uint64_t kRequestsMax = 100'000'000;

struct Options {
  uint16_t port = 0;
  std::string path = "/livez";
  double rate = 100;
  size_t connections = 256;
  double skip = 0;         // seconds at the start whose answers are left out of in_window
  double patience = 20;    // seconds to wait for answers after the last deadline
  bool fresh = false;      // true: a new connection for each request
  bool drop_late = false;  // true: what found no connection until the last deadline is never sent
};

struct Connection {
  int fd = -1;
  std::string received;
  Clock::time_point due{};  // of the request in flight
};

class Client {
 public:
  explicit Client(const Options& options);

  // Returns false when the connections cannot be made.
  bool connect_all();
  void run(int64_t count);
  void print() const;

 private:
  bool open(Connection& connection);
  void close(Connection& connection);
  void send_due();
  void send(size_t index);
  void receive(size_t index);
  void finish(size_t index, int status, bool closes);
  [[nodiscard]] Clock::time_point deadline(int64_t request) const;
  [[nodiscard]] double latency_ms(double share) const;

  const Options& options_;
  std::string request_;
  int epoll_ = -1;
  std::vector<Connection> connections_;
  std::vector<size_t> idle_;

  // Of the run.
  int64_t count_ = 0;
  Clock::time_point start_{};
  int64_t sent_ = 0;
  int64_t answered_ = 0;
  int64_t failed_ = 0;     // connections that ended or broke with a request in flight
  int64_t in_window_ = 0;  // answers of 200 between --skip and the last deadline
  std::map<int, int64_t> statuses_;
  std::vector<nanoseconds> latencies_;
};

Client::Client(const Options& options)
    : options_(options), epoll_(::epoll_create1(EPOLL_CLOEXEC)), connections_(options.connections) {
  request_ =
      "GET " + options.path + " HTTP/1.1\r\nHost: kiln\r\n" + (options.fresh ? "Connection: close\r\n" : "") + "\r\n";
  for (size_t i = connections_.size(); i > 0; --i) idle_.push_back(i - 1);
}

bool Client::open(Connection& connection) {
  connection.fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(options_.port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  // Blocking: the kernel's side of the handshake is done at once on the loopback, even where the server is throttled.
  if (::connect(connection.fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return false;
  const int one = 1;
  ::setsockopt(connection.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = static_cast<uint64_t>(&connection - connections_.data());
  return ::epoll_ctl(epoll_, EPOLL_CTL_ADD, connection.fd, &event) == 0;
}

void Client::close(Connection& connection) {
  if (connection.fd >= 0) ::close(connection.fd);
  connection.fd = -1;
  connection.received.clear();
}

bool Client::connect_all() {
  if (options_.fresh) return true;
  return std::ranges::all_of(connections_, [this](Connection& connection) { return open(connection); });
}

Clock::time_point Client::deadline(int64_t request) const {
  return start_ + nanoseconds(static_cast<int64_t>(static_cast<double>(request) * 1e9 / options_.rate));
}

void Client::run(int64_t count) {
  count_ = count;
  sent_ = answered_ = failed_ = in_window_ = 0;
  statuses_.clear();
  latencies_.clear();
  latencies_.reserve(static_cast<size_t>(count));
  start_ = Clock::now() + 1ms;
  const auto end = deadline(count_);
  const auto give_up = end + std::chrono::duration_cast<nanoseconds>(options_.patience * 1s);
  for (;;) {
    send_due();
    const auto now = Clock::now();
    const int64_t last = options_.drop_late && now >= end ? sent_ : count_;
    if ((sent_ >= last && answered_ + failed_ >= sent_) || now >= give_up) return;
    const auto next = idle_.empty() || sent_ >= last ? (now < end ? end : give_up) : deadline(sent_);
    const auto wait = std::max(nanoseconds(next - now), nanoseconds(0));
    const timespec timeout{.tv_sec = wait / 1s, .tv_nsec = (wait % 1s).count()};
    epoll_event events[64];
    const int ready = ::epoll_pwait2(epoll_, events, 64, &timeout, nullptr);
    for (int i = 0; i < ready; ++i) receive(events[i].data.u64);
  }
}

void Client::send_due() {
  const auto now = Clock::now();
  if (options_.drop_late && now >= deadline(count_)) return;
  while (sent_ < count_ && !idle_.empty() && deadline(sent_) <= now) {
    const size_t index = idle_.back();
    idle_.pop_back();
    send(index);
  }
}

void Client::send(size_t index) {
  Connection& connection = connections_[index];
  connection.due = deadline(sent_++);
  const bool connected = connection.fd >= 0 || open(connection);
  const auto size = static_cast<ssize_t>(request_.size());
  if (!connected || ::send(connection.fd, request_.data(), request_.size(), MSG_NOSIGNAL) != size) {
    finish(index, 0, true);
  }
}

// The status of the answer that `received` holds whole, 0 while more is to come.
int whole_answer(std::string_view received, bool& closes) {
  const size_t end = received.find("\r\n\r\n");
  if (end == std::string_view::npos || !received.starts_with("HTTP/1.1 ")) return 0;
  const std::string_view head = received.substr(0, end + 2);
  constexpr std::string_view kLength = "\r\nContent-Length: ";
  const size_t at = head.find(kLength);
  size_t length = 0;
  if (at != std::string_view::npos) {
    const std::string_view digits = head.substr(at + kLength.size());
    std::from_chars(digits.data(), digits.data() + digits.size(), length);
  }
  if (received.size() < end + 4 + length) return 0;
  closes = head.contains("\r\nConnection: close\r\n");
  int status = 0;
  std::from_chars(received.data() + 9, received.data() + 12, status);
  return status;
}

void Client::receive(size_t index) {
  Connection& connection = connections_[index];
  char bytes[16384];
  const ssize_t size = ::recv(connection.fd, bytes, sizeof bytes, MSG_DONTWAIT);
  if (size < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (size <= 0) {
    // An idle connection may end; the next request opens another.
    if (connection.due == Clock::time_point{}) return close(connection);
    return finish(index, 0, true);
  }
  connection.received.append(bytes, static_cast<size_t>(size));
  bool closes = false;
  if (const int status = whole_answer(connection.received, closes); status != 0) finish(index, status, closes);
}

void Client::finish(size_t index, int status, bool closes) {
  Connection& connection = connections_[index];
  const auto now = Clock::now();
  if (status == 0) {
    ++failed_;
  } else {
    ++answered_;
    ++statuses_[status];
    latencies_.push_back(now - connection.due);
    const auto window = start_ + std::chrono::duration_cast<nanoseconds>(options_.skip * 1s);
    in_window_ += status == 200 && now >= window && now < deadline(count_);
  }
  connection.due = {};
  connection.received.clear();
  if (closes || options_.fresh) close(connection);
  idle_.push_back(index);
}

double Client::latency_ms(double share) const {
  if (latencies_.empty()) return 0;
  std::vector<nanoseconds> sorted = latencies_;
  const auto at = std::min(static_cast<size_t>(static_cast<double>(sorted.size()) * share), sorted.size() - 1);
  std::ranges::nth_element(sorted, sorted.begin() + static_cast<std::ptrdiff_t>(at));
  return static_cast<double>(sorted[at].count()) / 1e6;
}

void Client::print() const {
  std::printf(R"({"sent":%ld,"answered":%ld,"failed":%ld,"unsent":%ld,"in_window":%ld,"statuses":{)", sent_, answered_,
              failed_ + (sent_ - answered_ - failed_), count_ - sent_, in_window_);
  const char* comma = "";
  for (const auto& [status, count] : statuses_) {
    std::printf(R"(%s"%d":%ld)", comma, status, count);
    comma = ",";
  }
  std::printf(R"(},"p50_ms":%.4f,"p99_ms":%.4f,"max_ms":%.4f})"
              "\n",
              latency_ms(0.5), latency_ms(0.99), latency_ms(1));
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Open-loop HTTP client with uniform arrivals");
  app.add_option("--port", options.port)->required();
  app.add_option("--path", options.path);
  app.add_option("--rate", options.rate, "requests a second")->check(CLI::PositiveNumber);
  app.add_option("--connections", options.connections)->check(CLI::Range(1, 10'000));
  app.add_option("--skip", options.skip, "seconds at the start that in_window leaves out");
  app.add_option("--patience", options.patience, "seconds to wait for the last answers");
  app.add_flag("--fresh", options.fresh, "a new connection for each request");
  app.add_flag("--drop-late", options.drop_late, "do not send what found no connection in time");
  CLI11_PARSE(app, argc, argv);

  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &files);
  ::prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  Client client(options);
  if (!client.connect_all()) {
    std::fprintf(stderr, "client: cannot connect to port %d: %s\n", int{options.port}, std::strerror(errno));
    return EXIT_FAILURE;
  }
  std::puts("ready");
  char line[32];
  while (std::fgets(line, sizeof line, stdin) != nullptr) {
    const auto count = kiln::base::parse_integer(std::string_view(line, std::strcspn(line, "\n")));
    if (!count || *count < 1 || *count > kRequestsMax) {
      std::fprintf(stderr, "client: no number of requests: %s", line);
      return EXIT_FAILURE;
    }
    client.run(static_cast<int64_t>(*count));
    client.print();
  }
  return EXIT_SUCCESS;
}
