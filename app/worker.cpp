#include "app/worker.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <utility>

#include "app/command.h"
#include "app/free_memory.h"
#include "app/log.h"
#include "base/check.h"
#include "core/listener.h"
#include "http/date.h"
#include "http/target.h"

namespace kiln::app {

namespace {

using namespace std::chrono_literals;

// Open connections that the admin listener keeps for probes when the main one is full.
constexpr uint32_t kAdminConnectionsMax = 64;

// Held bytes that are worth to be given back to the system once they are free.
constexpr size_t kMuchHeld = 4 * 1024 * 1024;

// How often free memory is given back, a second apart: the allocator does not part with all of it at once.
constexpr int kGivesBack = 3;

// The index that Loop::listen() gives to the first.
constexpr uint32_t kMainListener = 0;

// No routes, yet counted like them: paths that no route has, and input that could not be parsed.
constexpr std::string_view kUnmatched = "unmatched";
constexpr std::string_view kInvalid = "invalid";

// A connection's name for the meter.
uint64_t key_of(core::ConnectionId id) { return uint64_t{id.generation} << 32 | id.slot; }
core::ConnectionId id_of(uint64_t key) {
  return {.slot = static_cast<uint32_t>(key), .generation = static_cast<uint32_t>(key >> 32)};
}

http::Limits limits_of(const ServeSettings& settings) {
  http::Limits limits;
  limits.body_bytes_max = settings.body_max;
  limits.head_bytes_max = settings.head_max;
  limits.request_line_bytes_max = settings.request_line_max;
  limits.fields_max = settings.fields_max;
  limits.requests_a_batch_max = settings.pipelined_max;
  limits.output_batch_bytes_max = settings.queued_max;
  return limits;
}

core::LoopOptions with_room_beside(core::LoopOptions options) {
  options.connections_max += kAdminConnectionsMax;
  return options;
}

}  // namespace

const std::vector<Worker::RouteEntry>& Worker::table() {
  using enum http::Method;
  using enum For;
  static const std::vector<RouteEntry> entries{
      {Get, "/", &Worker::get_root},
      {Get, "/api/info", &Worker::get_info},
      {Get, "/load", &Worker::load},
      {Post, "/load", &Worker::load},
      {Post, "/echo", &Worker::echo},
      {Get, "/livez", &Worker::live, Watchers},
      {Get, "/healthz", &Worker::live, Watchers},
      {Get, "/readyz", &Worker::ready, Watchers},
      {Get, "/startupz", &Worker::started, Watchers},
      {Get, "/metrics", &Worker::get_metrics, Watchers},
      {Get, "/version", &Worker::get_version},
      {Get, "/openapi.json", &Worker::get_openapi},
      {Get, "/data", &Worker::list_data},
      {Post, "/data", &Worker::post_data},
      {Get, "/data/{id}", &Worker::get_data},
      {Delete, "/data/{id}", &Worker::delete_data},
      {Get, "/burn", &Worker::list_burns, Control},
      {Post, "/burn", &Worker::post_burn, Control},
      {Delete, "/burn/{id}", &Worker::delete_burn, Control},
      {Get, "/memory", &Worker::list_memory, Control},
      {Post, "/memory", &Worker::post_memory, Control},
      {Delete, "/memory/{id}", &Worker::delete_memory, Control},
      {Post, "/ConsumeCPU", &Worker::consume_cpu, Control},
      {Post, "/ConsumeMem", &Worker::consume_memory, Control},
      {Post, "/BumpMetric", &Worker::bump_metric, Control},
      {Get, "/fault", &Worker::list_faults, Faults},
      {Post, "/fault/unready", &Worker::post_fault, Faults},
      {Post, "/fault/unhealthy", &Worker::post_fault, Faults},
      {Post, "/fault/hang", &Worker::post_fault, Faults},
      {Post, "/fault/latency", &Worker::post_fault, Faults},
      {Post, "/fault/errors", &Worker::post_fault, Faults},
      {Post, "/fault/crash", &Worker::post_crash, Faults},
      {Delete, "/fault/{id}", &Worker::delete_fault, Faults},
  };
  return entries;
}

std::vector<std::string> Worker::routes() {
  std::vector<std::string> out;
  for (const RouteEntry& entry : table()) {
    out.push_back(std::string(http::method_name(entry.method)) + " " + std::string(entry.path));
  }
  return out;
}

Worker::Worker(Pod& pod, std::unique_ptr<core::Engine> engine, std::unique_ptr<core::Mailbox> mailbox, unsigned index,
               core::LoopOptions options)
    : pod_(pod),
      cost_random_(pod.settings.cost_seed + index),
      counters_(table().size() + 2),  // at least: a path may have several methods
      info_(pod),
      random_(std::random_device{}()),
      identity_fields_("X-Pod-Name: " + pod.identity.pod_name + "\r\nX-Node-Name: " + pod.identity.node_name + "\r\n"),
      load_body_bytes_(load_body_bytes_max(pod.identity)),
      account_(pod.books.account(index)),
      meter_(account_, table().size() + 2),
      burner_({.queue_max = pod.settings.burn_queue,
               .waiting_together = &pod.burn_waiting,
               .books = &pod.books,
               .index = index,
               .holds = &pod.holds}),
      loop_(std::move(engine), std::move(mailbox), *this, with_room_beside(options)) {
  context_.limits = limits_of(pod.settings);
  context_.handler = this;
  context_.request_id_state = std::random_device{}() + (uint64_t{index} << 32);
  for (const RouteEntry& entry : table()) {
    router_.add(entry.method, entry.path);
    const auto known = std::ranges::find(labels_, entry.path);
    label_of_route_.push_back(static_cast<size_t>(known - labels_.begin()));
    if (known == labels_.end()) labels_.push_back(entry.path);
  }
  labels_.push_back(kUnmatched);
  labels_.push_back(kInvalid);
  costs_.resize(labels_.size());
  for (const RouteCost& cost : pod.settings.costs) {
    costs_[static_cast<size_t>(std::ranges::find(labels_, cost.route) - labels_.begin())] = cost.cost;
  }
}

uint32_t Worker::connections_beside_max(bool has_admin_listener) {
  return has_admin_listener ? kAdminConnectionsMax : 0;
}

// The burner's thread posts to the loop: it ends first.
Worker::~Worker() { burner_.stop(); }

void Worker::start(base::Fd listener, uint32_t connections_max, base::Fd admin_listener) {
  meter_.begin(burn::thread_cpu_time());
  turn_began(loop_.now());
  loop_.listen(std::move(listener), connections_max);
  if (admin_listener.valid()) loop_.listen(std::move(admin_listener), kAdminConnectionsMax);
}

WorkerView Worker::view() {
  return {.requests = &counters_,
          .loop = &loop_.counters(),
          .engine = &loop_.engine_counters(),
          .burner = &burner_,
          .meter = &meter_,
          .in_flight = &in_flight_,
          .worker = this};
}

// --- Time ------------------------------------------------------------------------------------------------------------

void Worker::turn_began(core::TimePoint now) {
  watch_memory();
  if (meter_.due(now)) settle(now);
  last_clock_.reset();
  const auto wall = std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch() + wall_offset_);
  unix_milliseconds_ = wall.count();
}

