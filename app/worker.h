// One worker: a loop, the HTTP exchanges of its connections, and the handlers of the routes. It is where the transport
// (core) and the protocol (http) meet; neither knows of the other.
#pragma once

#include <cstdint>
#include <deque>
#include <expected>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "app/control_request.h"
#include "app/cost.h"
#include "app/metrics.h"
#include "app/pod.h"
#include "burn/burner.h"
#include "burn/holds.h"
#include "burn/memory_holds.h"
#include "burn/serving_meter.h"
#include "core/loop.h"
#include "http/exchange.h"
#include "http/router.h"
#include "store/document.h"
#include "store/store.h"

namespace kiln::app {

class Worker final : public core::Protocol, public http::Handler {
 public:
  // On the worker's own thread. `pod` outlives the worker. `options.connections_max` is of the main listener: room for
  // the admin listener's is made beside it.
  Worker(Pod& pod, std::unique_ptr<core::Engine> engine, std::unique_ptr<core::Mailbox> mailbox, unsigned index,
         core::LoopOptions options);
  ~Worker() override;

  // After the pod's engine, workers and page are set.
  void start(base::Fd listener, uint32_t connections_max, base::Fd admin_listener);
  void run() { loop_.run(); }
  bool turn() { return loop_.turn(); }  // one of run()'s; false when there is nothing left to do

  // The most connections that all workers have beside --max-connections: those of the admin listener.
  [[nodiscard]] static uint32_t connections_beside_max(bool has_admin_listener);

  // Any thread.
  [[nodiscard]] WorkerView view();
  void post(core::Mailbox::Letter letter) { loop_.post(std::move(letter)); }

  // The worker's thread. ---------------------------------------------------------------------------------------------

  // Answers say Connection: close from now on, idle connections stay until drain().
  void announce_close() { closing_ = true; }
  // Stops listening, closes idle connections, ends run() when the last request is answered.
  void drain();
  void halt() { loop_.halt(); }

  // core::Protocol
  void turn_began(core::TimePoint now) override;
  void opened(core::Connection& connection) override;
  size_t receive(core::Connection& connection, std::string_view input) override;
  void input_ended(core::Connection& connection) override;
  void expired(core::Connection& connection) override;
  size_t held_bytes(const core::Connection& connection) const override;
  void shed(core::Connection& connection) override;
  void closed(core::Connection& connection) override;

  // http::Handler
  void handle(const http::Request& request, http::Reply& reply) override;
  uint64_t body_bytes_max(const http::RequestHead& head, uint64_t usual) override;
  void refused(http::Refusal refusal, int status) override;

  // "METHOD /path" of every route, as served. For the test that compares them with the OpenAPI document.
  [[nodiscard]] static std::vector<std::string> routes();

 private:
  using Handle = void (Worker::*)(const http::Request&, http::Reply&);

  // Control routes are for whoever may command, those of Faults only with --faults. Watchers are Kubernetes and
  // Prometheus: what they see is never delayed, and no error on purpose. All routes of a path are for the same.
  enum class For : uint8_t { Everybody, Watchers, Control, Faults };

  struct RouteEntry {
    http::Method method;
    std::string_view path;
    Handle handle;
    For whom = For::Everybody;
  };
  static const std::vector<RouteEntry>& table();

  // The second and the sample that the info body shows.
  using InfoOf = std::pair<int64_t, uint64_t>;

  // What the deadline in force is for.
  enum class Awaiting : uint8_t { Nothing, FirstRequest, LastFirstByte, NextRequest, RestOfHead, RestOfBody, Store };

  // An answer that waits until what its route costs is burned, or for a fault's latency to be over.
  struct HeldAnswer {
    http::Response response;  // its views are of the strings below
    std::string content_type, body, fields;

    explicit HeldAnswer(const http::Response& now)
        : response(now), content_type(now.content_type), body(now.body), fields(now.fields) {
      response.content_type = content_type;
      response.body = body;
      response.fields = fields;
    }
    HeldAnswer(const HeldAnswer&) = delete;
    HeldAnswer& operator=(const HeldAnswer&) = delete;
  };

