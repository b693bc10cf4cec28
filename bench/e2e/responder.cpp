// How cheap can a request be at all?
//
// A bare responder: it counts the blank lines that end request heads and sends one fixed response for each. No
// parsing, no limits, no timers: the floor under any HTTP server on the same sockets, and the place where ways of
// receiving and sending are compared (--engine, --receive, --send). bench/RESULTS.md has the study.
#include <arpa/inet.h>
#include <liburing.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace {

constexpr int kConnectionsMax = 4096;
constexpr unsigned kBuffers = 256;
constexpr unsigned kBufferBytes = 4096;
constexpr int kBatchMax = 64;

struct Options {
  std::string engine = "io_uring";
  std::string receive = "oneshot";
  std::string send = "sqe";
  int port = 8090;
  size_t response_bytes = 1024;
};

struct Connection {
  unsigned matched = 0;   // bytes of the CR LF CR LF seen at the end of what arrived
  int owed = 0;           // responses not yet handed to the kernel
  bool sending = false;   // a send SQE is in flight
};

Options options;
std::string responses;  // kBatchMax copies of the response
size_t response_bytes = 0;
std::vector<Connection> connections(kConnectionsMax);

[[noreturn]] void die(const char* what) {
  std::fprintf(stderr, "responder: %s: %s\n", what, std::strerror(errno));
  std::exit(1);
}

int count_heads(Connection& c, const char* data, size_t size) {
  // The usual case first: whole requests in one piece.
  int heads = 0;
  const char* at = data;
  const char* end = data + size;
  static constexpr char kEnd[] = "\r\n\r\n";
  while (at < end) {
    if (c.matched == 0) {
      at = static_cast<const char*>(std::memchr(at, '\r', static_cast<size_t>(end - at)));
      if (at == nullptr) break;
    }
    if (*at == kEnd[c.matched]) {
      ++c.matched;
      ++at;
      if (c.matched == 4) {
        ++heads;
        c.matched = 0;
      }
    } else {
      c.matched = 0;
      if (*at != '\r') ++at;
    }
  }
  return heads;
}

int listen_on(int port, bool nonblocking) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | (nonblocking ? SOCK_NONBLOCK : 0), 0);
  int one = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) < 0) die("bind");
  if (listen(fd, 512) < 0) die("listen");
  return fd;
}

void make_responses() {
  std::string head = "HTTP/1.1 200 OK\r\nServer: floor\r\nContent-Type: application/json\r\nContent-Length: ";
  size_t body = options.response_bytes - head.size() - 8;
  head += std::to_string(body) + "\r\n\r\n";
  std::string one = head + std::string(body, 'x');
  response_bytes = one.size();
  for (int i = 0; i < kBatchMax; ++i) responses += one;
}

int take_owed(Connection& c) {
  int n = c.owed < kBatchMax ? c.owed : kBatchMax;
  c.owed -= n;
  return n;
}

// --- epoll -----------------------------------------------------------------------------------------------------------

