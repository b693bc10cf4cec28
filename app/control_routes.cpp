// The handlers of the routes that command: CPU and memory held for a time, and Kubernetes' resource-consumer's forms of
// them. Who may call them was decided before (app/command.h).
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>

#include "app/control_request.h"
#include "app/pod.h"
#include "app/worker.h"
#include "core/workers.h"
#include "http/response.h"

namespace kiln::app {

namespace {

constexpr std::string_view kJson = "application/json";
constexpr std::string_view kText = "text/plain; charset=utf-8";
constexpr double kMebibyte = 1024 * 1024;

double seconds(core::Duration duration) { return std::chrono::duration<double>(duration).count(); }

std::string number_or_null(std::optional<double> value) { return value ? fmt::format("{:.3f}", *value) : "null"; }

// The members that every hold has, CPU or memory.
template <class Hold>
std::string hold_times(const Hold& hold, core::TimePoint now) {
  return fmt::format(R"("seconds":{},"remaining_seconds":{:.3f})", seconds(hold.time), seconds(hold.ends - now));
}

std::string hold_members(const burn::Holds::Hold& hold, core::TimePoint now) {
  return fmt::format(R"("id":"{}","millicores":{},{},"achieved_millicores":{})", hold.id, hold.millicores,
                     hold_times(hold, now), number_or_null(hold.achieved));
}

std::string hold_members(const burn::MemoryHolds::Hold& hold, core::TimePoint now) {
  return fmt::format(R"("id":"{}","mebibytes":{},"held_mebibytes":{},{})", hold.id,
                     static_cast<double>(hold.bytes) / kMebibyte, static_cast<double>(hold.held) / kMebibyte,
                     hold_times(hold, now));
}

template <class Hold>
std::string hold_list(const std::vector<Hold>& holds, core::TimePoint now) {
  std::string list;
  for (const Hold& hold : holds) list += fmt::format("{}{{{}}}", list.empty() ? "" : ",", hold_members(hold, now));
  return list;
}

AmountLimit millicores_limit() {
  return {.name = "millicores", .max = core::affinity_cpus() * 1000.0, .reason = ", which is what this machine has"};
}

AmountLimit memory_limit(std::string_view name) {
  return {.name = name, .max = static_cast<double>(burn::MemoryHolds::kBytesMax) / kMebibyte, .reason = ""};
}

// Bodies and answers that may still come are everybody's; a hold that took their place would get the pod killed. As
// much again, since what grows by doubling has left as much behind, which the allocator gives back a little later.
uint64_t kept_for_bodies(const ServeSettings& settings) { return 2 * settings.buffered_max; }

// As it is now, not as the last sample saw it. What is resident here counts, and what the group is charged: records on
// a memory-backed volume are in the latter alone, pages that another group has paid for in the former.
uint64_t memory_room_of(const Pod& pod) {
  std::ifstream file("/proc/meminfo");
  const std::string meminfo{std::istreambuf_iterator<char>(file), {}};
  const base::Cgroup& cgroup = pod.usage.cgroup();
  const auto limit = cgroup.memory_limit();
  if (!limit) return burn::memory_room(std::nullopt, meminfo);
  const uint64_t not_resident = *limit - std::min(*limit, resident_bytes());
  const uint64_t left = std::min(cgroup.memory_left().value_or(not_resident), not_resident);
  return burn::memory_room(left - std::min(left, kept_for_bodies(pod.settings)), meminfo);
}

std::string metric_refusal(BumpedMetrics::Refusal refusal) {
  switch (refusal) {
    case BumpedMetrics::Refusal::BadName:
      return fmt::format(
          "incorrect function argument: metric is no name that Prometheus takes: [a-zA-Z_:][a-zA-Z0-9_:]* "
          "of at most {} bytes.",
          BumpedMetrics::kNameBytesMax);
    case BumpedMetrics::Refusal::TooManyNames:
      return fmt::format("{} metrics are bumped already, which is the most; wait until one ends.",
                         BumpedMetrics::kNamesMax);
    case BumpedMetrics::Refusal::TooManyBumps: break;
  }
  return fmt::format("{} bumps are under way, which is the most; wait until one ends.", BumpedMetrics::kBumpsMax);
}

}  // namespace

void Worker::refuse(http::Reply& reply, const Problem& refusal) {
  problem(reply, refusal.status, http::reason_phrase(refusal.status), refusal.detail);
}

// --- CPU -------------------------------------------------------------------------------------------------------------

// 409 where the state of this pod is in the way and the client can change it (RFC 9110 section 15.5.10): 429 is about
// the rate of requests, and 5xx about mistakes of ours.
std::expected<burn::Holds::Hold, Problem> Worker::hold_cpu(const HoldRequest& asked) {
  const auto hold = pod_.holds.add(asked.amount, asked.time, loop_.now());
  if (!hold) {
    return std::unexpected(Problem{409, fmt::format("There are {} holds already, which is the most; DELETE one or wait "
                                                    "until one ends.",
                                                    burn::Holds::kHoldsMax)});
  }
  wake_burners();
  return *hold;
}

// Each worker follows the target with its own share, so all of them have to know.
void Worker::wake_burners() {
  for (const WorkerView& worker : pod_.workers) worker.burner->wake();
  wake_sampling();  // had it fallen asleep since the request came, nobody would watch the hold
}

void Worker::post_burn(const http::Request& request, http::Reply& reply) {
  const auto asked = parse_hold(request.body, millicores_limit());
  if (!asked) return refuse(reply, asked.error());
  const auto hold = hold_cpu(*asked);
  if (!hold) return refuse(reply, hold.error());
  std::string body = "{" + hold_members(*hold, loop_.now());
  const std::string warning =
      hold_warning(pod_.holds.target(loop_.now()), pod_.limit_millicores(), pod_.workers.size());
  if (!warning.empty()) body += fmt::format(R"(,"warning":"{}")", warning);
  body += "}\n";
  const std::string location = fmt::format("Location: /burn/{}\r\n", hold->id);
  answer(reply, {.status = 202, .content_type = kJson, .body = body, .fields = location});
}

void Worker::list_burns(const http::Request& /*request*/, http::Reply& reply) {
  const core::TimePoint now = loop_.now();
  const std::string holds = hold_list(pod_.holds.list(now), now);
  const std::string body = fmt::format(
      R"({{"holds":[{}],"asked_millicores":{},"achieved_millicores":{},"limit_millicores":{}}})"
      "\n",
      holds, pod_.holds.target(now), number_or_null(pod_.holds.achieved()), number_or_null(pod_.limit_millicores()));
  answer(reply, {.content_type = kJson, .body = body});
}

void Worker::delete_burn(const http::Request& /*request*/, http::Reply& reply) {
  const auto id = parse_id(path_parameter_);
  if (!id || !pod_.holds.cancel(*id, loop_.now())) {
    return refuse(reply, {404, "No hold has this id, or no longer; GET /burn lists those there are."});
  }
  wake_burners();
  answer(reply, {.status = 204});
}

// --- Memory ----------------------------------------------------------------------------------------------------------

std::expected<burn::MemoryHolds::Hold, Problem> Worker::hold_memory(const HoldRequest& asked) {
  using Why = burn::MemoryHolds::Refused::Why;
  const auto bytes = static_cast<uint64_t>(std::max(asked.amount * kMebibyte, 1.0));
  const auto hold = pod_.memory.add(
      bytes, asked.time, [this] { return memory_room_of(pod_); }, loop_.now());
  if (hold) return *hold;
  const auto limit = pod_.usage.snapshot().memory_limit_bytes;
  switch (hold.error().why) {
    case Why::TooMany:
      return std::unexpected(Problem{409, fmt::format("There are {} holds of memory already, which is the most; DELETE "
                                                      "one or wait until one ends.",
                                                      burn::MemoryHolds::kHoldsMax)});
    case Why::NoRoom:
      return std::unexpected(Problem{
          409,
          fmt::format("{} MiB are asked for; {:.1f} MiB may be held now, so that {} MiB stay free {}.", asked.amount,
                      static_cast<double>(hold.error().room) / kMebibyte, burn::MemoryHolds::kKeptFree >> 20,
                      limit ? fmt::format("below the pod's limit of {} MiB, beside {} MiB for bodies (twice "
                                          "--max-buffered)",
                                          *limit >> 20, kept_for_bodies(pod_.settings) >> 20)
                            : "on this machine")});
    case Why::NoThread: break;
  }
  return std::unexpected(
      Problem{503, "The system starts no thread to hold memory with: its limit on tasks is reached."});
}

void Worker::post_memory(const http::Request& request, http::Reply& reply) {
  const auto asked = parse_hold(request.body, memory_limit("mebibytes"));
  if (!asked) return refuse(reply, asked.error());
  const auto hold = hold_memory(*asked);
  if (!hold) return refuse(reply, hold.error());
  const std::string body = "{" + hold_members(*hold, loop_.now()) + "}\n";
  const std::string location = fmt::format("Location: /memory/{}\r\n", hold->id);
  answer(reply, {.status = 202, .content_type = kJson, .body = body, .fields = location});
}

void Worker::list_memory(const http::Request& /*request*/, http::Reply& reply) {
  const core::TimePoint now = loop_.now();
  const auto holds = pod_.memory.list(now);
  uint64_t asked = 0;
  for (const auto& hold : holds) asked += hold.bytes;
  const std::string body = fmt::format(R"({{"holds":[{}],"asked_mebibytes":{},"held_mebibytes":{}}})"
                                       "\n",
                                       hold_list(holds, now), static_cast<double>(asked) / kMebibyte,
                                       static_cast<double>(pod_.memory.held()) / kMebibyte);
  answer(reply, {.content_type = kJson, .body = body});
}

void Worker::delete_memory(const http::Request& /*request*/, http::Reply& reply) {
  const auto id = parse_id(path_parameter_);
  if (!id || !pod_.memory.cancel(*id, loop_.now())) {
    return refuse(reply, {404, "No hold has this id, or no longer; GET /memory lists those there are."});
  }
  answer(reply, {.status = 204});
}

// --- Kubernetes' resource-consumer -----------------------------------------------------------------------------------

void Worker::consume_cpu(const http::Request& request, http::Reply& reply) {
  const auto asked = parse_consume(request, millicores_limit());
  if (!asked) return refuse(reply, asked.error());
  const auto hold = hold_cpu(*asked);
  if (!hold) return refuse(reply, hold.error());
  const std::string body =
      fmt::format("ConsumeCPU\n{} millicores\n{} durationSec\n", asked->amount, seconds(asked->time));
  answer(reply, {.content_type = kText, .body = body});
}

// Its megabytes are mebibytes: it hands them to stress(1) with an M.
void Worker::consume_memory(const http::Request& request, http::Reply& reply) {
  const auto asked = parse_consume(request, memory_limit("megabytes"));
  if (!asked) return refuse(reply, asked.error());
  const auto hold = hold_memory(*asked);
  if (!hold) return refuse(reply, hold.error());
  const std::string body =
      fmt::format("ConsumeMem\n{} megabytes\n{} durationSec\n", asked->amount, seconds(asked->time));
  answer(reply, {.content_type = kText, .body = body});
}

void Worker::bump_metric(const http::Request& request, http::Reply& reply) {
  const auto asked = parse_bump(request);
  if (!asked) return refuse(reply, asked.error());
  if (is_metric_name(asked->metric) && exports_metric(pod_, labels_, asked->metric)) {
    return refuse(reply, {400, fmt::format("incorrect function argument: metric is '{}', which Kiln exports itself.",
                                           asked->metric)});
  }
  if (const auto refusal = pod_.bumped.add(asked->metric, asked->delta, asked->time, loop_.now())) {
    return refuse(reply, {*refusal == BumpedMetrics::Refusal::BadName ? 400 : 409, metric_refusal(*refusal)});
  }
  // As Go prints a float64.
  char delta[32];
  const char* const end =
      std::to_chars(std::begin(delta), std::end(delta), asked->delta, std::chars_format::general).ptr;
  const std::string body = fmt::format("BumpMetric\n{} metric\n{} delta\n{} durationSec\n", asked->metric,
                                       std::string_view(delta, end), seconds(asked->time));
  answer(reply, {.content_type = kText, .body = body});
}

}  // namespace kiln::app