  struct Session {
    Session(http::ExchangeContext& context, core::ConnectionId connection)
        : exchange(context, connection.slot), id(connection) {}
    http::Exchange exchange;
    core::ConnectionId id;
    int fd = -1;
    uint32_t listener = 0;                 // that it came through
    core::TimePoint recycle_at{};          // past it the next answer is the last
    core::TimePoint began{};               // the request being handled
    std::optional<burn::Burner::Id> burn;  // that it waits for
    std::optional<core::Loop::Appointment> late;  // the end of a latency that it waits for
    std::unique_ptr<HeldAnswer> held;      // what to answer then; nothing for /load, which tells of its burn
    core::Duration received_share{};       // of what the turn cost that received the request, once it is known
    bool priced = false;                   // true once it has been asked what the route costs
    bool pays = false;                     // true when its burn's budget includes serving it
    bool may_be_late = false;              // true until it has been asked what latency there is
    uint64_t units = 0;                    // of a /load that asked for work
    uint64_t question = 0;                 // to the store, that it waits for; 0: none
    core::Duration spent_by_store{};       // on it, while it is being answered
    uint64_t awaiting_after = 0;           // answers when the deadline was set
    uint64_t body_bytes = 0;               // arrived since the deadline was set
    size_t label = 0;                      // of its route
    http::Method method = http::Method::Get;
    Awaiting awaiting = Awaiting::Nothing;
  };

  Session& session(const core::Connection& connection) { return *sessions_[connection.id().slot]; }
  void follow(core::Connection& connection, Session& session);
  void set_deadline(core::Connection& connection, Session& session, Awaiting awaiting, core::Duration after);
  void await_last_first_byte(core::Connection& connection, Session& session);
  void await_body(core::Connection& connection, Session& session);
  [[nodiscard]] bool body_is_fast_enough(const Session& session) const;
  void watch_memory();
  void give_memory_back();
  void answer(http::Reply& reply, const http::Response& response);
  void problem(http::Reply& reply, int status, std::string_view title, std::string_view detail,
               std::string_view fields = {});
  void refuse(http::Reply& reply, const Problem& refusal);
  void refuse(core::Connection& connection, Session& session, http::Refusal refusal);
  bool refuse_command(const http::RequestHead& head, http::Reply& reply);
  void log_access(const Session& session, const http::Response& response, core::Duration took);
  void freshen();
  void wake_sampling();
  void sample_usage();
  void refresh_second();
  // Leaves the request being handled with the burner. False when the queue is full.
  bool begin_burn(Session& session, const burn::Amount& amount);
  // True when the route costs something: the answer is held back until that is burned, or refused.
  bool hold_back(Session& session, http::Reply& reply, const http::Response& response);
  void fail(http::Reply& reply, int status);
  // True when the answer goes out later, because of a fault.
  bool delay(Session& session, const http::Response& response);
  void answer_late(core::ConnectionId id);
  void watch_faults();
  void hang();
  void finish_burn(core::ConnectionId id, const burn::BurnResult& result);
  void answer_load(const Session& session, http::Reply& reply, const burn::BurnResult& result);
  void refuse_burn(http::Reply& reply);
  void ask_store(store::Question question, http::Reply& reply);
  void ask_about_record(store::Operation operation, http::Reply& reply);
  void finish_data(core::ConnectionId id, uint64_t question, store::Operation operation, const store::Answer& answered);
  void answer_data(http::Reply& reply, store::Operation operation, const store::Answer& answered);
  void give_up_waiting(core::Connection& connection, Session& session);
  void no_record(http::Reply& reply);
  void settle(core::TimePoint now);
  std::expected<burn::Holds::Hold, Problem> hold_cpu(const HoldRequest& asked);
  std::expected<burn::MemoryHolds::Hold, Problem> hold_memory(const HoldRequest& asked);
  void wake_burners();