void Worker::settle(core::TimePoint now) {
  const burn::ServingMeter::Shares shares = meter_.settle(now, burn::thread_cpu_time());
  for (const uint64_t key : shares.received) {
    const core::ConnectionId id = id_of(key);
    if (auto& s = sessions_[id.slot]; s && s->id == id) s->received_share = shares.each;
  }
}

// Before anything is answered; a turn that answers nobody costs nothing.
void Worker::freshen() {
  if (unix_milliseconds_ / 1000 != second_) refresh_second();
}

void Worker::refresh_second() {
  wall_offset_ = std::chrono::duration_cast<core::Duration>(std::chrono::system_clock::now().time_since_epoch()) -
                 loop_.now().time_since_epoch();
  const auto wall =
      std::chrono::duration_cast<std::chrono::milliseconds>(loop_.now().time_since_epoch() + wall_offset_);
  unix_milliseconds_ = wall.count();
  second_ = unix_milliseconds_ / 1000;
  context_.common_fields = "Server: kiln\r\nDate: " + http::imf_fixdate(second_) + "\r\n" + identity_fields_;
}

// Something has come. Whoever finds nobody sampling the pod's usage does so from now on: at once, since the answer may
// show it.
void Worker::wake_sampling() {
  if (!pod_.usage.wake()) return;
  answered_when_sampled_.reset();
  sample_usage();
}

