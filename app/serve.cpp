// `kiln serve`: opens the listeners, starts a worker a core, and walks through the stages of a pod's end.
#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <future>
#include <latch>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "app/data_location.h"
#include "app/free_memory.h"
#include "app/log.h"
#include "app/pod.h"
#include "app/sandbox.h"
#include "app/verbs.h"
#include "app/version.h"
#include "app/worker.h"
#include "base/cgroup.h"
#include "base/quantity.h"
#include "core/listener.h"
#include "core/workers.h"
#include "web/index.html.h"

namespace kiln::app {

namespace {

using core::Duration;
using core::TimePoint;

// Descriptors that are no connections: ring, eventfd, listeners, logs, control group files.
constexpr uint64_t kDescriptorsKept = 40;
constexpr uint64_t kConnectionsMin = 8;

constexpr int kBadCommandLine = 2;

// The soft limit on descriptors goes up to the hard one; the cap on connections follows what is left.
uint32_t connections_max(const ServeSettings& settings) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return settings.connections_max;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
  const uint64_t beside = Worker::connections_beside_max(settings.admin_port.has_value());
  const uint64_t kept = std::min<uint64_t>(kDescriptorsKept + beside, limit.rlim_max / 2);
  const uint64_t room = limit.rlim_max > kept + kConnectionsMin ? limit.rlim_max - kept : kConnectionsMin;
  return static_cast<uint32_t>(std::min<uint64_t>(settings.connections_max, room));
}

core::LoopOptions loop_options(const Pod& pod, uint32_t connections_max) {
  // A body grows by doubling and is then copied into its answer: less would shed the only client there is.
  constexpr uint64_t kBodiesAWorkerMin = 4;
  return {.connections_max = connections_max,
          .send_timeout = pod.settings.write_timeout,
          .linger_timeout = pod.settings.linger_timeout,
          .lingering_max = std::max(connections_max / 8, 1U),
          .held_bytes_max = std::max(pod.settings.buffered_max / pod.worker_count,
                                     kBodiesAWorkerMin * std::max(pod.settings.body_max, pod.settings.data_max))};
}

struct Listeners {
  std::vector<base::Fd> main;  // one a worker
  base::Fd admin;
};

std::unexpected<base::Error> of_flag(std::string_view flag, uint16_t port, base::Error error) {
  error.what = fmt::format("{} {}: {}", flag, port, error.what);
  return std::unexpected(std::move(error));
}

// A process that was killed with an io_uring leaves its sockets to the kernel, which closes them a little after the
// process is gone. So a port in use is looked at again for a moment, before it is somebody else's.
base::Result<base::Fd> listen_soon(const core::ListenOptions& options) {
  constexpr auto kMoment = std::chrono::milliseconds(500);
  constexpr int kLookEveryMilliseconds = 10;
  const TimePoint until = std::chrono::steady_clock::now() + kMoment;
  for (;;) {
    auto listener = core::listen(options);
    if (listener || listener.error().code != EADDRINUSE || std::chrono::steady_clock::now() >= until) return listener;
    ::poll(nullptr, 0, kLookEveryMilliseconds);
  }
}

base::Result<Listeners> open_listeners(const ServeSettings& settings, unsigned workers) {
  Listeners out;
  // Alone first: sharing the port would also share it with a second kiln, without a word.
  auto alone = listen_soon({.address = settings.address, .port = settings.port});
  if (!alone) return of_flag("--port", settings.port, std::move(alone.error()));
  if (workers == 1) {
    out.main.push_back(std::move(*alone));
  } else {
    const uint16_t port = core::port_of(alone->get());
    alone->reset();
    for (unsigned i = 0; i < workers; ++i) {
      auto shared = core::listen({.address = settings.address, .port = port, .share_port = true});
      if (!shared) return std::unexpected(std::move(shared.error()));
      out.main.push_back(std::move(*shared));
    }
  }
  if (settings.admin_port) {
    auto admin = listen_soon({.address = settings.address, .port = *settings.admin_port});
    if (!admin) return of_flag("--admin-port", *settings.admin_port, std::move(admin.error()));
    out.admin = std::move(*admin);
  }
  return out;
}

// The signals that end a server, and the workers' news that they have ended, as one thing to wait for.
class Control {
 public:
  enum class Event : uint8_t { Terminate, Interrupt, WorkersDone, Timeout };

