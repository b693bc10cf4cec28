#include "load/generator.h"

#include <fmt/format.h>
#include <sys/prctl.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <ctime>
#include <fstream>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>
#include <variant>

#include "base/check.h"
#include "core/loop.h"
#include "http/request_writer.h"
#include "load/client.h"
#include "load/fetch.h"

namespace kiln::load {

namespace {

constexpr std::chrono::seconds kConnectTimeout{5};
constexpr std::chrono::milliseconds kStartDelay{100};  // until the threads are there

double thread_cpu_seconds() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

// Ready to run, and another thread or the quota of a control group had the CPU (Documentation/scheduler/
// sched-stats.rst, /proc/PID/schedstat: the second figure, in nanoseconds).
double thread_wait_seconds() {
  std::ifstream file("/proc/thread-self/schedstat");
  double ran = 0, waited = 0;
  return file >> ran >> waited ? waited / 1e9 : 0;
}

// What the threads tell the one that waits for them.
struct Board {
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<std::function<void()>> stops;  // a thread's is empty unless its loop runs
  bool stopping = false;
  uint32_t running = 0;                      // threads
  std::vector<SecondReport> seconds;
  std::vector<uint64_t> told;  // how many seconds each thread has told of; more than any once it has ended
  std::optional<Report> report;
  std::optional<base::Error> error;
};

void tell_second(Board& board, uint32_t thread, uint64_t index, const SecondReport& second) {
  const std::lock_guard lock(board.mutex);
  if (index >= board.seconds.size()) board.seconds.resize(index + 1);
  add(board.seconds[index], second);
  board.told[thread] = index + 1;
  board.changed.notify_one();
}

// A thread's life, but for what it says at its end.
base::Result<Report> run_client(const ClientOptions& options, core::EngineRequest request, uint32_t index,
                                Board& board) {
  // The kernel may wake a thread that much late, 50 us by default (prctl(2)).
  ::prctl(PR_SET_TIMERSLACK, 1000UL, 0, 0, 0);
  auto opened = core::open_engine(request, {.connects = true});
  if (!opened) return std::unexpected(std::move(opened.error()));
  auto mailbox = core::Mailbox::open();
  if (!mailbox) return std::unexpected(std::move(mailbox.error()));
  Client client(options,
                [&](uint64_t second, const SecondReport& report) { tell_second(board, index, second, report); });
  core::Loop loop(std::move(opened->engine), std::move(*mailbox), client,
                  {// Of a request that the server does not read: a little later than the client's own deadline, which
                   // has then passed for certain.
                   .send_timeout = options.timeout + std::chrono::milliseconds(10),
                   // What waits to be sent is what was asked for.
                   .held_bytes_max = std::numeric_limits<size_t>::max()});
  client.begin(loop);
  const auto let_stop = [&](std::function<void()> stop) {
    const std::lock_guard lock(board.mutex);
    board.stops[index] = std::move(stop);
    if (board.stopping && board.stops[index]) board.stops[index]();
  };
  let_stop([&] { loop.post([&] { client.stop(); }); });
  loop.run();
  let_stop({});
  Report report = client.take_report();
  report.cpu_seconds = thread_cpu_seconds();
  report.cpu_wait_seconds = thread_wait_seconds();
  return report;
}

void stop_all(Board& board) {
  board.stopping = true;
  for (const auto& stop : board.stops) {
    if (stop) stop();
  }
}

}  // namespace

base::Result<std::string> request_text(const GeneratorOptions& options, bool keep_alive) {
  std::string text;
  const http::RequestWritten written = http::write_request_head({.method = options.method,
                                                                 .target = options.url.target,
                                                                 .host = options.url.authority,
                                                                 .fields = options.fields,
                                                                 .content_length = options.body.size(),
                                                                 .keep_alive = keep_alive},
                                                                text);
  using enum http::RequestFault;
  const std::string why(request_fault_text(written.fault));
  switch (written.fault) {
    case None: return text + options.body;
    case BadMethod: return base::error(fmt::format("--method: '{}': {}", printable(options.method), why));
    case BadFieldName:
    case BadFieldValue:
    case FieldIsOurs: {
      const http::Field& field = options.fields[written.field];
      const std::string line = printable(fmt::format("{}: {}", field.name, field.value));
      return base::error(fmt::format("--header: '{}': {}", line, why));
    }
    case BadTarget:
    case BadHost: break;
  }
  return base::error(why);
}

namespace {

// FNV-1a, 64 bits: to notice a mistake, not to withstand an attack.
std::string digest(std::string_view bytes) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char c : bytes) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return fmt::format("{:016x}", hash);
}