void Worker::sample_usage() {
  // Not the turn's time: another worker may have sampled since this turn began.
  const core::TimePoint now = loop_.engine().now();
  const core::Duration before = burn::thread_cpu_time();
  pod_.sample(now);
  // It was taken for whoever came or was served since the last one, who pays for it with the turn.
  if (std::exchange(answered_when_sampled_, counters_.requests()) == counters_.requests()) {
    meter_.work_for_nobody(burn::thread_cpu_time() - before);
  }
  if (pod_.usage.fall_asleep(pod_.quiet())) return;
  loop_.schedule(now + Usage::kSampleEvery, [this] { sample_usage(); });
}

// While a lot is held it is looked at each second; when that is over the allocator returns what it keeps.
void Worker::watch_memory() {
  if (loop_.counters().held_bytes.get() < kMuchHeld) return;
  gives_back_left_ = kGivesBack;
  if (memory_watched_) return;
  memory_watched_ = true;
  loop_.schedule(loop_.now() + 1s, [this] { give_memory_back(); });
}

void Worker::give_memory_back() {
  if (loop_.counters().held_bytes.get() < kMuchHeld) {
    loop_.drop_spare_buffers();
    return_free_memory();
    --gives_back_left_;
  }
  memory_watched_ = gives_back_left_ > 0;
  if (memory_watched_) loop_.schedule(loop_.now() + 1s, [this] { give_memory_back(); });
}

// --- Connections -----------------------------------------------------------------------------------------------------

void Worker::opened(core::Connection& connection) {
  wake_sampling();
  const uint32_t slot = connection.id().slot;
  while (sessions_.size() <= slot) sessions_.emplace_back();
  Session& opened = sessions_[slot].emplace(context_, connection.id());
  // +-20 %, so that connections opened together do not come back together.
  const double jitter = 0.8 + 0.4 * static_cast<double>(random_()) / static_cast<double>(random_.max());
  opened.fd = connection.fd();
  opened.listener = connection.listener();
  opened.recycle_at =
      loop_.now() + std::chrono::duration_cast<core::Duration>(pod_.settings.keepalive_max_age * jitter);
  follow(connection, opened);
}

size_t Worker::receive(core::Connection& connection, std::string_view input) {
  wake_sampling();
  freshen();
  Session& s = session(connection);
  current_ = &s;
  const size_t taken = s.exchange.receive(input, connection.output());
  current_ = nullptr;
  s.body_bytes += taken;
  follow(connection, s);
  return taken;
}

void Worker::input_ended(core::Connection& connection) {
  Session& s = session(connection);
  // Whoever closed and whoever will only send no more look the same. Nobody pays for a burn that nobody waits for; any
  // other answer is finished.
  if (s.burn) return connection.abort();
  s.exchange.end_of_input();
  follow(connection, s);
}