  static base::Result<Control> open() {
    sigset_t signals;
    ::sigemptyset(&signals);
    ::sigaddset(&signals, SIGTERM);
    ::sigaddset(&signals, SIGINT);
    // Blocked before any other thread exists, so that only this descriptor sees them. A pod's first process has no
    // default action for SIGTERM: unseen, it would be ignored.
    ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    base::Fd signalfd(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!signalfd.valid()) return base::system_error("signalfd", errno);
    base::Fd eventfd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!eventfd.valid()) return base::system_error("eventfd", errno);
    return Control(std::move(signalfd), std::move(eventfd));
  }

  // Any thread.
  void worker_done() { ::eventfd_write(done_.get(), 1); }

  // Nothing: waits for ever.
  Event wait(std::optional<TimePoint> until, unsigned workers) {
    for (;;) {
      int timeout = -1;
      if (until) {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(*until - std::chrono::steady_clock::now());
        if (left.count() <= 0) return Event::Timeout;
        timeout = static_cast<int>(left.count());
      }
      pollfd watched[2] = {{.fd = signals_.get(), .events = POLLIN, .revents = 0},
                           {.fd = done_.get(), .events = POLLIN, .revents = 0}};
      ::poll(watched, 2, timeout);
      signalfd_siginfo info{};
      if (::read(signals_.get(), &info, sizeof info) == sizeof info) {
        return info.ssi_signo == static_cast<uint32_t>(SIGTERM) ? Event::Terminate : Event::Interrupt;
      }
      eventfd_t more = 0;
      if (::eventfd_read(done_.get(), &more) == 0) done_count_ += more;
      if (done_count_ >= workers) return Event::WorkersDone;
    }
  }

 private:
  Control(base::Fd signals, base::Fd done) : signals_(std::move(signals)), done_(std::move(done)) {}

  base::Fd signals_;
  base::Fd done_;
  uint64_t done_count_ = 0;
};

// What a worker's thread tells before it serves.
struct Report {
  Worker* worker = nullptr;  // nothing: `reason` says why
  core::EngineKind engine = core::EngineKind::Epoll;
  std::string restrictions = {};  // of the engine's ring
  std::string reason;
};

// A worker's thread. It opens its engine itself, since a ring belongs to the thread that made it, reports, and waits
// for the word to start.
class WorkerThread {
 public:
  struct Place {
    unsigned index;
    uint32_t connections_max;
    base::Fd listener;
    base::Fd admin;
  };

  // `all_done` counts every worker, which read each other's counters, and whoever else still speaks to them.
  WorkerThread(Pod& pod, Control& control, std::latch& all_done, Place place)
      : thread_([this, &pod, &control, &all_done, place = std::move(place)]() mutable {
          run(pod, control, all_done, std::move(place));
        }) {}

  ~WorkerThread() {
    start(false);
    thread_.join();
  }

  Report report() { return report_.get_future().get(); }

  void start(bool go) {
    if (!std::exchange(told_, true)) go_.set_value(go);
  }

 private:
  void run(Pod& pod, Control& control, std::latch& all_done, Place place) {
    auto opened = core::open_engine(pod.settings.engine, {});
    auto mailbox = core::Mailbox::open();
    if (!opened || !mailbox) {
      return report_.set_value({.reason = opened ? mailbox.error().what : opened.error().what});
    }
    const core::EngineKind kind = opened->engine->kind();
    std::string restrictions = opened->engine->restrictions();
    Worker worker(pod, std::move(opened->engine), std::move(*mailbox), place.index,
                  loop_options(pod, place.connections_max));
    report_.set_value({.worker = &worker,
                       .engine = kind,
                       .restrictions = std::move(restrictions),
                       .reason = std::move(opened->reason)});
    if (!go_.get_future().get()) return;
    worker.start(std::move(place.listener), place.connections_max, std::move(place.admin));
    worker.run();
    control.worker_done();
    all_done.arrive_and_wait();
  }

