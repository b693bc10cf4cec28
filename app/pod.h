// This process as its users see it: settings, identity, state, and what all workers share. Everything is either fixed
// before the workers start or safe to read from any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "app/bumped_metrics.h"
#include "app/faults.h"
#include "app/identity.h"
#include "app/metrics.h"
#include "app/settings.h"
#include "app/usage.h"
#include "burn/books.h"
#include "burn/burner.h"
#include "burn/exactness.h"
#include "burn/holds.h"
#include "burn/memory_holds.h"
#include "burn/serving_meter.h"
#include "core/loop.h"
#include "store/store.h"

namespace kiln::app {

class Worker;

enum class Life : uint8_t { Starting, Ready, Draining };

// What one worker lets others read.
struct WorkerView {
  const RequestCounters* requests = nullptr;
  const core::LoopCounters* loop = nullptr;
  const core::EngineCounters* engine = nullptr;
  burn::Burner* burner = nullptr;
  const burn::ServingMeter* meter = nullptr;
  const base::Counter* in_flight = nullptr;
  Worker* worker = nullptr;  // to post to
};

struct Pod {
  Pod(ServeSettings serve_settings, Identity who, base::Cgroup cgroup, size_t count_of_workers);

  const ServeSettings settings;
  const size_t worker_count;
  const Identity identity;
  Usage usage;
  const core::TimePoint started;
  const double started_at_unix;  // seconds
  std::atomic<Life> life{Life::Starting};
  burn::Books books;
  burn::Holds holds;
  std::atomic<burn::Duration::rep> burn_waiting{0};  // of all workers' burners: --burn-queue bounds the process
  burn::MemoryHolds memory;
  BumpedMetrics bumped;
  Faults faults;
  std::unique_ptr<store::Store> store;  // set before the workers; it is stopped before they are gone

  // Set while Life::Starting, before anything is served.
  std::string engine;  // "io_uring" or "epoll"
  std::string engine_reason;
  std::vector<WorkerView> workers;

  std::string page;

  const std::string hello;  // "Hello from POD on NODE"
  const std::string version_json;

  // Once a second, by one thread at a time: usage, and what follows from it.
  void sample(core::TimePoint now);

  // True when the pod does nothing of its own accord: no burn and no hold. Its usage need not be watched then.
  [[nodiscard]] bool quiet();
  [[nodiscard]] uint64_t requests_total() const;
  [[nodiscard]] std::optional<double> limit_millicores() const;  // given, or the quota of the group
  [[nodiscard]] double burned_seconds() const;
  // Of the last minute; nothing at first.
  [[nodiscard]] std::optional<burn::Exactness::Figures> exactness() const;
  // What was billed since the pod is ready and is in no book, in seconds.
  [[nodiscard]] std::optional<double> residual_seconds() const;

 private:
  mutable std::mutex mutex_;
  burn::Exactness exactness_;
  std::optional<burn::Duration> billed_before_;  // what residual_seconds() counts from
  std::optional<double> residual_seconds_;
};

// The page with the answering pod in it (web/index.html's placeholders filled in, HTML-escaped).
std::string render_page(std::string_view page_template, const Identity& identity, std::string_view engine);

// Every metric of the process; `routes` are the labels in the order of RequestCounters.
std::string render_metrics(Pod& pod, const std::vector<std::string_view>& routes);
// True when a metric of that name is the process's own, or looks like a series of one.
bool exports_metric(Pod& pod, const std::vector<std::string_view>& routes, std::string_view name);

// The body of /api/info. All renderings of one process have the same length: blanks fill up what numbers do not need,
// because ab counts any other length as a failed request.
class InfoBody {
 public:
  explicit InfoBody(const Pod& pod) : pod_(pod) {}

  // Reads the pod's figures anew; once a second is enough.
  void refresh(core::TimePoint now);
  // The body, true to the millisecond in its timestamp.
  std::string_view at(int64_t unix_milliseconds);

 private:
  const Pod& pod_;
  std::string body_;
  size_t timestamp_at_ = 0;
  int64_t timestamp_ = 0;
  size_t length_ = 0;
};

}  // namespace kiln::app