// What follows for the connection from where its exchange stands.
void Worker::follow(core::Connection& connection, Session& s) {
  using Phase = http::Exchange::Phase;
  // Each request has its own deadlines.
  const bool same = s.awaiting_after == s.exchange.answered();
  switch (s.exchange.phase()) {
    case Phase::Finished: return connection.finish(s.exchange.must_linger() ? core::Linger::Yes : core::Linger::No);
    case Phase::Handling:
      if (s.question == 0) return set_deadline(connection, s, Awaiting::Nothing, {});
      if (same && s.awaiting == Awaiting::Store) return;
      return set_deadline(connection, s, Awaiting::Store, pod_.settings.data_timeout);
    case Phase::Body:
      if (same && s.awaiting == Awaiting::RestOfBody) return;
      return await_body(connection, s);
    case Phase::Head: break;
  }
  if (!s.exchange.idle()) {
    // Counted from the first byte and never extended.
    if (same && (s.awaiting == Awaiting::RestOfHead || s.awaiting == Awaiting::FirstRequest)) return;
    return set_deadline(connection, s, Awaiting::RestOfHead, pod_.settings.header_timeout);
  }
  if (s.exchange.answered() == 0) {
    if (s.awaiting == Awaiting::FirstRequest || s.awaiting == Awaiting::LastFirstByte) return;
    if (draining_) return await_last_first_byte(connection, s);
    return set_deadline(connection, s, Awaiting::FirstRequest, pod_.settings.header_timeout);
  }
  if (draining_) return connection.finish(core::Linger::No);
  set_deadline(connection, s, Awaiting::NextRequest, pod_.settings.idle_timeout);
}

// The first request of a client that came just before the doors closed may be on its way; it gets a moment to begin.
void Worker::await_last_first_byte(core::Connection& connection, Session& s) {
  constexpr core::Duration kMoment = 1s;
  set_deadline(connection, s, Awaiting::LastFirstByte, std::min(kMoment, pod_.settings.header_timeout));
}

void Worker::await_body(core::Connection& connection, Session& s) {
  set_deadline(connection, s, Awaiting::RestOfBody, pod_.settings.body_timeout);
}

// True when the body has come as fast as it must since the deadline was set.
bool Worker::body_is_fast_enough(const Session& s) const {
  const double seconds = std::chrono::duration<double>(pod_.settings.body_timeout).count();
  return static_cast<double>(s.body_bytes) >= static_cast<double>(pod_.settings.body_rate_min) * seconds;
}

void Worker::set_deadline(core::Connection& connection, Session& s, Awaiting awaiting, core::Duration after) {
  s.awaiting = awaiting;
  s.awaiting_after = s.exchange.answered();
  s.body_bytes = 0;
  connection.set_deadline(awaiting == Awaiting::Nothing ? core::TimerWheel::kNever : loop_.now() + after);
}

void Worker::expired(core::Connection& connection) {
  Session& s = session(connection);
  switch (s.awaiting) {
    case Awaiting::Nothing: return;
    case Awaiting::FirstRequest:
    case Awaiting::LastFirstByte:
    case Awaiting::RestOfHead:
    case Awaiting::NextRequest:
      if (s.exchange.idle()) return connection.finish(core::Linger::No);
      return refuse(connection, s, http::Refusal::HeadTimeout);
    case Awaiting::RestOfBody:
      if (body_is_fast_enough(s)) return await_body(connection, s);
      return refuse(connection, s, http::Refusal::BodyTimeout);
    case Awaiting::Store: return give_up_waiting(connection, s);
  }
}

// Of what is arriving.
void Worker::refuse(core::Connection& connection, Session& s, http::Refusal refusal) {
  freshen();
  current_ = &s;
  s.exchange.refuse(refusal, connection.output());
  current_ = nullptr;
  follow(connection, s);
}

size_t Worker::held_bytes(const core::Connection& connection) const {
  const Session& s = *sessions_[connection.id().slot];
  return s.exchange.held_bytes() + (s.held ? s.held->body.capacity() : 0);
}

void Worker::shed(core::Connection& connection) {
  Session& s = session(connection);
  using Phase = http::Exchange::Phase;
  const bool is_arriving =
      s.exchange.phase() == Phase::Body || (s.exchange.phase() == Phase::Head && !s.exchange.idle());
  if (!is_arriving) return connection.abort();
  refuse(connection, s, http::Refusal::Overloaded);
}

void Worker::closed(core::Connection& connection) {
  std::optional<Session>& slot = sessions_[connection.id().slot];
  if (slot->burn) burner_.cancel(*slot->burn);
  if (slot->late) loop_.call_off(*slot->late);
  if (slot->exchange.phase() == http::Exchange::Phase::Handling) in_flight_.set(in_flight_.get() - 1);
  slot.reset();
}