// All that the times of the arrivals depend on, but for the shard. Numbers as they are to the last bit: they are parsed
// alike everywhere.
std::string schedule_text(const GeneratorOptions& options) {
  const bool poisson = options.arrivals == profile::Arrivals::Poisson;
  std::string text = poisson ? fmt::format("poisson {}", options.seed) : "uniform";
  for (const profile::Piece& piece : options.profile.pieces()) {
    text += fmt::format("; until {} ", piece.ends.count());
    if (const auto* ramp = std::get_if<profile::Ramp>(&piece.shape)) {
      text += fmt::format("ramp {} {} {}", ramp->from, ramp->to, ramp->seconds);
    } else if (const auto* sine = std::get_if<profile::Sine>(&piece.shape)) {
      text += fmt::format("sine {} {} {}", sine->mean, sine->amplitude, sine->period);
    } else if (const auto* burst = std::get_if<profile::Burst>(&piece.shape)) {
      text += fmt::format("burst {} {} {} {}", burst->base, burst->peak, burst->every, burst->width);
    }
  }
  return text;
}

// With what was asked.
Report report_of(const GeneratorOptions& options, Report report) {
  report.schedule_digest = digest(schedule_text(options));
  report.request_digest = digest(*request_text(options, true));
  report.url = printable("http://" + options.url.authority + options.url.target);
  report.profile = printable(options.profile_text);
  report.arrivals = options.arrivals == profile::Arrivals::Poisson ? "poisson" : "uniform";
  report.seed = options.seed;
  report.shards = {{.index = options.shard.index, .count = options.shard.count}};
  report.planned_seconds = std::chrono::duration<double>(options.profile.duration()).count();
  report.threads = options.threads;
  report.connections_max = options.connections_max;
  return report;
}

}  // namespace

base::Result<Report> run(const GeneratorOptions& options, const SecondDone& second_done,
                         const std::function<bool()>& interrupted) {
  CHECK(options.threads <= options.connections_max);
  auto request = request_text(options, true);
  if (!request) return std::unexpected(std::move(request.error()));
  auto server = connect(options.url, kConnectTimeout, interrupted);
  if (!server && server.error().code == EINTR) {
    Report nothing;
    nothing.interrupted = true;
    return report_of(options, std::move(nothing));
  }
  if (!server) return std::unexpected(std::move(server.error()));
  server->socket.reset();
  const auto now = std::chrono::system_clock::now();
  const auto start = options.start.value_or(now + kStartDelay);
  ClientOptions client{.profile = &options.profile,
                       .schedule = {.arrivals = options.arrivals, .seed = options.seed, .shard = {}},
                       .address = server->address,
                       .request = *request,
                       .last_request = *request_text(options, false),
                       .method = options.method == "HEAD" ? http::Method::Head : http::Method::Get,
                       .keepalive_age = options.keepalive_age,
                       .timeout = options.timeout,
                       .connect_timeout = kConnectTimeout,
                       // The two clocks differ by what the one on the wall is set to.
                       .start = std::chrono::steady_clock::now() + (start - now)};

  Board board;
  board.stops.resize(options.threads);
  board.told.resize(options.threads);
  board.running = options.threads;
  const auto live = [&board, &options](const ClientOptions& own, uint32_t index) {
    auto report = run_client(own, options.engine, index, board);
    const std::lock_guard lock(board.mutex);
    --board.running;
    board.told[index] = std::numeric_limits<uint64_t>::max();
    if (!report) {
      board.error = std::move(report.error());
      stop_all(board);
    } else if (board.report) {
      add(*board.report, *report);
    } else {
      board.report = std::move(*report);
    }
    board.changed.notify_one();
  };
  std::vector<std::jthread> threads;
  for (uint32_t i = 0; i < options.threads; ++i) {
    // A thread's share of this shard's share, and of the connections.
    client.schedule.shard = {.index = options.shard.index + options.shard.count * i,
                             .count = options.shard.count * options.threads};
    const uint32_t left_over = options.connections_max % options.threads;
    client.connections_max = options.connections_max / options.threads + (i < left_over ? 1 : 0);
    try {
      threads.emplace_back(live, client, i);
    } catch (const std::system_error& failed) {
      const std::lock_guard lock(board.mutex);
      board.running -= options.threads - i;
      board.error = base::Error{.code = failed.code().value(),
                                .what = fmt::format("starting thread {} of {}: {}: fewer --threads may do", i + 1,
                                                    options.threads, failed.code().message())};
      stop_all(board);
      break;
    }
  }

  bool stopped = false;
  std::unique_lock lock(board.mutex);
  for (uint64_t next = 0; board.running > 0 || next < board.seconds.size();) {
    if (board.running > 0) board.changed.wait_for(lock, std::chrono::milliseconds(100));
    while (next < board.seconds.size() && (board.running == 0 || next < std::ranges::min(board.told))) {
      const SecondReport second = std::exchange(board.seconds[next], {});
      lock.unlock();
      second_done(next++, second);
      lock.lock();
    }
    if (!stopped && interrupted()) {
      stopped = true;
      stop_all(board);
    }
  }
  lock.unlock();
  threads.clear();
  if (board.error) return std::unexpected(std::move(*board.error));

  board.report->started_at = std::chrono::duration<double>(start.time_since_epoch()).count();
  board.report->interrupted = stopped;
  return report_of(options, std::move(*board.report));
}

}  // namespace kiln::load
