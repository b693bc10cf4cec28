// The handlers that break this server on purpose (--faults), and what then becomes of requests. Who may call them was
// decided before (app/command.h).
#include <fmt/format.h>

#include <chrono>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "app/control_request.h"
#include "app/log.h"
#include "app/pod.h"
#include "app/worker.h"
#include "base/check.h"
#include "base/quantity.h"
#include "http/response.h"

namespace kiln::app {

namespace {

constexpr std::string_view kJson = "application/json";
constexpr std::string_view kRoute = "/fault/";

// Of a process that SIGABRT ended, as shells and container runtimes tell it.
constexpr int kCrashed = 134;

double seconds(core::Duration duration) { return std::chrono::duration<double>(duration).count(); }

std::string name_of(const Faults::Fault& fault) { return std::string(fault_name(fault.asked.kind)); }

std::string fault_members(const Faults::Fault& fault, core::TimePoint now) {
  const FaultRequest& asked = fault.asked;
  std::string members = fmt::format(R"("id":"{}","fault":"{}")", fault.id, fault_name(asked.kind));
  if (asked.kind == FaultKind::Latency) members += fmt::format(R"(,"ms":{})", seconds(asked.latency) * 1000);
  if (asked.kind == FaultKind::Errors) {
    members += fmt::format(R"(,"percent":{},"status":{})", asked.percent, asked.status);
  }
  if (!asked.time) return members + R"(,"seconds":null,"remaining_seconds":null)";
  return members + fmt::format(R"(,"seconds":{},"remaining_seconds":{:.3f})", seconds(*asked.time),
                               seconds(fault.ends - now));
}

void log_end(const Faults::Fault& fault) {
  log::warning("fault ended", {{"fault", name_of(fault)}, {"id", static_cast<int64_t>(fault.id)}});
}

}  // namespace

void log_fault(const Faults::Fault& fault) {
  const std::string time =
      fault.asked.time ? base::format_duration(std::chrono::round<std::chrono::milliseconds>(*fault.asked.time))
                       : "for ever";
  log::warning("fault began",
               {{"fault", name_of(fault)}, {"id", static_cast<int64_t>(fault.id)}, {"time", time}});
}

void Worker::list_faults(const http::Request& /*request*/, http::Reply& reply) {
  const core::TimePoint now = loop_.now();
  std::string list;
  for (const Faults::Fault& fault : pod_.faults.list(now)) {
    list += fmt::format("{}{{{}}}", list.empty() ? "" : ",", fault_members(fault, now));
  }
  answer(reply, {.content_type = kJson, .body = fmt::format("{{\"faults\":[{}]}}\n", list)});
}

void Worker::post_fault(const http::Request& request, http::Reply& reply) {
  const FaultKind kind = *fault_named(labels_[current_->label].substr(kRoute.size()));
  const auto asked = parse_fault(kind, request.body);
  if (!asked) return refuse(reply, asked.error());
  const auto fault = pod_.faults.add(*asked, loop_.now());
  if (!fault) {
    return refuse(reply, {409, fmt::format("There are {} faults already, which is the most; DELETE one or wait until "
                                           "one ends.",
                                           Faults::kFaultsMax)});
  }
  log_fault(*fault);
  watch_faults();
  if (kind == FaultKind::Hang) {
    for (const WorkerView& view : pod_.workers) view.worker->post([worker = view.worker] { worker->hang(); });
  }
  const std::string body = "{" + fault_members(*fault, loop_.now()) + "}\n";
  const std::string location = fmt::format("Location: {}{}\r\n", kRoute, fault->id);
  answer(reply, {.status = 202, .content_type = kJson, .body = body, .fields = location});
}

void Worker::delete_fault(const http::Request& /*request*/, http::Reply& reply) {
  const auto id = parse_id(path_parameter_);
  const auto fault = id ? pod_.faults.cancel(*id, loop_.now()) : std::nullopt;
  if (!fault) return refuse(reply, {404, "No fault has this id, or no longer; GET /fault lists those there are."});
  log_end(*fault);
  watch_faults();
  answer(reply, {.status = 204});
}

// Not abort(): the first process of a container cannot be ended by its own SIGABRT, and what glibc falls back to gives
// another status on each architecture (139 on x86-64); with the host's settings it also leaves a core file behind. The
// kernel ends this the same way, without a word to anybody. The letter runs in the next turn: the answer is on its way.
void Worker::post_crash(const http::Request& request, http::Reply& reply) {
  if (const auto wanted = parse_crash(request.body); !wanted) return refuse(reply, wanted.error());
  loop_.post([] {
    log::warning("crashing, as asked", {{"status", int64_t{kCrashed}}});
    std::_Exit(kCrashed);
  });
  const std::string body = fmt::format("{{\"fault\":\"crash\",\"exit_status\":{}}}\n", kCrashed);
  answer(reply, {.status = 202, .content_type = kJson, .body = body});
}

// At the end of a turn, since the time of a turn is of its beginning: deadlines would be set in the past. Neither
// SIGTERM nor a second one is kept from ending the process: the main thread does not hang.
void Worker::hang() {
  loop_.schedule(loop_.now(), [this] { pod_.faults.wait_out_hang(); });
}

// So that the log tells the end of each when it comes. Whoever looks takes out what other workers began, too.
void Worker::watch_faults() {
  if (next_fault_end_) loop_.call_off(*next_fault_end_);
  next_fault_end_.reset();
  const core::TimePoint next = pod_.faults.next_end();
  if (next == core::TimePoint::max()) return;
  next_fault_end_ = loop_.schedule(next, [this] {
    next_fault_end_.reset();
    for (const Faults::Fault& fault : pod_.faults.take_ended(loop_.now())) log_end(fault);
    watch_faults();
  });
}

void Worker::fail(http::Reply& reply, int status) {
  problem(reply, status, http::reason_phrase(status), "A fault makes some requests fail; GET /fault tells more.");
}

bool Worker::delay(Session& s, const http::Response& response) {
  s.may_be_late = false;
  const core::Duration latency = pod_.faults.latency(loop_.now());
  if (latency <= core::Duration(0)) return false;
  s.held = std::make_unique<HeldAnswer>(response);
  s.late = loop_.schedule(loop_.engine().now() + latency, [this, id = s.id] { answer_late(id); });
  return true;
}

void Worker::answer_late(core::ConnectionId id) {
  core::Connection* connection = loop_.find(id);
  CHECK(connection != nullptr);  // closed() calls it off
  Session& s = session(*connection);
  s.late.reset();
  s.pays = false;  // its budget is settled: sending the answer comes on top
  freshen();
  const std::unique_ptr<HeldAnswer> held = std::move(s.held);
  http::Reply reply(s.exchange, connection->output());
  answer(reply, held->response);
  follow(*connection, s);
  connection->resume();
}

}  // namespace kiln::app