void Worker::drain() {
  closing_ = draining_ = true;
  loop_.for_each_open([this](core::Connection& connection) {
    // A request may wait behind an answer that is still being sent; its own will be the last.
    if (loop_.find(connection.id()) == nullptr || connection.has_input()) return;
    Session& s = session(connection);
    if (!s.exchange.idle()) return;
    if (s.exchange.answered() > 0) return connection.finish(core::Linger::No);
    await_last_first_byte(connection, s);
  });
  loop_.drain();
}

// --- Burns -----------------------------------------------------------------------------------------------------------

bool Worker::begin_burn(Session& s, const burn::Amount& amount) {
  s.burn = burner_.submit(amount, [this, id = s.id](const burn::BurnResult& result) {
    loop_.post([this, id, result] { finish_burn(id, result); });
  });
  s.pays = s.burn && amount.serving == burn::Serving::Included;
  if (s.pays) meter_.receive(key_of(s.id));
  return s.burn.has_value();
}

bool Worker::hold_back(Session& s, http::Reply& reply, const http::Response& response) {
  if (response.status >= 400 || std::exchange(s.priced, true)) return false;
  const core::Duration cost = costs_[s.label]->draw(cost_random_);
  const core::Duration to_store = std::min(s.spent_by_store, cost);  // which serves it on a thread of its own
  if (begin_burn(s, {.cpu = cost - to_store, .serving = burn::Serving::Included})) {
    account_.paid_to_helpers.add(to_store);
    s.held = std::make_unique<HeldAnswer>(response);
  } else {
    refuse_burn(reply);
  }
  return true;
}

void Worker::finish_burn(core::ConnectionId id, const burn::BurnResult& result) {
  core::Connection* connection = loop_.find(id);
  if (connection == nullptr) return;
  freshen();
  Session& s = session(*connection);
  s.burn.reset();
  http::Reply reply(s.exchange, connection->output());
  switch (result.outcome) {
    case burn::Outcome::Done:
      if (s.pays)
        meter_.answer({.route = s.label, .asked = result.requested, .paid = result.paid, .received = s.received_share});
      if (const std::unique_ptr<HeldAnswer> held = std::move(s.held)) {
        answer(reply, held->response);
      } else {
        answer_load(s, reply, result);
      }
      break;
    case burn::Outcome::Cancelled:
      s.pays = false;
      s.held.reset();
      problem(reply, 503, "Service Unavailable", "The burn was cancelled: this pod is going away.",
              "Retry-After: 1\r\n");
      break;
    case burn::Outcome::ClockStuck:
      s.pays = false;
      s.held.reset();
      problem(reply, 500, "Internal Server Error", "The CPU clock of this machine stands still.");
      break;
  }
  follow(*connection, s);
  connection->resume();
}

// --- Requests --------------------------------------------------------------------------------------------------------

