#include "load/fetch.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <memory>
#include <string_view>
#include <utility>

#include "core/resolve.h"
#include "http/request_writer.h"
#include "http/response_reader.h"

namespace kiln::load {

namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kBodyBytesMax = 16 << 20;
constexpr size_t kReadBytes = 64 << 10;
constexpr std::chrono::milliseconds kLook{100};  // at whether it was interrupted

using Interrupted = std::function<bool()>;

// 0 when the socket is ready for it in time, or why it is not.
int wait_for(const base::Fd& socket, short event, Clock::time_point until, const Interrupted& interrupted = {}) {
  for (;;) {
    if (interrupted && interrupted()) return EINTR;
    auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now());
    if (left.count() <= 0) return ETIMEDOUT;
    if (interrupted) left = std::min(left, kLook);
    pollfd watched{.fd = socket.get(), .events = event, .revents = 0};
    const int ready = ::poll(&watched, 1, static_cast<int>(left.count()));
    if (ready > 0) return 0;
    if (ready < 0 && errno != EINTR) return errno;
  }
}

// A connection, or why there is none.
int connect_to(const core::SocketAddress& address, Clock::time_point until, const Interrupted& interrupted,
               base::Fd& socket) {
  socket = base::Fd(::socket(address.get()->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.valid()) return errno;
  if (::connect(socket.get(), address.get(), address.size) == 0) return 0;
  if (errno != EINPROGRESS) return errno;
  int error = wait_for(socket, POLLOUT, until, interrupted);
  socklen_t size = sizeof error;
  if (error == 0) ::getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error, &size);
  return error;
}

int send_all(const base::Fd& socket, std::string_view bytes, Clock::time_point until) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(socket.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent >= 0) {
      bytes.remove_prefix(static_cast<size_t>(sent));
    } else if (errno != EAGAIN) {
      return errno;
    } else if (const int error = wait_for(socket, POLLOUT, until); error != 0) {
      return error;
    }
  }
  return 0;
}

// What has come of the answer.
class Answer {
 public:
  enum class State : uint8_t { Begun, Whole, Invalid, TooLarge };

  Answer() { reader_.expect(http::Method::Get); }

  State take(std::string_view bytes) {
    input_ += bytes;
    size_t taken = 0;
    const State state = go_on(taken);
    input_.erase(0, taken);
    return state;
  }
  State end() { return reader_.end_of_input().kind == http::ResponseStep::Kind::End ? State::Whole : State::Invalid; }

  Fetched release() { return std::move(answer_); }

 private:
  State go_on(size_t& taken) {
    for (;;) {
      const http::ResponseStep step = reader_.next(std::string_view(input_).substr(taken), *head_);
      using enum http::ResponseStep::Kind;
      if (step.kind == Head) {
        answer_.status = head_->status;
        answer_.pod = head_->find("X-Pod-Name").value_or("");
        answer_.location = head_->find("Location").value_or("");
      }
      answer_.body += step.data;
      taken += step.consumed;
      if (step.kind == End) return State::Whole;
      if (step.kind == Invalid) return State::Invalid;
      if (answer_.body.size() > kBodyBytesMax) return State::TooLarge;
      if (step.kind == NeedMore) return State::Begun;
    }
  }

  http::ResponseReader reader_{http::kResponseLimits};
  std::unique_ptr<http::ResponseHead> head_ = std::make_unique<http::ResponseHead>();
  std::string input_;
  Fetched answer_;
};

base::Result<Fetched> receive(const base::Fd& socket, Clock::time_point until) {
  Answer answer;
  auto state = Answer::State::Begun;
  const auto room = std::make_unique<char[]>(kReadBytes);
  while (state == Answer::State::Begun) {
    if (Clock::now() >= until) return base::system_error("waiting for the answer", ETIMEDOUT);
    const ssize_t got = ::recv(socket.get(), room.get(), kReadBytes, 0);
    if (got > 0) {
      state = answer.take({room.get(), static_cast<size_t>(got)});
    } else if (got == 0) {
      state = answer.end();
    } else if (errno != EAGAIN) {
      return base::system_error("waiting for the answer", errno);
    } else if (const int error = wait_for(socket, POLLIN, until); error != 0) {
      return base::system_error("waiting for the answer", error);
    }
  }
  if (state == Answer::State::Invalid) return base::error("what came is no whole answer of HTTP/1.1");
  if (state == Answer::State::TooLarge) return base::error("the answer has more than 16 MiB");
  return answer.release();
}

}  // namespace

base::Result<Connected> connect(std::span<const core::SocketAddress> addresses, std::chrono::nanoseconds timeout,
                                const Interrupted& interrupted) {
  const auto until = Clock::now() + timeout;
  int error = 0;
  for (size_t i = 0; i < addresses.size() && error != EINTR; ++i) {
    const auto now = Clock::now();
    base::Fd socket;
    error = connect_to(addresses[i], now + (until - now) / (addresses.size() - i), interrupted, socket);
    if (error == 0) return Connected{.socket = std::move(socket), .address = addresses[i]};
  }
  return base::system_error("connecting", error);
}

base::Result<Connected> connect(const http::Url& url, std::chrono::nanoseconds timeout,
                                const Interrupted& interrupted) {
  const auto addresses = core::resolve(url.host, url.port);
  if (!addresses) return std::unexpected(addresses.error());
  auto connected = connect(*addresses, timeout, interrupted);
  if (connected) return connected;
  return base::system_error(fmt::format("connecting to {}:{}", url.host, url.port), connected.error().code);
}

base::Result<Fetched> fetch(const http::Url& url, std::chrono::nanoseconds timeout) {
  const auto until = Clock::now() + timeout;
  const auto connected = connect(url, timeout);
  if (!connected) return std::unexpected(connected.error());
  const http::Field agent{.name = "User-Agent", .value = "kiln"};
  std::string request;
  http::write_request_head(
      {.target = url.target, .host = url.authority, .fields = {&agent, 1}, .keep_alive = false}, request);
  if (const int error = send_all(connected->socket, request, until); error != 0) {
    return base::system_error("sending the request", error);
  }
  return receive(connected->socket, until);
}

}  // namespace kiln::load