void serve_epoll() {
  int listener = listen_on(options.port, true);
  int epfd = epoll_create1(EPOLL_CLOEXEC);
  epoll_event interest{.events = EPOLLIN, .data = {.fd = listener}};
  epoll_ctl(epfd, EPOLL_CTL_ADD, listener, &interest);
  static char buffer[65536];
  epoll_event events[256];
  const bool edge = options.receive == "edge";
  for (;;) {
    int n = epoll_wait(epfd, events, 256, -1);
    for (int i = 0; i < n; ++i) {
      int fd = events[i].data.fd;
      if (fd == listener) {
        int client;
        while ((client = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
          if (client >= kConnectionsMax) die("too many connections");
          connections[static_cast<size_t>(client)] = {};
          epoll_event e{.events = static_cast<uint32_t>(EPOLLIN) | (edge ? static_cast<uint32_t>(EPOLLET) : 0U),
                        .data = {.fd = client}};
          epoll_ctl(epfd, EPOLL_CTL_ADD, client, &e);
        }
        continue;
      }
      Connection& c = connections[static_cast<size_t>(fd)];
      ssize_t got = recv(fd, buffer, sizeof buffer, 0);
      if (got <= 0) {
        close(fd);
        continue;
      }
      c.owed += count_heads(c, buffer, static_cast<size_t>(got));
      while (c.owed > 0) {
        size_t want = static_cast<size_t>(take_owed(c)) * response_bytes;
        // A closed-loop client that reads; a full socket buffer is the end of this measurement.
        if (send(fd, responses.data(), want, MSG_NOSIGNAL) != static_cast<ssize_t>(want)) break;
      }
    }
  }
}

// --- io_uring --------------------------------------------------------------------------------------------------------

enum class Op : unsigned { Accept = 1, Receive = 2, Send = 3 };

unsigned long tag(Op op, int fd) { return static_cast<unsigned long>(op) << 32 | static_cast<unsigned>(fd); }

io_uring ring;

io_uring_sqe* get_sqe() {
  io_uring_sqe* sqe = io_uring_get_sqe(&ring);
  if (sqe == nullptr) {
    io_uring_submit(&ring);
    sqe = io_uring_get_sqe(&ring);
  }
  if (sqe == nullptr) die("no SQE");
  return sqe;
}

void arm_receive(int fd, bool poll_first) {
  io_uring_sqe* sqe = get_sqe();
  if (options.receive == "multishot") {
    io_uring_prep_recv_multishot(sqe, fd, nullptr, 0, 0);
  } else {
    io_uring_prep_recv(sqe, fd, nullptr, kBufferBytes, 0);
  }
  sqe->ioprio |= poll_first ? IORING_RECVSEND_POLL_FIRST : 0;
  sqe->flags |= IOSQE_BUFFER_SELECT;
  sqe->buf_group = 0;
  io_uring_sqe_set_data64(sqe, tag(Op::Receive, fd));
}

void send_owed(int fd) {
  Connection& c = connections[static_cast<size_t>(fd)];
  if (options.send == "syscall") {
    while (c.owed > 0) {
      size_t want = static_cast<size_t>(take_owed(c)) * response_bytes;
      if (send(fd, responses.data(), want, MSG_NOSIGNAL) != static_cast<ssize_t>(want)) return;
    }
    return;
  }
  if (c.sending || c.owed == 0) return;
  io_uring_sqe* sqe = get_sqe();
  const size_t want = static_cast<size_t>(take_owed(c)) * response_bytes;
  io_uring_prep_send(sqe, fd, responses.data(), want, MSG_NOSIGNAL | MSG_WAITALL);
  io_uring_sqe_set_data64(sqe, tag(Op::Send, fd));
  c.sending = true;
}

void serve_uring() {
  int listener = listen_on(options.port, false);
  io_uring_params params{};
  params.flags = IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                 IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
  params.cq_entries = 2048;
  int error = io_uring_queue_init_params(256, &ring, &params);
  if (error < 0) {
    errno = -error;
    die("io_uring_queue_init_params");
  }
  size_t ring_bytes = kBuffers * sizeof(io_uring_buf);
  void* memory = mmap(nullptr, ring_bytes, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_PRIVATE, -1, 0);
  auto* buffers = static_cast<io_uring_buf_ring*>(memory);
  io_uring_buf_reg registration{};
  registration.ring_addr = reinterpret_cast<unsigned long>(memory);
  registration.ring_entries = kBuffers;
  if (io_uring_register_buf_ring(&ring, &registration, 0) < 0) die("register_buf_ring");
  std::vector<char> storage(kBuffers * kBufferBytes);
  const int mask = io_uring_buf_ring_mask(kBuffers);
  io_uring_buf_ring_init(buffers);
  for (unsigned short i = 0; i < kBuffers; ++i) {
    io_uring_buf_ring_add(buffers, storage.data() + i * kBufferBytes, kBufferBytes, i, mask, i);
  }
  io_uring_buf_ring_advance(buffers, kBuffers);
  io_uring_register_ring_fd(&ring);

  io_uring_sqe* accept = get_sqe();
  io_uring_prep_multishot_accept(accept, listener, nullptr, nullptr, SOCK_CLOEXEC);
  io_uring_sqe_set_data64(accept, tag(Op::Accept, 0));
  for (;;) {
    io_uring_submit_and_wait(&ring, 1);
    io_uring_cqe* batch[256];
    unsigned n = io_uring_peek_batch_cqe(&ring, batch, 256);
    unsigned short returned = 0;
    for (unsigned i = 0; i < n; ++i) {
      const io_uring_cqe cqe = *batch[i];
      int fd = static_cast<int>(cqe.user_data & 0xffffffffu);
      switch (static_cast<Op>(cqe.user_data >> 32)) {
        case Op::Accept:
          if (cqe.res < 0 || cqe.res >= kConnectionsMax) die("accept");
          connections[static_cast<size_t>(cqe.res)] = {};
          arm_receive(cqe.res, true);
          break;
        case Op::Receive: {
          if (cqe.res > 0) {
            Connection& c = connections[static_cast<size_t>(fd)];
            unsigned short id = static_cast<unsigned short>(cqe.flags >> IORING_CQE_BUFFER_SHIFT);
            char* data = storage.data() + id * kBufferBytes;
            c.owed += count_heads(c, data, static_cast<size_t>(cqe.res));
            io_uring_buf_ring_add(buffers, data, kBufferBytes, id, mask, returned++);
            send_owed(fd);
            if (!(cqe.flags & IORING_CQE_F_MORE)) arm_receive(fd, !(cqe.flags & IORING_CQE_F_SOCK_NONEMPTY));
          } else if (cqe.res == -ENOBUFS) {
            arm_receive(fd, true);
          } else {
            close(fd);
          }
          break;
        }
        case Op::Send:
          connections[static_cast<size_t>(fd)].sending = false;
          send_owed(fd);
          break;
      }
    }
    if (returned > 0) io_uring_buf_ring_advance(buffers, returned);
    io_uring_cq_advance(&ring, n);
  }
}

}  // namespace

int main(int argc, char** argv) {
  for (int i = 1; i + 1 < argc; i += 2) {
    std::string_view flag = argv[i];
    if (flag == "--engine") options.engine = argv[i + 1];
    else if (flag == "--receive") options.receive = argv[i + 1];
    else if (flag == "--send") options.send = argv[i + 1];
    else if (flag == "--port") options.port = static_cast<int>(std::strtol(argv[i + 1], nullptr, 10));
    else if (flag == "--response-bytes") options.response_bytes = std::strtoul(argv[i + 1], nullptr, 10);
    else {
      std::fprintf(stderr, "responder: unknown flag %s\n", argv[i]);
      return 2;
    }
  }
  make_responses();
  if (options.engine == "epoll") serve_epoll();
  else serve_uring();
}