void Worker::handle(const http::Request& request, http::Reply& reply) {
  Session& s = *current_;
  // One look at the clock a request: the end of one is the beginning of the next in its batch.
  s.began = last_clock_ ? *last_clock_ : loop_.now();
  s.method = request.head.method;
  s.pays = s.priced = s.may_be_late = false;
  s.received_share = {};
  in_flight_.add();
  const ServeSettings& settings = pod_.settings;
  const bool enough =
      settings.keepalive_max_requests > 0 && s.exchange.answered() + 1 >= settings.keepalive_max_requests;
  if (enough || loop_.now() >= s.recycle_at) s.exchange.close_after_next();

  using Kind = http::Router::Match::Kind;
  std::string_view path = request.head.path;
  if (path.find('%') != std::string_view::npos) path = path_ = http::decode_unreserved(path);
  const http::Router::Match match = router_.match(request.head.method, path);
  const For whom = match.kind == Kind::NotFound ? For::Everybody : table()[match.route].whom;
  const bool is_control = whom == For::Control || whom == For::Faults;
  // Where there is an admin listener the main one knows no control routes.
  const bool is_hidden = (is_control && settings.admin_port && s.listener == kMainListener) ||
                         (whom == For::Faults && !settings.faults);
  const bool is_known = match.kind != Kind::NotFound && !is_hidden;
  s.label = is_known ? label_of_route_[match.route] : labels_.size() - 2;
  if (settings.faults && (whom == For::Everybody || is_hidden)) {
    s.may_be_late = true;
    if (const auto status = pod_.faults.draw_error(loop_.now())) return fail(reply, *status);
  }
  if (is_known && is_control && refuse_command(request.head, reply)) return;
  if (is_known && match.kind == Kind::Found) {
    path_parameter_ = match.parameters[0];
    return (this->*table()[match.route].handle)(request, reply);
  }
  s.label = labels_.size() - 2;
  // RFC 9110 section 9.1: 501 for a method that is not known at all, 405 for one that this path does not have.
  if (request.head.method == http::Method::Other) {
    return problem(reply, 501, "Not Implemented", "This server implements GET, HEAD, POST, DELETE and OPTIONS.");
  }
  if (is_known) {
    const std::string allow = "Allow: " + std::string(match.allow) + "\r\n";
    if (request.head.method == http::Method::Options) return answer(reply, {.status = 204, .fields = allow});
    return problem(reply, 405, "Method Not Allowed", "This path has other methods; see Allow.", allow);
  }
  // OPTIONS * asks about the server as a whole (RFC 9110 section 9.3.7).
  if (request.head.method == http::Method::Options && request.head.path == "*") {
    return answer(reply, {.status = 204, .fields = "Allow: GET, HEAD, POST, DELETE, OPTIONS\r\n"});
  }
  problem(reply, 404, "Not Found", "No such path. GET /openapi.json lists what there is.");
}

// Answers a request that may not command, before anything of it is parsed. False when it may.
bool Worker::refuse_command(const http::RequestHead& head, http::Reply& reply) {
  switch (judge_command(head, pod_.settings.control_token)) {
    case Verdict::Allowed: return false;
    case Verdict::ForeignOrigin:
      problem(reply, 403, "Forbidden", "Control routes are not for pages from another origin.");
      break;
    case Verdict::NoToken:
      problem(reply, 401, "Unauthorized", "Control routes want the token of --control-token: Authorization: Bearer.",
              "WWW-Authenticate: Bearer\r\n");
      break;
  }
  return true;
}

void Worker::refused(http::Refusal /*refusal*/, int status) {
  meter_.serve(labels_.size() - 1);
  last_clock_.reset();
  counters_.count(labels_.size() - 1, http::Method::Other, status, {});
  if (pod_.settings.access_log == 0) return;
  current_->label = labels_.size() - 1;
  current_->method = http::Method::Other;
  log_access(*current_, {.status = status}, {});
}

void Worker::answer(http::Reply& reply, const http::Response& response) {
  Session& s = *sessions_[reply.exchange().key()];
  if (costs_[s.label] && hold_back(s, reply, response)) return;
  if (s.may_be_late && delay(s, response)) return;
  if (closing_) reply.exchange().close_after_next();
  reply.send(response);
  if (!s.pays) meter_.serve(s.label);
  in_flight_.set(in_flight_.get() - 1);
  last_clock_ = loop_.engine().now();
  const core::Duration took = *last_clock_ - s.began;
  counters_.count(s.label, s.method, response.status, took);
  if (pod_.settings.access_log > 0) log_access(s, response, took);
}

void Worker::problem(http::Reply& reply, int status, std::string_view title, std::string_view detail,
                     std::string_view fields) {
  const std::string body = http::problem_json(status, title, detail);
  answer(reply, {.status = status, .content_type = http::kProblemType, .body = body, .fields = fields});
}

void Worker::log_access(const Session& s, const http::Response& response, core::Duration took) {
  if (static_cast<double>(random_()) > pod_.settings.access_log * static_cast<double>(random_.max())) return;
  log::access({{"client", core::peer_of(s.fd)},
               {"method", std::string(http::method_name(s.method))},
               {"route", std::string(labels_[s.label])},
               {"status", int64_t{response.status}},
               {"bytes", static_cast<int64_t>(response.body.size())},
               {"ms", std::chrono::duration<double, std::milli>(took).count()}});
}

}  // namespace kiln::app