  bool told_ = false;
  std::promise<Report> report_;
  std::promise<bool> go_;
  std::thread thread_;
};

// Of what this process could do, what it no longer can; for people.
struct Confinement {
  std::string rings;    // whether they are restricted, of the first worker
  std::string sandbox;  // "on" or "off: why"
};

// All engines are open, so no ring is missing; nothing is served yet, so nothing hostile has come.
std::string enter_sandbox(const ServeSettings& settings) {
  if (settings.no_sandbox) return "off: --no-sandbox";
  if (const auto installed = install_sandbox(); !installed) {
    log::warning("the sandbox cannot be had", {{"reason", installed.error().what}});
    return "off: " + installed.error().what;
  }
  return "on";
}

// Once when the records are out of reach and once when they are back, however many ask for them meanwhile.
void log_store(const store::News& news) {
  const std::string what = news.changes ? "records cannot be written" : "records cannot be read";
  if (!news.available) return log::warning(what, {{"reason", news.reason}});
  log::info(news.changes ? "records can be written again" : "records can be read again",
            {{"after", base::format_duration(std::chrono::round<std::chrono::milliseconds>(news.outage))}});
}

base::Result<void> open_store(Pod& pod) {
  auto database = open_database(pod.settings);
  if (!database) return std::unexpected(std::move(database.error()));
  pod.store = std::make_unique<store::Store>(
      store::StoreOptions{.database = std::move(*database),
                          .tell = log_store,
                          .spent = [&books = pod.books](burn::Books::Duration step) { books.add_helper(step); },
                          .rest = return_free_memory,
                          .batch_max = pod.settings.data_batch});
  return {};
}

void log_start(const Pod& pod, const core::WorkerCount& count, const Confinement& confinement, uint16_t port,
               uint16_t admin_port) {
  log::info("listening", {{"port", int64_t{port}},
                          {"admin_port", admin_port == 0 ? std::string("none") : std::to_string(admin_port)},
                          {"engine", pod.engine},
                          {"engine_reason", pod.engine_reason},
                          {"ring_restrictions", confinement.rings},
                          {"sandbox", confinement.sandbox},
                          {"workers", int64_t{count.count}},
                          {"workers_from", count.source},
                          {"data", std::string(pod.store->database_name())},
                          {"pod", pod.identity.pod_name},
                          {"node", pod.identity.node_name},
                          {"version", std::string(build_facts().version)}});
}

// From the first signal to the end. Not ready at once, so that Kubernetes stops sending; still accepting for the drain
// delay, because it takes a while to notice; then no more connections, and what is in flight is finished.
void wind_down(Pod& pod, Control& control, const std::vector<Worker*>& workers, Control::Event first) {
  const auto all = [&workers](void (Worker::*call)()) {
    for (Worker* worker : workers) worker->post([worker, call] { (worker->*call)(); });
  };
  const auto count = static_cast<unsigned>(workers.size());
  const auto now = [] { return std::chrono::steady_clock::now(); };
  using Event = Control::Event;

  pod.life = Life::Draining;
  all(&Worker::announce_close);
  // On a terminal nobody routes traffic to us, and somebody waits for the prompt.
  const Duration delay = first == Event::Interrupt ? Duration::zero() : pod.settings.drain_delay;
  log::info("draining",
            {{"delay", base::format_duration(delay)}, {"timeout", base::format_duration(pod.settings.drain_timeout)}});
  Event event = control.wait(now() + delay, count);
  if (event == Event::Timeout) {
    all(&Worker::drain);
    event = control.wait(now() + pod.settings.drain_timeout, count);
  }
  if (event != Event::WorkersDone) {
    log::warning(event == Event::Timeout ? "drain timeout: closing what is left" : "second signal: closing everything");
    all(&Worker::halt);
    if (control.wait(now() + std::chrono::seconds(1), count) == Event::WorkersDone) return;
    // The kernel tears down what a stuck worker still holds.
    log::finish();
    std::_Exit(0);
  }
}

}  // namespace

