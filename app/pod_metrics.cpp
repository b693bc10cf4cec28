// What /metrics says. Names and units follow Prometheus' conventions; labels are route templates and RFC methods, never
// what a client wrote.
#include <fmt/format.h>

#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <chrono>

#include "app/pod.h"
#include "app/version.h"

namespace kiln::app {

namespace {

using Type = MetricsText::Type;

// What a histogram's samples append to its name.
constexpr std::string_view kSeries[] = {"_bucket", "_sum", "_count"};

template <class Read>
uint64_t sum(const Pod& pod, Read&& read) {
  uint64_t total = 0;
  for (const WorkerView& worker : pod.workers) total += read(worker);
  return total;
}

double seconds(core::Duration duration) { return std::chrono::duration<double>(duration).count(); }

std::string labels_of(std::string_view route, std::string_view name, std::string_view value) {
  return MetricsText::label("route", route) + "," + MetricsText::label(name, value);
}

void requests(const Pod& pod, const std::vector<std::string_view>& routes, MetricsText& out) {
  out.family("http_requests_total", Type::Counter, "Requests answered.");
  for (size_t route = 0; route < routes.size(); ++route) {
    for (size_t method = 0; method < RequestCounters::kMethods; ++method) {
      for (size_t code = 0; code < RequestCounters::kCodes.size(); ++code) {
        const uint64_t n =
            sum(pod, [&](const WorkerView& w) { return w.requests->route(route).requests[method][code].get(); });
        if (n == 0) continue;
        const int status = RequestCounters::kCodes[code];
        out.sample(MetricsText::label("method", http::method_name(static_cast<http::Method>(method))) + "," +
                       labels_of(routes[route], "code", status == 0 ? "other" : std::to_string(status)),
                   n);
      }
    }
  }
}

void durations(const Pod& pod, const std::vector<std::string_view>& routes, MetricsText& out) {
  out.family("http_request_duration_seconds", Type::Histogram, "From a whole request to its answer.");
  for (size_t route = 0; route < routes.size(); ++route) {
    uint64_t count = 0;
    std::array<uint64_t, RequestCounters::kBuckets.size() + 1> cumulative{};
    for (size_t bucket = 0; bucket < cumulative.size(); ++bucket) {
      count += sum(pod, [&](const WorkerView& w) { return w.requests->route(route).buckets[bucket].get(); });
      cumulative[bucket] = count;
    }
    if (count == 0) continue;
    for (size_t bucket = 0; bucket < cumulative.size(); ++bucket) {
      const std::string le =
          bucket < RequestCounters::kBuckets.size() ? fmt::format("{}", RequestCounters::kBuckets[bucket]) : "+Inf";
      out.sample(labels_of(routes[route], "le", le), cumulative[bucket], "_bucket");
    }
    const std::string label = MetricsText::label("route", routes[route]);
    const uint64_t nanoseconds =
        sum(pod, [&](const WorkerView& w) { return w.requests->route(route).nanoseconds.get(); });
    out.sample(label, static_cast<double>(nanoseconds) / 1e9, "_sum");
    out.sample(label, count, "_count");
  }
}

void connections(const Pod& pod, MetricsText& out) {
  const uint64_t in_flight = sum(pod, [](const WorkerView& w) { return w.in_flight->get(); });
  const uint64_t open = sum(pod, [](const WorkerView& w) { return w.loop->open.get(); });
  out.family("http_requests_in_flight", Type::Gauge, "Requests being worked on.");
  out.sample({}, in_flight);
  out.family("http_connections", Type::Gauge, "Open connections: active ones have a request being worked on.");
  out.sample(MetricsText::label("state", "active"), std::min(in_flight, open));
  out.sample(MetricsText::label("state", "idle"), open - std::min(in_flight, open));
  out.family("http_connections_accepted_total", Type::Counter, "Connections accepted.");
  out.sample({}, sum(pod, [](const WorkerView& w) { return w.loop->accepted.get(); }));
  out.family("http_connections_turned_away_total", Type::Counter, "Connections closed at the cap.");
  out.sample({}, sum(pod, [](const WorkerView& w) { return w.loop->turned_away.get(); }));
  out.family("http_accept_errors_total", Type::Counter, "Failed accepts, descriptor shortage included.");
  out.sample({}, sum(pod, [](const WorkerView& w) { return w.loop->accept_errors.get(); }));
}

void burns(const Pod& pod, MetricsText& out) {
  double waiting = 0;
  uint64_t refused = 0;
  for (const WorkerView& worker : pod.workers) {
    waiting += seconds(worker.burner->waiting());
    refused += worker.burner->refused_total();
  }
  out.family("kiln_burn_cpu_seconds_total", Type::Counter, "CPU time that burns were asked for, and that they burned.");
  out.sample(MetricsText::label("kind", "asked"), seconds(pod.books.asked()));
  out.sample(MetricsText::label("kind", "burned"), pod.burned_seconds());
  out.family("kiln_burn_units_per_second", Type::Gauge, "Steps of work that this machine burns in a second of CPU.");
  out.sample({}, pod.workers.front().burner->units_a_second());
  out.family("kiln_burn_queue_seconds", Type::Gauge, "CPU time admitted and not yet burned.");
  out.sample({}, waiting);
  out.family("kiln_burn_rejected_total", Type::Counter, "Burns refused because the queue was full.");
  out.sample({}, refused);
}

void holds(Pod& pod, MetricsText& out) {
  out.family("kiln_hold_millicores", Type::Gauge, "CPU that all holds together ask for, and what they get.");
  out.sample(MetricsText::label("kind", "asked"), pod.holds.target(std::chrono::steady_clock::now()));
  if (const auto achieved = pod.holds.achieved()) out.sample(MetricsText::label("kind", "achieved"), *achieved);
  out.family("kiln_memory_held_bytes", Type::Gauge, "Memory touched for holds and not yet given back.");
  out.sample({}, pod.memory.held());
}

void bumped(Pod& pod, MetricsText& out) {
  for (const auto& [name, value] : pod.bumped.list(std::chrono::steady_clock::now())) {
    out.family(name, Type::Gauge, "Bumped by POST /BumpMetric.");
    out.sample({}, value);
  }
}

// Everything that is no burn: with those it adds up to the CPU time of all loops and burners.
void overhead(const Pod& pod, const std::vector<std::string_view>& routes, MetricsText& out) {
  out.family("kiln_request_overhead_cpu_seconds_total", Type::Counter,
             "CPU time of serving, paid out of the budgets of burns or on top of them.");
  core::Duration extra{};
  for (size_t route = 0; route < routes.size(); ++route) {
    core::Duration budget{};
    core::Duration on_top{};
    for (const WorkerView& worker : pod.workers) {
      budget += worker.meter->cost_of(route).budget.get();
      on_top += worker.meter->cost_of(route).extra.get();
    }
    extra += on_top;
    if (budget.count() > 0) out.sample(labels_of(routes[route], "paid", "budget"), seconds(budget));
    if (on_top.count() > 0) out.sample(labels_of(routes[route], "paid", "extra"), seconds(on_top));
  }
  const core::Duration held = pod.books.sum(&burn::Account::held);
  out.family("kiln_hold_cpu_seconds_total", Type::Counter, "CPU time burned by holds.");
  out.sample({}, seconds(held));
  out.family("kiln_background_cpu_seconds", Type::Gauge, "CPU time of loops, burners and the store for none of these.");
  out.sample({}, seconds(pod.books.outside() - held - extra));
}

template <size_t n>
void histogram(const base::Histogram<n>& values, const std::string& label, MetricsText& out) {
  uint64_t count = 0;
  for (size_t bucket = 0; bucket <= n; ++bucket) {
    count += values.bucket(bucket);
    const std::string le = bucket < n ? fmt::format("{}", values.bounds()[bucket]) : "+Inf";
    out.sample(label + "," + MetricsText::label("le", le), count, "_bucket");
  }
  out.sample(label, values.sum(), "_sum");
  out.sample(label, count, "_count");
}

void faults(const Pod& pod, MetricsText& out) {
  if (!pod.settings.faults) return;
  const core::TimePoint now = std::chrono::steady_clock::now();
  out.family("kiln_fault_active", Type::Gauge, "1 while a fault of this kind is in force (--faults).");
  for (const FaultKind kind : kFaultKinds) {
    out.sample(MetricsText::label("fault", fault_name(kind)), uint64_t{pod.faults.is_active(kind, now) ? 1U : 0U});
  }
}

void records(const Pod& pod, MetricsText& out) {
  using store::Operation;
  constexpr std::array kOperations{Operation::Insert, Operation::Remove, Operation::Find, Operation::List};
  constexpr std::array kOutcomes{store::Outcome::Done, store::Outcome::NotFound, store::Outcome::Unavailable,
                                 store::Outcome::Busy};
  if (!pod.store) return;
  const store::Store& store = *pod.store;
  out.family("kiln_store_info", Type::Gauge, "Where records are kept.");
  out.sample(MetricsText::label("database", store.database_name()), uint64_t{1});
  out.family("kiln_store_up", Type::Gauge, "1 unless the last attempt to reach the records failed.");
  out.sample({}, uint64_t{store.available() ? 1U : 0U});
  out.family("kiln_store_queue_length", Type::Gauge, "Requests that wait for the database.");
  out.sample({}, uint64_t{store.waiting()});
  const auto of = [](Operation operation) { return MetricsText::label("operation", operation_name(operation)); };
  out.family("kiln_store_operations_total", Type::Counter, "What was asked of the database, and what came of it.");
  for (const Operation operation : kOperations) {
    for (const store::Outcome outcome : kOutcomes) {
      out.sample(of(operation) + "," + MetricsText::label("outcome", outcome_name(outcome)),
                 store.count(operation, outcome));
    }
  }
  out.family("kiln_store_operation_duration_seconds", Type::Histogram, "From the question to the answer.");
  for (const Operation operation : kOperations) histogram(store.took(operation), of(operation), out);
  out.family("kiln_store_batch_size", Type::Histogram, "Requests that shared a transaction, or a reading.");
  histogram(store.changes().batches, MetricsText::label("kind", "changes"), out);
  histogram(store.reads().batches, MetricsText::label("kind", "reads"), out);
}

void loop(const Pod& pod, MetricsText& out) {
  uint64_t longest = 0;
  for (const WorkerView& worker : pod.workers) longest = std::max(longest, worker.loop->longest_turn_nanoseconds.get());
  const auto counter = [&](std::string_view name, std::string_view help, auto read) {
    out.family(name, Type::Counter, help);
    out.sample({}, sum(pod, read));
  };
  counter("kiln_loop_turns_total", "Turns of the event loops.",
          [](const WorkerView& w) { return w.loop->turns.get(); });
  counter("kiln_loop_events_total", "Completions delivered; divided by the turns: events a turn.",
          [](const WorkerView& w) { return w.engine->completions.get(); });
  out.family("kiln_loop_longest_turn_seconds", Type::Gauge, "Longest turn so far, waiting not counted.");
  out.sample({}, static_cast<double>(longest) / 1e9);
  counter("kiln_loop_stale_completions_total", "Completions for connections that were gone.",
          [](const WorkerView& w) { return w.loop->stale_completions.get(); });
  counter("kiln_loop_forced_closes_total", "Connections whose operations had to be cancelled.",
          [](const WorkerView& w) { return w.loop->forced_closes.get(); });
  counter("kiln_loop_connections_shed_total", "Connections that had to give up what they held (--max-buffered).",
          [](const WorkerView& w) { return w.loop->shed.get(); });
  out.family("kiln_loop_held_bytes", Type::Gauge, "Bodies on their way and answers not sent.");
  out.sample({}, sum(pod, [](const WorkerView& w) { return w.loop->held_bytes.get(); }));
  out.family("kiln_loop_connections_lingering", Type::Gauge, "Connections whose rest is read and dropped.");
  out.sample({}, sum(pod, [](const WorkerView& w) { return w.loop->lingering.get(); }));
  counter("kiln_engine_receives_starved_total", "Receives that found no buffer.",
          [](const WorkerView& w) { return w.engine->receives_starved.get(); });
  counter("kiln_engine_queue_full_total", "Operations that waited for room in the submission queue.",
          [](const WorkerView& w) { return w.engine->queue_full.get(); });
  counter("kiln_engine_queue_overflows_total", "Completion queue overflows.",
          [](const WorkerView& w) { return w.engine->queue_overflows.get(); });
}

void cpu(const Pod& pod, const UsageSnapshot& usage, MetricsText& out) {
  const auto known = [&](std::string_view name, Type type, std::string_view help, std::optional<double> value) {
    if (!value) return;  // unknown is absent, never invented
    out.family(name, type, help);
    out.sample({}, *value);
  };
  const auto scaled = [](auto value, double factor) {
    return value ? std::optional(static_cast<double>(*value) * factor) : std::nullopt;
  };
  known("kiln_cgroup_cpu_seconds_total", Type::Counter, "CPU time billed to this pod's control group.",
        usage.cgroup_cpu_seconds);
  known("kiln_cgroup_throttled_periods_total", Type::Counter, "Periods in which the group was throttled.",
        scaled(usage.throttled_periods, 1));
  known("kiln_cgroup_throttled_seconds_total", Type::Counter, "Time the group was throttled.", usage.throttled_seconds);
  known("kiln_cpu_residual_seconds", Type::Gauge,
        "CPU time billed since this pod is ready that was no loop's, burner's or store's.", pod.residual_seconds());
  known("kiln_cpu_request_cores", Type::Gauge, "CPU request.", scaled(pod.identity.request_millicores, 1e-3));
  known("kiln_cpu_limit_cores", Type::Gauge, "CPU limit.", scaled(pod.limit_millicores(), 1e-3));
  known("process_cpu_seconds_total", Type::Counter, "CPU time of this process.",
        std::chrono::duration<double>(process_cpu_time()).count());
  known("process_resident_memory_bytes", Type::Gauge, "Resident memory.", static_cast<double>(resident_bytes()));
  known("process_open_fds", Type::Gauge, "Open file descriptors.", static_cast<double>(open_descriptors()));
  rlimit descriptors{};
  ::getrlimit(RLIMIT_NOFILE, &descriptors);
  known("process_max_fds", Type::Gauge, "Most file descriptors there may be.",
        static_cast<double>(descriptors.rlim_cur));
  known("process_start_time_seconds", Type::Gauge, "Start of the process, in seconds since the epoch.",
        pod.started_at_unix);
}

MetricsText render_own(Pod& pod, const std::vector<std::string_view>& routes) {
  MetricsText out;
  const BuildFacts& facts = build_facts();
  out.family("kiln_build_info", Type::Gauge, "This binary.");
  out.sample(MetricsText::label("version", facts.version) + "," + MetricsText::label("commit", facts.commit) + "," +
                 MetricsText::label("compiler", facts.compiler) + "," + MetricsText::label("liburing", facts.liburing),
             uint64_t{1});
  out.family("kiln_pod_info", Type::Gauge, "This pod.");
  out.sample(MetricsText::label("pod", pod.identity.pod_name) + "," +
                 MetricsText::label("node", pod.identity.node_name) + "," +
                 MetricsText::label("namespace", pod.identity.pod_namespace) + "," +
                 MetricsText::label("engine", pod.engine),
             uint64_t{1});
  out.family("kiln_engine_info", Type::Gauge, "The I/O engine, and why this one.");
  out.sample(MetricsText::label("engine", pod.engine) + "," + MetricsText::label("reason", pod.engine_reason),
             uint64_t{1});
  requests(pod, routes, out);
  durations(pod, routes, out);
  connections(pod, out);
  burns(pod, out);
  overhead(pod, routes, out);
  holds(pod, out);
  faults(pod, out);
  records(pod, out);
  loop(pod, out);
  cpu(pod, pod.usage.snapshot(), out);
  return out;
}

}  // namespace

std::string render_metrics(Pod& pod, const std::vector<std::string_view>& routes) {
  MetricsText out = render_own(pod, routes);
  bumped(pod, out);
  return out.text();
}

bool exports_metric(Pod& pod, const std::vector<std::string_view>& routes, std::string_view name) {
  // Some of them appear only once they are known, so the prefixes that no other program uses are kept whole.
  if (name.starts_with("kiln_") || name.starts_with("process_")) return true;
  const std::string text = render_own(pod, routes).text();
  const auto is_family = [&](std::string_view family) {
    return text.find(fmt::format("# TYPE {} ", family)) != std::string::npos;
  };
  return is_family(name) || std::ranges::any_of(kSeries, [&](std::string_view series) {
           return name.ends_with(series) && is_family(name.substr(0, name.size() - series.size()));
         });
}

}  // namespace kiln::app