  // Routes.
  void get_root(const http::Request& request, http::Reply& reply);
  void get_info(const http::Request& request, http::Reply& reply);
  void load(const http::Request& request, http::Reply& reply);
  void echo(const http::Request& request, http::Reply& reply);
  void live(const http::Request& request, http::Reply& reply);
  void ready(const http::Request& request, http::Reply& reply);
  void started(const http::Request& request, http::Reply& reply);
  void get_metrics(const http::Request& request, http::Reply& reply);
  void get_version(const http::Request& request, http::Reply& reply);
  void get_openapi(const http::Request& request, http::Reply& reply);
  void post_burn(const http::Request& request, http::Reply& reply);
  void list_burns(const http::Request& request, http::Reply& reply);
  void delete_burn(const http::Request& request, http::Reply& reply);
  void post_memory(const http::Request& request, http::Reply& reply);
  void list_memory(const http::Request& request, http::Reply& reply);
  void delete_memory(const http::Request& request, http::Reply& reply);
  void consume_cpu(const http::Request& request, http::Reply& reply);
  void consume_memory(const http::Request& request, http::Reply& reply);
  void bump_metric(const http::Request& request, http::Reply& reply);
  void list_faults(const http::Request& request, http::Reply& reply);
  void post_fault(const http::Request& request, http::Reply& reply);
  void post_crash(const http::Request& request, http::Reply& reply);
  void delete_fault(const http::Request& request, http::Reply& reply);
  void post_data(const http::Request& request, http::Reply& reply);
  void list_data(const http::Request& request, http::Reply& reply);
  void get_data(const http::Request& request, http::Reply& reply);
  void delete_data(const http::Request& request, http::Reply& reply);
  void probe(const http::Request& request, http::Reply& reply, std::string_view check, bool passed,
             std::string_view why_not, std::string_view beside = {});

  Pod& pod_;
  http::ExchangeContext context_;
  http::Router router_;
  // Of metrics and logs: every path once, then "unmatched" and "invalid". By route: its path's.
  std::vector<std::string_view> labels_;
  std::vector<size_t> label_of_route_;
  std::vector<std::optional<Cost>> costs_;  // by label
  Cost::Random cost_random_;
  RequestCounters counters_;
  base::Counter in_flight_;
  InfoBody info_;
  InfoOf info_of_{-1, 0};
  std::minstd_rand random_;
  std::deque<std::optional<Session>> sessions_;  // by slot; grows, never moves one
  Session* current_ = nullptr;                   // whose input is being taken
  std::string path_;                             // of the request being handled, without needless escapes
  std::string_view path_parameter_;              // what stands in it for {id}, raw
  std::optional<core::TimePoint> last_clock_;    // when the request before was answered, in the same turn
  std::string identity_fields_;                  // X-Pod-Name, X-Node-Name
  size_t load_body_bytes_;
  store::DocumentReader documents_;
  uint64_t questions_ = 0;  // to the store, so far
  core::Duration wall_offset_{};                   // wall clock - steady clock, looked at once a second
  int64_t second_ = -1;                            // of the wall clock, that Date is of
  int64_t unix_milliseconds_ = 0;                  // of this turn
  std::optional<uint64_t> answered_when_sampled_;  // requests, at the last sample since it woke
  bool closing_ = false;                           // true from announce_close() on
  bool draining_ = false;                          // true from drain() on
  std::optional<core::Loop::Appointment> next_fault_end_;
  bool memory_watched_ = false;                    // true from a lot being held to when all is given back
  int gives_back_left_ = 0;
  burn::Account& account_;
  burn::ServingMeter meter_;
  burn::Burner burner_;
  core::Loop loop_;
};

// Says in the log that a fault is in force from now on.
void log_fault(const Faults::Fault& fault);

// The longest body of a /load answer; all are filled up to it.
size_t load_body_bytes_max(const Identity& identity);

}  // namespace kiln::app
