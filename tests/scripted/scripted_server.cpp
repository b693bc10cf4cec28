#include "tests/scripted/scripted_server.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <utility>

namespace kiln::scripted {

namespace {

using namespace std::chrono_literals;

constexpr int kMainListener = 1'000'000;
constexpr int kAdminListener = 1'000'001;
constexpr int kFirstClient = 1'000'010;
constexpr size_t kAdminPlacesFrom = 8;
constexpr uint32_t kMainConnectionsMax = 6;  // less than the clients that may come

constexpr core::Duration kHeaderTimeout = 3s;
constexpr core::Duration kIdleTimeout = 6s;
constexpr core::Duration kLatency = 60ms;
constexpr core::Duration kSendTimeout = 5s;
constexpr size_t kReceiveBytesMax = 4096;  // of one completion
constexpr size_t kStreamBytesMax = 256 * 1024;
constexpr size_t kWaitingBytesMax = 64 * 1024;  // written and not arrived
constexpr size_t kBodyMax = 8192;
constexpr size_t kHeadMax = 2048;
constexpr size_t kLineMax = 512;

app::ServeSettings settings_of(bool production_sizes) {
  app::ServeSettings settings;
  settings.admin_port = 1;
  // Its jitter would be another one each time.
  settings.keepalive_max_age = std::chrono::hours(100'000);
  settings.keepalive_max_requests = production_sizes ? 0 : 40;
  settings.idle_timeout = kIdleTimeout;
  settings.header_timeout = kHeaderTimeout;
  settings.body_timeout = kHeaderTimeout;
  settings.body_rate_min = 1024;
  settings.pipelined_max = 16;
  settings.queued_max = 64 * 1024;
  settings.load_max = 1s;
  settings.burn_queue = 2s;
  settings.body_max = kBodyMax;
  settings.head_max = kHeadMax;
  settings.request_line_max = kLineMax;
  settings.fields_max = 16;
  settings.faults = true;
  return settings;
}

app::Identity somebody() {
  app::Identity who;
  who.pod_name = "kiln-1";
  who.node_name = "node-1";
  return who;
}

core::LoopOptions loop_options(bool production_sizes) {
  core::LoopOptions options{.connections_max = kMainConnectionsMax};
  options.stream_room_min = 2;  // so that there are streams, and single accepts
  options.send_timeout = kSendTimeout;
  if (production_sizes) return options;
  options.input_bytes_max = kHeadMax + 100;  // more than a head, as in production
  options.send_bytes_max = 4096;
  options.held_bytes_max = 128 * 1024;  // little, so that now and then somebody is shed
  return options;
}

struct BadRequest {
  std::string_view text;
  int status;
};

constexpr BadRequest kMalformed[] = {
    {"GET / HTTP/1.1\nHost: a\n\n", 400},
    {"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400},
    {"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505},
    {"GET / HTTP/1.1\r\nAccept: */*\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", 400},
    {"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1x\r\n\r\n", 400},
    {"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
    {"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501},
    {"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n", 400},
    {"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: a\r\nExpect: wonders\r\n\r\n", 417},
    {"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 501},
    {"\x16\x03\x01\x02 not HTTP at all\r\n\r\n", 400},
};

BadRequest too_large(size_t which) {
  static const std::string long_line = "GET /" + std::string(kLineMax + 100, 'a') + " HTTP/1.1\r\nHost: a\r\n\r\n";
  static const std::string long_head =
      "GET / HTTP/1.1\r\nHost: a\r\nA: " + std::string(kHeadMax + 100, 'a') + "\r\n\r\n";
  static const std::string many_fields = [] {
    std::string text = "GET / HTTP/1.1\r\nHost: a\r\n";
    for (int i = 0; i < 20; ++i) text += "A: b\r\n";
    return text + "\r\n";
  }();
  static const std::string long_body = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2100\r\n" +
                                       std::string(0x2100, 'a') + "\r\n0\r\n\r\n";
  switch (which % 5) {
    case 0: return {long_line, 414};
    case 1: return {long_head, 431};
    case 2: return {many_fields, 431};
    case 3: return {long_body, 413};
    default: return {"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9000\r\n\r\n", 413};
  }
}

bool is_shut(const core::FakeEngine::Descriptor& d, int how) { return std::ranges::count(d.shutdowns, how) > 0; }

// True when `armed` is in flight and nothing has been scripted for its end.
bool in_flight(const std::optional<core::FakeEngine::Armed>& armed) { return armed && !armed->ending; }

// For whoever aborts: a failed CHECK of the server knows nothing of scripts.
const ScriptedServer* running = nullptr;
std::string how_to_repeat;

void explain_abort(int signal) {
  if (running != nullptr) {
    std::fprintf(stderr, "after %zu letters; %s\nplayed: %s\n", running->played().size(), how_to_repeat.c_str(),
                 running->played().c_str());
  }
  std::signal(signal, SIG_DFL);
}

template <size_t n>
std::string by(const std::array<uint64_t, n>& counts, const std::array<std::string_view, n>& names) {
  std::string text;
  for (size_t i = 0; i < n; ++i) {
    text += (i == 0 ? "" : ", ") + std::string(names[i]) + " " + std::to_string(counts[i]);
  }
  return text;
}

}  // namespace

void explain_aborts(std::string_view repeat) {
  how_to_repeat = repeat;
  std::signal(SIGABRT, explain_abort);
}

// --- Counting --------------------------------------------------------------------------------------------------------

namespace {

struct NamedCount {
  std::string_view name;
  uint64_t Counts::*count;
};

constexpr NamedCount kCounts[] = {
    {"turns", &Counts::turns},
    {"connections", &Counts::connections},
    {"requests answered", &Counts::answers},
    {"refusals", &Counts::refusals},
    {"timeouts (408)", &Counts::timeouts},
    {"bodies shed (503)", &Counts::sheds},
    {"100 Continue", &Counts::continues},
    {"receives without a buffer", &Counts::starved},
    {"EINTR, EAGAIN, ECANCELED", &Counts::interrupted},
    {"late cancels", &Counts::late_cancels},
    {"streams ended by overflow", &Counts::streams_ended},
    {"short sends", &Counts::short_sends},
    {"held back by a full queue", &Counts::held_back},
    {"stale completions", &Counts::stale},
    {"out of descriptors", &Counts::out_of_descriptors},
    {"latencies", &Counts::latencies},
    {"settled", &Counts::settled},
};

struct NamedPlaces {
  std::string_view name;
  std::array<uint64_t, kPlaces> Counts::*counts;
};

constexpr NamedPlaces kPlaceCounts[] = {
    {"resets", &Counts::resets}, {"half-closes", &Counts::ends}, {"cut sends", &Counts::cut_sends},
    {"halts", &Counts::halts},   {"drains", &Counts::drains},
};

constexpr std::array<std::string_view, kPlaces> kPlaceNames = {"new",         "idle",      "arriving", "answering",
                                                               "last answer", "lingering", "closing"};
constexpr std::array<std::string_view, kReasons> kReasonNames = {
    "last answer", "client ended", "reset",       "send failed", "send stalled",
    "shed",        "idle",         "turned away", "drained",     "halted"};

}  // namespace

void Counts::add(const Counts& other) {
  events += other.events;
  for (const NamedCount& named : kCounts) this->*named.count += other.*named.count;
  for (const NamedPlaces& named : kPlaceCounts) {
    for (size_t i = 0; i < kPlaces; ++i) (this->*named.counts)[i] += (other.*named.counts)[i];
  }
  for (size_t i = 0; i < kReasons; ++i) closes[i] += other.closes[i];
}

std::string Counts::text() const {
  std::string text = "  steps " + std::to_string(events) + "\n";
  for (const NamedCount& named : kCounts) {
    text += "  " + std::string(named.name) + " " + std::to_string(this->*named.count) + "\n";
  }
  for (const NamedPlaces& named : kPlaceCounts) {
    text += "  " + std::string(named.name) + ": " + by(this->*named.counts, kPlaceNames) + "\n";
  }
  return text + "  closed: " + by(closes, kReasonNames) + "\n";
}

// --- The script ------------------------------------------------------------------------------------------------------

ScriptedServer::ScriptedServer(bool production_sizes)
    : pod_(settings_of(production_sizes), somebody(), base::Cgroup::find("/nonexistent"), 1),
      requests_max_(pod_.settings.keepalive_max_requests) {
  auto engine = std::make_unique<core::FakeEngine>();
  engine_ = engine.get();
  auto mailbox = core::Mailbox::open();
  CHECK(mailbox.has_value());
  worker_ =
      std::make_unique<app::Worker>(pod_, std::move(engine), std::move(*mailbox), 0, loop_options(production_sizes));
  view_ = worker_->view();
  pod_.workers = {view_};
  pod_.engine = "epoll";
  pod_.page = "<html></html>";
  pod_.life = app::Life::Ready;
  if (production_sizes) played_ = "+";
  running = this;
  worker_->start(base::Fd(kMainListener), kMainConnectionsMax, base::Fd(kAdminListener));
}

ScriptedServer::~ScriptedServer() { running = nullptr; }

void ScriptedServer::require(bool holds, const char* what, const Client* about) {
  if (holds) return;
  std::fprintf(stderr, "broken promise: %s\n", what);
  if (about != nullptr) {
    std::fprintf(stderr,
                 "client %zu, serial %llu, descriptor %d: %zu of %zu messages answered, %zu of %zu bytes arrived\n"
                 "unread: %.200s\n",
                 static_cast<size_t>(about - clients_.data()), static_cast<unsigned long long>(about->serial),
                 about->fd, about->answered, about->messages.size(), about->arrived, about->stream.size(),
                 about->unread.c_str());
  }
  std::abort();
}

size_t ScriptedServer::some(size_t n) const {
  uint64_t mixed = (played_.size() + 1) * 0x9e3779b97f4a7c15;
  mixed = (mixed ^ (mixed >> 32)) * 0xbf58476d1ce4e5b9;
  return static_cast<size_t>((mixed >> 32) % n);
}

void ScriptedServer::play(char letter) {
  played_ += letter;
  if (!goes_on_) return;
  if (happen(letter)) ++counts_.events;
}

bool ScriptedServer::happen(char letter) {
  if (letter >= '0' && letter <= '9') {
    current_ = static_cast<size_t>(letter - '0');
    return false;
  }
  switch (letter) {
    case 'c':
    case 'C': return connect(letter);
    case 'e':
    case 'E':
    case 'V': return accept_ends(letter);
    case 'f':
    case 'F': return end_stream(letter);
    case 'r': return reset();
    case 'i':
    case 'j':
    case 'a':
    case 'A': return receive(letter);
    case 'N':
    case 'I':
    case 'G':
    case 'K': return receive_fails(letter);
    case 's':
    case 'S':
    case 'Z': return send_ends(letter);
    case '*': return all_fails();
    case 't': return turn(), true;
    case ',': return engine_->advance(60ms), true;
    case '.': return engine_->advance(700ms), true;
    case ';': return engine_->advance(4s), true;
    case ':': return engine_->pass_while_waiting(3s), true;
    case '~': return deliver_stale();
    case '@': ++letters_posted_; return worker_->post([this] { ++letters_read_; }), true;
    case '^': return toggle_full_queue();
    case 'L': return toggle_latency();
    case '&': return engine_->leave_completions_behind(leaves_behind_ = !leaves_behind_), true;
    case '%': announced_ = true; return worker_->announce_close(), true;
    case '!':
      if (draining_) return false;
      draining_ = true;
      for (Client& c : clients_) {
        c.arrived_at_drain = c.arrived;
        if (has_begun(c)) ++counts_.drains[static_cast<size_t>(place_of(c))];
      }
      return worker_->drain(), true;
    case '#':
      if (halted_) return false;
      halted_ = true;
      for (const Client& c : clients_) {
        if (has_begun(c)) ++counts_.halts[static_cast<size_t>(place_of(c))];
      }
      return worker_->halt(), true;
    case '$': return settle();
    default: return write(letter);
  }
}

// --- Accepting -------------------------------------------------------------------------------------------------------

bool ScriptedServer::connect(char letter) {
  Client& c = client();
  const bool through_admin = current_ >= kAdminPlacesFrom;
  const int listener = through_admin ? kAdminListener : kMainListener;
  const auto& accept = engine_->descriptor(listener).reading;
  if (c.fd >= 0 || !in_flight(accept) || full_queue_) return false;
  // The lowest number that is free, as the kernel does.
  int fd = kFirstClient;
  while (std::ranges::any_of(clients_, [fd](const Client& other) { return other.fd == fd; })) ++fd;
  c = {.fd = fd, .listener = through_admin ? 1U : 0U, .serial = next_serial_++};
  c.opened = c.quiet_since = engine_->now();
  ++counts_.connections;
  if (accept->cancelled) ++counts_.late_cancels;
  if (letter == 'C') {
    ++counts_.streams_ended;
    engine_->accept_ends(listener, fd);
  } else {
    engine_->accepts(listener, fd);
  }
  return true;
}

bool ScriptedServer::accept_ends(char letter) {
  const int listener = current_ >= kAdminPlacesFrom ? kAdminListener : kMainListener;
  const auto& d = engine_->descriptor(listener);
  if (!in_flight(d.reading) || full_queue_) return false;
  if (letter == 'V') {
    if (!d.reading->cancelled && d.shutdowns.empty()) return false;
    engine_->accept_ends(listener, d.shutdowns.empty() ? -ECANCELED : -EINVAL);
  } else if (letter == 'e') {
    ++counts_.out_of_descriptors;
    engine_->accept_ends(listener, some(2) == 0 ? -EMFILE : -ENFILE);
  } else {
    engine_->accept_ends(listener, -ECONNABORTED);
  }
  return true;
}

// --- What clients do -------------------------------------------------------------------------------------------------

void ScriptedServer::write_message(std::string_view bytes, Message message) {
  Client& c = client();
  message.begins = c.stream.size();
  c.stream += bytes;
  message.ends = c.stream.size();
  c.messages.push_back(std::move(message));
}

bool ScriptedServer::write(char letter) {
  Client& c = client();
  if (c.fd < 0 || c.ended || c.reset || c.stream.size() > kStreamBytesMax) return false;
  if (c.stream.size() - c.on_the_way > kWaitingBytesMax) return false;
  if (letter == 'x' || letter == 'X') return write_bad(letter);
  if (letter == 'p' || letter == 'k' || letter == 'l' || letter == 'w') return write_echo(letter);

  Message message;
  message.id = "c" + std::to_string(c.serial) + "-" + std::to_string(c.messages.size());
  std::string_view method = "GET", path = "/livez", version = "1.1", fields;
  switch (letter) {
    case 'g':
      message.checks_body = true;
      message.body = "ok\n";
      break;
    case 'h':
      method = "HEAD";
      path = some(2) == 0 ? "/api/info" : "/";
      message.head = true;
      break;
    case 'q':
      fields = "Connection: close\r\n";
      message.closes = true;
      break;
    case 'b':
      version = "1.0";
      message.closes = true;
      break;
    case 'B':
      version = "1.0";
      fields = "Connection: keep-alive\r\n";
      break;
    case 'o': path = "/openapi.json"; break;
    case 'n':
      switch (some(4)) {
        case 0:
          path = "/nowhere";
          message.status = 404;
          break;
        case 1:
          method = "DELETE";
          path = "/version";
          message.status = 405;
          break;
        case 2:
          path = "/burn";
          message.status = c.listener == 0 ? 404 : 200;
          break;
        default:
          method = "OPTIONS";
          path = "*";
          message.status = 204;
          break;
      }
      break;
    default: return false;
  }
  std::string text(method);
  text.append(" ").append(path).append(" HTTP/").append(version).append("\r\nHost: a\r\nX-Request-Id: ");
  text.append(message.id).append("\r\n").append(fields).append("\r\n");
  write_message(text, std::move(message));
  return true;
}

// Its body says whose it is, again and again.
bool ScriptedServer::write_echo(char letter) {
  Client& c = client();
  Message message;
  message.id = "c" + std::to_string(c.serial) + "-" + std::to_string(c.messages.size());
  message.checks_body = true;
  const size_t bytes = letter == 'l' ? 1000 + some(kBodyMax - 1000) : some(200);
  while (message.body.size() < bytes) message.body += message.id + " ";
  message.body.resize(bytes);

  std::string text = "POST /echo HTTP/1.1\r\nHost: a\r\nX-Request-Id: " + message.id + "\r\n";
  const bool chunked = letter == 'k' || (letter == 'l' && some(2) == 0);
  if (letter == 'w') text += "Expect: 100-continue\r\n";
  if (chunked) {
    text += "Transfer-Encoding: chunked\r\n\r\n";
    const size_t chunk = 1 + some(letter == 'l' ? 4000 : 100);
    for (size_t at = 0; at < bytes; at += chunk) {
      char size[32];
      std::snprintf(size, sizeof size, "%zx\r\n", std::min(chunk, bytes - at));
      text.append(size).append(message.body, at, chunk).append("\r\n");
    }
    text += "0\r\n\r\n";
  } else {
    text += "Content-Length: " + std::to_string(bytes) + "\r\n\r\n";
    if (letter == 'w') message.stops = c.stream.size() + text.size();
    text += message.body;
  }
  write_message(text, std::move(message));
  return true;
}

bool ScriptedServer::write_bad(char letter) {
  const BadRequest bad = letter == 'x' ? kMalformed[some(std::size(kMalformed))] : too_large(some(5));
  write_message(bad.text, {.status = bad.status, .closes = true, .refused = true});
  return true;
}

bool ScriptedServer::end_stream(char letter) {
  Client& c = client();
  if (c.fd < 0 || c.ended || c.reset) return false;
  c.ended = true;
  if (letter == 'f') {
    c.stream.resize(c.on_the_way);
    while (!c.messages.empty() && c.messages.back().begins >= c.stream.size()) c.messages.pop_back();
    if (!c.messages.empty() && c.messages.back().ends > c.stream.size()) c.messages.back().cut = true;
  }
  if (has_begun(c)) ++counts_.ends[static_cast<size_t>(place_of(c))];
  return true;
}

bool ScriptedServer::reset() {
  Client& c = client();
  if (c.fd < 0 || c.reset) return false;
  c.reset = true;
  if (has_begun(c)) ++counts_.resets[static_cast<size_t>(place_of(c))];
  return true;
}

// --- What completes --------------------------------------------------------------------------------------------------

// True when the queue was full when the operation was begun, and still is.
bool ScriptedServer::is_undone(const Client& c, const core::FakeEngine::Armed& armed) {
  if (!full_queue_) return false;
  const auto& d = engine_->descriptor(c.fd);
  const bool undone =
      armed.token.operation == core::Operation::Send ? d.sends > c.sends_begun : d.receives > c.receives_begun;
  if (undone) ++counts_.held_back;
  return undone;
}

bool ScriptedServer::receive(char letter) {
  Client& c = client();
  if (!has_begun(c)) return false;
  const auto& d = engine_->descriptor(c.fd);
  if (!in_flight(d.reading) || is_undone(c, *d.reading)) return false;
  if (c.reset) {
    c.reset_told = true;
    engine_->receive_ends(c.fd, -ECONNRESET);
    return true;
  }
  size_t there = std::min(c.stream.size() - c.on_the_way, kReceiveBytesMax);
  for (const Message& message : c.messages) {
    if (c.on_the_way < message.stops) there = std::min(there, message.stops - c.on_the_way);
  }
  if (there == 0) {
    if (!c.ended && !is_shut(d, SHUT_RDWR)) return false;
    c.end_on_the_way = c.ended;
    engine_->receive_ends(c.fd, 0);
    return true;
  }
  const size_t bytes = letter == 'i' ? 1 : letter == 'j' ? std::min(there, 1 + some(64)) : there;
  if (d.reading->cancelled) ++counts_.late_cancels;
  const bool ends = letter == 'A' && d.reading->mode == core::Repeat::Stream;
  if (ends) ++counts_.streams_ended;
  engine_->receives(c.fd, c.stream.substr(c.on_the_way, bytes),
                    ends ? core::FakeEngine::Last::Yes : core::FakeEngine::Last::No);
  c.on_the_way += bytes;
  for (Message& message : c.messages) {
    if (message.begins < c.on_the_way && message.began == core::TimePoint{}) message.began = engine_->now();
  }
  return true;
}

bool ScriptedServer::receive_fails(char letter) {
  Client& c = client();
  if (!has_begun(c)) return false;
  const auto& d = engine_->descriptor(c.fd);
  if (!in_flight(d.reading) || is_undone(c, *d.reading)) return false;
  switch (letter) {
    case 'N':
      ++counts_.starved;
      engine_->receive_ends(c.fd, -ENOBUFS);
      return true;
    case 'I': engine_->receive_ends(c.fd, -EINTR); break;
    case 'G': engine_->receive_ends(c.fd, -EAGAIN); break;
    default: engine_->receive_ends(c.fd, -ECANCELED); break;
  }
  if (letter != 'K' || !d.reading->cancelled) ++counts_.interrupted;
  return true;
}

bool ScriptedServer::send_ends(char letter) {
  Client& c = client();
  if (!has_begun(c)) return false;
  const auto& d = engine_->descriptor(c.fd);
  if (!in_flight(d.sending) || is_undone(c, *d.sending)) return false;
  const bool may_fail = c.reset || is_shut(d, SHUT_RDWR) || d.sending->cancelled;
  const size_t bytes = d.sending->data.size();
  if (letter == 's' && (!may_fail || (!c.reset && some(4) == 0))) {
    engine_->sends(c.fd);
    return true;
  }
  c.send_failed = true;
  ++counts_.cut_sends[static_cast<size_t>(place_of(c))];
  if (letter == 'S' || some(3) == 0) {
    ++counts_.short_sends;
    engine_->send_ends(c.fd, static_cast<int>(some(bytes)));
  } else {
    engine_->send_ends(c.fd, letter == 'Z' ? -ETIMEDOUT : d.sending->cancelled ? -ECANCELED : -EPIPE);
  }
  c.reset = true;
  return true;
}

bool ScriptedServer::all_fails() {
  if (!has_begun(client())) return false;
  reset();
  receive('a');
  send_ends('s');
  return true;
}

bool ScriptedServer::deliver_stale() {
  if (gone_.empty()) return false;
  core::Token token = gone_[some(gone_.size())];
  token.operation = some(2) == 0 ? core::Operation::Receive : core::Operation::Send;
  constexpr std::array<int, 4> kResults = {7, 0, -ECANCELED, -ENOBUFS};
  engine_->delivers(token, kResults[some(kResults.size() + 1) % kResults.size()]);
  ++counts_.stale;
  return true;
}

bool ScriptedServer::toggle_latency() {
  if (latency_) {
    pod_.faults.cancel(*std::exchange(latency_, std::nullopt), engine_->now());
    late_until_ = engine_->now() + kLatency;
    return true;
  }
  ++counts_.latencies;
  latency_ = pod_.faults.add({.kind = app::FaultKind::Latency, .latency = kLatency}, engine_->now())->id;
  return true;
}

bool ScriptedServer::toggle_full_queue() {
  full_queue_ = !full_queue_;
  if (!full_queue_) return true;
  for (Client& c : clients_) {
    if (c.fd < 0) continue;
    c.receives_begun = has_begun(c) ? engine_->descriptor(c.fd).receives : 0;
    c.sends_begun = has_begun(c) ? engine_->descriptor(c.fd).sends : 0;
  }
  return true;
}

// --- Watching --------------------------------------------------------------------------------------------------------

void ScriptedServer::turn() {
  ++counts_.turns;
  sheds_before_ = view_.loop->shed.get();
  goes_on_ = worker_->turn();
  for (Client& c : clients_) {
    if (c.fd >= 0) look(c);
  }
  look_at_closed();
  for (const std::string& violation : engine_->violations()) require(false, violation.c_str());
  // Nothing here burns: but for a latency every request is answered in the turn that takes it.
  require(view_.in_flight->get() == 0 || latency_ || engine_->now() < late_until_, "requests in flight between turns");
  note(counts_.answers);
}

void ScriptedServer::look(Client& c) {
  // Whatever was scripted has been delivered.
  if (!std::exchange(c.accepted, true)) c.quiet_since = engine_->now();
  if (std::exchange(c.arrived, c.on_the_way) != c.on_the_way) c.quiet_since = engine_->now();
  c.end_arrived = c.end_on_the_way;
  const auto& d = engine_->descriptor(c.fd);
  if (d.reading) c.token = d.reading->token;
  if (d.sending) c.token = d.sending->token;
  if (d.sends != c.sends_seen) {
    require(d.sends == c.sends_seen + 1, "two sends in a turn", &c);
    require(!c.send_failed, "a send after one that failed", &c);
    c.sends_seen = d.sends;
    c.send_began = engine_->now();
    const std::string& handed = d.sending.value().copy;
    c.bytes_handed += handed.size();
    c.unread += handed;
    note(handed.size());
    read_answers(c);
  }
  if (!c.judged && (is_shut(d, SHUT_RDWR) || !d.open)) judge_end(c);
}

void ScriptedServer::read_answers(Client& c) {
  std::string_view rest = c.unread;
  const size_t answered_before = c.answered;
  while (!rest.empty()) {
    require(!c.told_to_close, "bytes behind the last answer", &c);
    require(c.answered < c.messages.size(), "an answer to no request", &c);
    const Message& message = c.messages[c.answered];
    // Who was refused in the middle of a head was not understood to have said HEAD.
    const bool refused = rest.starts_with("HTTP/1.1 408") || rest.starts_with("HTTP/1.1 503");
    const bool to_head = message.head && !refused;
    if (!fuzz::holds_response(rest, to_head)) break;
    const fuzz::ResponseSeen seen = fuzz::take_response(rest, to_head);
    note(static_cast<uint64_t>(seen.status));
    if (seen.status == 100) {
      require(message.stops > 0 && !std::exchange(c.continued, true), "100 Continue that nobody expects", &c);
      require(c.arrived > message.begins, "100 Continue before the request", &c);
      ++counts_.continues;
      continue;
    }
    check_answer(c, message, seen);
    ++c.answered;
    c.continued = false;
    c.told_to_close = seen.closes;
  }
  c.unread.erase(0, c.unread.size() - rest.size());
  // While one batch is being sent no other grows.
  require(c.answered - answered_before <= http::Limits().requests_a_batch_max, "more than a batch of answers", &c);
}

void ScriptedServer::check_answer(Client& c, const Message& message, const fuzz::ResponseSeen& seen) {
  const bool whole = !message.cut && c.arrived >= message.ends;
  if (seen.status == 408) {
    ++counts_.timeouts;
    require(!whole, "408 for a request that has arrived", &c);
    require(c.arrived > message.begins, "408 for nothing", &c);
    // The first head has its time from the connection's beginning.
    const core::TimePoint began = c.answered == 0 ? c.opened : message.began;
    require(engine_->now() - began >= kHeaderTimeout, "408 too early", &c);
    require(seen.closes, "408 that is not the last answer", &c);
    return;
  }
  if (seen.status == 503) {
    ++counts_.sheds;  // its rest may have come in the same turn
    require(c.arrived > message.begins, "503 for nothing", &c);
    require(seen.closes, "503 that is not the last answer", &c);
    return;
  }
  require(c.arrived > message.begins, "an answer before the request", &c);
  if (message.refused) {
    ++counts_.refusals;
  } else {
    ++counts_.answers;
    require(whole, "an answer to a part of a request", &c);
    require(seen.request_id == message.id, "the answer to another request", &c);
    if (message.checks_body) require(seen.body == message.body, "bytes that are not the client's own", &c);
  }
  require(seen.status == message.status || message.cut, "another status", &c);
  const bool enough = requests_max_ > 0 && c.answered + 1 >= requests_max_;
  if (message.closes || enough) require(seen.closes, "an answer that should be the last", &c);
  const bool may_close = message.closes || enough || announced_ || draining_ || c.end_arrived;
  require(may_close || !seen.closes, "a last answer without need", &c);
}

bool ScriptedServer::all_whole_answered(const Client& c, size_t arrived) const {
  if (c.answered == c.messages.size()) return true;
  const Message& next = c.messages[c.answered];
  return next.cut || next.ends > arrived;
}

// The server has begun to close the connection: is there a reason?
void ScriptedServer::judge_end(Client& c) {
  c.judged = true;
  const auto& d = engine_->descriptor(c.fd);
  const core::TimePoint now = engine_->now();
  const auto because = [&](Reason reason) {
    ++counts_.closes[static_cast<size_t>(reason)];
    note(static_cast<uint64_t>(reason));
  };
  if (halted_) return because(Reason::Halted);
  // Past the cap by a stream; nothing was ever asked of it.
  if (d.receives == 0 && turned_away_seen_ < view_.loop->turned_away.get()) {
    ++turned_away_seen_;
    return because(Reason::TurnedAway);
  }
  if (c.send_failed) return because(Reason::SendFailed);
  if (c.reset_told) return because(Reason::Reset);
  if (d.sending && now - c.send_began >= kSendTimeout) return because(Reason::SendStalled);

  // Who lingers has had his answer, and is given up sooner or later.
  if (d.resets && !is_shut(d, SHUT_WR)) {
    require(view_.loop->shed.get() > sheds_before_, "reset without a reason", &c);
    return because(Reason::Shed);
  }
  require(c.unread.empty(), "closed in the middle of an answer", &c);
  require(!d.sending && d.sent.size() == c.bytes_handed, "closed with bytes unsent", &c);
  if (c.told_to_close) return because(Reason::LastAnswer);
  if (draining_) {
    // Whoever was idle then has been closed, whatever came later.
    require(all_whole_answered(c, c.arrived_at_drain), "drained with a request unanswered", &c);
    return because(Reason::Drained);
  }
  if (c.end_arrived) {
    require(all_whole_answered(c, c.arrived), "a half-closed client was not answered", &c);
    return because(Reason::ClientEnded);
  }
  require(c.answered == c.messages.size() || c.arrived <= c.messages[c.answered].begins,
          "closed while a request arrives", &c);
  require(now - c.quiet_since >= std::min(kHeaderTimeout, kIdleTimeout), "closed without a reason", &c);
  because(Reason::Idle);
}

void ScriptedServer::look_at_closed() {
  for (; closes_seen_ < engine_->closed().size(); ++closes_seen_) {
    const int fd = engine_->closed()[closes_seen_];
    if (fd == kMainListener || fd == kAdminListener) {
      ++listeners_closed_;
      continue;
    }
    const auto at = std::ranges::find(clients_, fd, &Client::fd);
    require(at != clients_.end(), "a descriptor closed that was not open");
    if (at->token != core::Token{}) gone_.push_back(at->token);
    *at = {};
  }
}

Place ScriptedServer::place_of(const Client& c) {
  const auto& d = engine_->descriptor(c.fd);
  if (is_shut(d, SHUT_RDWR)) return Place::Closing;
  if (is_shut(d, SHUT_WR)) return Place::Lingering;
  if (d.sending) return c.told_to_close ? Place::LastAnswer : Place::Answering;
  if (c.answered < c.messages.size() && c.arrived > c.messages[c.answered].begins) return Place::Arriving;
  return c.answered == 0 ? Place::New : Place::Idle;
}

// --- Endings ---------------------------------------------------------------------------------------------------------

// True when something of the current client could complete.
bool ScriptedServer::settle_client() {
  Client& c = client();
  if (!has_begun(c)) return false;
  const auto& d = engine_->descriptor(c.fd);
  // Who was told that this is all closes too.
  if (!c.ended && is_shut(d, SHUT_WR) && c.on_the_way == c.stream.size()) c.ended = true;
  const bool sent = send_ends('s');
  const bool received = receive('a');
  if (received || !in_flight(d.reading) || !d.reading->cancelled) return sent || received;
  return receive_fails('K');
}

bool ScriptedServer::settle() {
  if (full_queue_) toggle_full_queue();
  engine_->leave_completions_behind(leaves_behind_ = false);
  // What was scripted before comes first, and whoever found no buffer asks again a turn later.
  constexpr int kQuietTurns = 3;
  constexpr int kTurnsMax = 10'000;
  const size_t current = current_;
  int turns = 0;
  for (int quiet = 0; quiet < kQuietTurns && goes_on_; ++turns) {
    require(turns < kTurnsMax, "no end of completions");
    bool moved = false;
    for (current_ = 0; current_ < clients_.size(); ++current_) moved = settle_client() || moved;
    for (const int listener : {kMainListener, kAdminListener}) {
      const auto& d = engine_->descriptor(listener);
      if (in_flight(d.reading) && !d.shutdowns.empty()) engine_->accept_ends(listener, -EINVAL);
    }
    // Who waits for a latency to be over needs nothing but time.
    const bool waits = view_.in_flight->get() > 0;
    if (waits) engine_->advance(kLatency);
    turn();
    quiet = moved || waits ? 0 : quiet + 1;
  }
  current_ = current;
  for (const Client& c : clients_) {
    if (c.fd >= 0) check_settled(c);
  }
  ++counts_.settled;
  return true;
}

void ScriptedServer::check_settled(const Client& c) {
  require(!halted_, "a connection outlives the halt", &c);
  require(!c.told_to_close, "a connection outlives its last answer", &c);
  require(!c.reset && !c.send_failed, "a connection outlives its client", &c);
  require(!c.ended, "a connection outlives the end of its client", &c);
  require(c.arrived == c.stream.size(), "bytes that nobody reads", &c);
  require(c.answered == c.messages.size(), "a request without an answer", &c);
  require(in_flight(engine_->descriptor(c.fd).reading), "nobody waits for more", &c);
}

void ScriptedServer::end(bool by_halt) {
  const bool was_draining = draining_ || halted_;
  if (goes_on_ && !was_draining) happen(by_halt ? '#' : '!');
  // Idle connections that came after a drain end by their deadlines.
  constexpr int kSecondsMax = 60;
  if (goes_on_) settle();
  for (int second = 0; goes_on_ && second < kSecondsMax; ++second) {
    engine_->advance(1s);
    settle();
  }
  require(!goes_on_, "no end");
  for (const Client& c : clients_) require(c.fd < 0, "a connection outlives the loop", &c);
  require(listeners_closed_ == 2, "each listener is closed once");
  require(view_.loop->open.get() == 0, "connections in the books of the loop");
  require(view_.loop->accepted.get() + view_.loop->turned_away.get() == counts_.connections, "a client that got lost");
  require(view_.loop->stale_completions.get() == counts_.stale, "a stale completion that was taken for a good one");
  require(letters_read_ == letters_posted_, "a letter was lost");
}

Counts run_script(std::string_view script) {
  ScriptedServer server(script.starts_with('+'));
  for (const char letter : script) {
    if (letter != ' ' && letter != '\n' && letter != '+') server.play(letter);
  }
  server.end(script.size() % 2 == 0);
  return server.counts();
}

}  // namespace kiln::scripted