int serve(const ServeSettings& settings) {
  log::start();
  const auto fail = [](const base::Error& error) {
    log::error(error.what);
    log::finish();
    return 1;
  };
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);  // a write past a limit on files shall fail, and not end the process (setrlimit(2))
  auto control = Control::open();
  if (!control) return fail(control.error());

  base::Cgroup cgroup = base::Cgroup::find();
  for (const std::string& warning : cgroup.warnings()) log::warning(warning);
  const core::WorkerCount count = core::count_workers(settings.workers, core::affinity_cpus(), cgroup);
  auto listeners = open_listeners(settings, count.count);
  if (!listeners) return fail(listeners.error());
  const uint16_t port = core::port_of(listeners->main.front().get());
  const uint16_t admin_port = listeners->admin.valid() ? core::port_of(listeners->admin.get()) : uint16_t{0};

  Identity identity = Identity::find(::getenv, port);
  if (!identity.warnings.empty()) log::warning("not usable, ignored: " + identity.warnings);
  Pod pod(settings, std::move(identity), std::move(cgroup), count.count);
  if (auto opened = open_store(pod); !opened) {
    if (opened.error().code != EINVAL) return fail(opened.error());
    log::finish();
    fmt::print(stderr, "kiln serve: --data-uri or --mongo-host: {}\n", opened.error().what);
    return kBadCommandLine;
  }
  pod.sample(std::chrono::steady_clock::now());
  const uint32_t connections_each = std::max(connections_max(settings) / count.count, 1U);

  std::latch all_done(count.count + 1);  // and this thread, which posts to the workers until the end
  std::vector<std::unique_ptr<WorkerThread>> threads;
  for (unsigned i = 0; i < count.count; ++i) {
    threads.push_back(std::make_unique<WorkerThread>(
        pod, *control, all_done,
        WorkerThread::Place{.index = i,
                            .connections_max = connections_each,
                            .listener = std::move(listeners->main[i]),
                            .admin = i == 0 ? std::move(listeners->admin) : base::Fd()}));
  }
  std::vector<Worker*> workers;
  Confinement confinement;
  for (const auto& thread : threads) {
    const Report report = thread->report();
    if (report.worker == nullptr) return fail({0, report.reason});
    if (workers.empty()) {
      pod.engine = core::engine_name(report.engine);
      pod.engine_reason = report.reason;
      confinement.rings = report.restrictions;
    } else if (pod.engine != core::engine_name(report.engine)) {
      log::warning("workers differ in their engine",
                   {{"engine", std::string(core::engine_name(report.engine))}, {"reason", report.reason}});
    }
    workers.push_back(report.worker);
    pod.workers.push_back(report.worker->view());
  }
  pod.page = render_page(kIndexHtml, pod.identity, pod.engine);
  confinement.sandbox = enter_sandbox(settings);
  pod.life = Life::Ready;
  log_start(pod, count, confinement, port, admin_port);
  if (settings.fault_from_the_start) {
    log_fault(*pod.faults.add({.kind = *settings.fault_from_the_start}, std::chrono::steady_clock::now()));
  }
  for (const auto& thread : threads) thread->start(true);

  wind_down(pod, *control, workers, control->wait(std::nullopt, count.count));
  const uint64_t answered = pod.requests_total();
  if (!pod.store->stop(std::chrono::seconds(1))) {
    log::warning("the database still holds a thread: ending without it");
    log::finish();
    std::_Exit(0);
  }
  all_done.count_down();
  threads.clear();
  log::info("stopped", {{"requests", static_cast<int64_t>(answered)}});
  log::finish();
  return 0;
}

}  // namespace kiln::app
