#include <fmt/format.h>
#include <simdjson.h>

#include <cmath>
#include <iterator>

#include "calibrate/calibration.h"
#include "http/response.h"
#include "load/report.h"

namespace kiln::calibrate {

namespace {

namespace dom = simdjson::dom;

// Other readers of the file may know later versions; this one knows its own.
constexpr uint64_t kSchema = 1;

std::string json_text(std::string_view text) { return '"' + http::json_escape(text) + '"'; }

// Between these lies what is measured: products and quotients of two of them are finite. What is nearer to nothing is
// nothing: it may stand below a fraction line.
constexpr double kLeast = 1e-9;
constexpr double kMost = 1e12;
constexpr uint64_t kCountMost = 1'000'000'000'000;

double without_dust(double value) { return std::abs(value) < kLeast ? 0 : value; }

// Nine digits come back as they were. JSON has no infinities: null is refused where it is read.
std::string json_number(double value) {
  return std::isfinite(value) ? fmt::format("{:.9g}", without_dust(value)) : "null";
}
std::string json_number(std::optional<double> value) { return value ? json_number(*value) : "null"; }

std::string to_json(const RouteCost& route) {
  return fmt::format(R"({{"request":{},"requests":{},"rate":{},"billed_us":{},"booked_us":{}}})",
                     json_text(route.request), route.requests, json_number(route.rate), json_number(route.billed_us),
                     json_number(route.booked_us));
}

std::string to_json(const BurnError& burn) {
  return fmt::format(R"({{"asked_ms":{},"burns":{},"billed_ms":{},"error_percent":{}}})", json_number(burn.asked_ms),
                     burn.burns, json_number(burn.billed_ms), json_number(burn.percent()));
}

std::string to_json(const Step& step) {
  return fmt::format(R"({{"asked_share":{},"seconds":{},"due":{},"good":{},"refused":{},"failed":{},"finished":{},)"
                     R"("saturated":{},"billed_ms":{},"p50_us":{},"p99_us":{},"p99_smooth_us":{},)"
                     R"("client_late_share":{},"rate":{},"cpu_millicores":{},"goodput":{}}})",
                     json_number(step.asked_share), json_number(step.seconds), step.due, step.good, step.refused,
                     step.failed, json_number(step.finished), step.saturated, json_number(step.billed_ms),
                     json_number(step.p50_us), json_number(step.p99_us), json_number(step.p99_smooth_us),
                     json_number(step.client_late_share), json_number(step.rate()),
                     json_number(step.cpu_millicores()), json_number(step.goodput()));
}

std::string to_json(const std::optional<Line>& line) {
  if (!line) return "null";
  return fmt::format(R"({{"idle_millicores":{},"cost_ms":{},"residual_max_millicores":{}}})",
                     json_number(line->idle_millicores), json_number(line->cost_ms),
                     json_number(line->residual_max_millicores));
}

// A line each.
template <class Items, class Write>
std::string json_list(const Items& items, Write write) {
  std::string out = "[";
  for (const auto& item : items) {
    fmt::format_to(std::back_inserter(out), "{}\n  {}", out.size() > 1 ? "," : "", write(item));
  }
  return out + (items.empty() ? "]" : "\n]");
}

}  // namespace

std::string to_json(const Calibration& calibration, std::string_view advice) {
  const Machine& machine = calibration.machine;
  std::string out = fmt::format(
      "{{\"schema\":{},\n\"kiln\":{},\"started_at\":{:.3f},\"seconds\":{},\"interrupted\":{},\n"
      "\"machine\":{{\"kernel\":{},\"hardware\":{},\"processor\":{},\"cpus\":{}}},\n",
      kSchema, json_text(calibration.kiln), calibration.started_at, json_number(calibration.seconds),
      calibration.interrupted, json_text(machine.kernel), json_text(machine.hardware), json_text(machine.processor),
      machine.cpus);
  const auto to = std::back_inserter(out);
  fmt::format_to(to,
                 "\"server\":{},\"request\":{},\"seed\":{},\"engine\":{},\"workers\":{},\n\"judge\":{},\n"
                 "\"limit_millicores\":{},\"limit_from\":{},\"limit_is_quota\":{},\n\"notes\":{},\n"
                 "\"idle_millicores\":{},\n",
                 json_text(calibration.server), json_text(calibration.request), calibration.seed,
                 json_text(calibration.engine),
                 calibration.workers, json_text(calibration.judge), json_number(calibration.limit_millicores),
                 json_text(calibration.limit_from), calibration.limit_is_quota, json_list(calibration.notes, json_text),
                 json_number(calibration.idle_millicores));
  fmt::format_to(
      to, "\"routes\":{},\n\"burns\":{},\n\"steps\":{},\n\"line\":{},\n\"overload\":{},\n",
      json_list(calibration.routes, [](const RouteCost& route) { return to_json(route); }),
      json_list(calibration.burns, [](const BurnError& burn) { return to_json(burn); }),
      json_list(calibration.steps, [](const Step& step) { return to_json(step); }),
      to_json(calibration.line),
      json_list(calibration.overload, [](const Step& step) { return to_json(step); }));
  fmt::format_to(to, "\"plateau_millicores\":{},\"bend_rate\":{}", json_number(calibration.plateau_millicores),
                 json_number(calibration.bend_rate()));
  if (!advice.empty()) fmt::format_to(to, ",\n\"advice\":{}", advice);
  return out + "}\n";
}

namespace {

// The members of one object. What is wrong is read as zero or empty; the first such thing is kept, by the place where
// it stands.
class Reader {
 public:
  Reader(dom::element from, std::string where, std::string& problem)
      : from_(from), where_(std::move(where)), problem_(problem) {}

  std::string text(std::string_view key) {
    std::string_view value;
    if (from_[key].get(value) != simdjson::SUCCESS) refuse(key, "a text");
    return load::printable(value);
  }

  bool flag(std::string_view key) {
    bool value = false;
    if (from_[key].get(value) != simdjson::SUCCESS) refuse(key, "true or false");
    return value;
  }

  uint64_t count(std::string_view key, uint64_t most = kCountMost) {
    uint64_t value = 0;
    if (from_[key].get(value) == simdjson::SUCCESS && value <= most) return value;
    refuse(key, fmt::format("a whole number up to {}", most));
    return 0;
  }

  double figure(std::string_view key) { return number(key, -kMost, "a number"); }
  double amount(std::string_view key) { return number(key, 0, "a number that is not negative"); }
  double positive(std::string_view key) { return number(key, kLeast, "a number greater than 0"); }

  // Whether it is there and not null.
  bool has(std::string_view key) {
    dom::element value;
    return from_[key].get(value) == simdjson::SUCCESS && !value.is_null();
  }

  Reader object(std::string_view key) {
    dom::element value;
    if (from_[key].get(value) == simdjson::SUCCESS && value.is_object()) return {value, name_of(key), problem_};
    refuse(key, "an object");
    return *this;
  }

  // Calls `read` with a reader of each item.
  template <class Read>
  void each(std::string_view key, Read read) {
    dom::array items;
    if (from_[key].get(items) != simdjson::SUCCESS) return refuse(key, "a list");
    size_t index = 0;
    for (const dom::element item : items) read(Reader(item, fmt::format("{}[{}]", name_of(key), index++), problem_));
  }

  void require(bool holds, std::string_view problem) {
    if (!holds && problem_.empty()) problem_ = fmt::format("in {} {}", where_, problem);
  }

  // What was to be an object, where it is to be a text.
  std::string itself() {
    std::string_view value;
    if (from_.get(value) != simdjson::SUCCESS && problem_.empty()) problem_ = where_ + " is no text";
    return load::printable(value);
  }

 private:
  double number(std::string_view key, double least, std::string_view wanted) {
    double value = 0;
    if (from_[key].get(value) != simdjson::SUCCESS || !(value >= least) || !(value < kMost)) {
      refuse(key, wanted);
      return 0;
    }
    return without_dust(value);
  }

  [[nodiscard]] std::string name_of(std::string_view key) const {
    return where_.empty() ? std::string(key) : fmt::format("{}.{}", where_, key);
  }

  void refuse(std::string_view key, std::string_view wanted) {
    dom::element value;
    const bool there = from_[key].get(value) == simdjson::SUCCESS;
    if (problem_.empty()) problem_ = fmt::format("{} is {}{}", name_of(key), there ? "not " : "missing: ", wanted);
  }

  dom::element from_;
  std::string where_;
  std::string& problem_;
};

Machine machine_of(Reader from) {
  Machine machine;
  machine.kernel = from.text("kernel");
  machine.hardware = from.text("hardware");
  machine.processor = from.text("processor");
  machine.cpus = static_cast<uint32_t>(from.count("cpus", UINT32_MAX));
  return machine;
}

RouteCost route_of(Reader from) {
  RouteCost route;
  route.request = from.text("request");
  route.requests = from.count("requests");
  route.rate = from.amount("rate");
  // A cost below what the server needs now and then anyway may come out negative.
  route.billed_us = from.figure("billed_us");
  if (from.has("booked_us")) route.booked_us = from.figure("booked_us");
  return route;
}

BurnError burn_of(Reader from) {
  BurnError burn;
  burn.asked_ms = from.positive("asked_ms");
  burn.burns = from.count("burns");
  burn.billed_ms = from.figure("billed_ms");
  return burn;
}

Step step_of(Reader from) {
  Step step;
  step.asked_share = from.amount("asked_share");
  step.seconds = from.positive("seconds");
  step.due = from.count("due");
  step.good = from.count("good");
  step.refused = from.count("refused");
  step.failed = from.count("failed");
  step.finished = from.amount("finished");
  step.saturated = from.flag("saturated");
  step.billed_ms = from.amount("billed_ms");
  step.p50_us = from.amount("p50_us");
  step.p99_us = from.amount("p99_us");
  step.p99_smooth_us = from.amount("p99_smooth_us");
  step.client_late_share = from.amount("client_late_share");
  from.require(step.good + step.refused + step.failed == step.due, "good, refused and failed do not add up to due");
  from.require(step.p50_us <= step.p99_us, "p50_us is greater than p99_us");
  return step;
}

Line line_of(Reader from) {
  Line line;
  line.idle_millicores = from.figure("idle_millicores");
  line.cost_ms = from.positive("cost_ms");
  line.residual_max_millicores = from.amount("residual_max_millicores");
  return line;
}

Calibration calibration_of(Reader& from) {
  Calibration calibration;
  calibration.kiln = from.text("kiln");
  calibration.started_at = from.amount("started_at");
  calibration.seconds = from.amount("seconds");
  calibration.interrupted = from.flag("interrupted");
  calibration.machine = machine_of(from.object("machine"));
  calibration.server = from.text("server");
  calibration.request = from.text("request");
  calibration.seed = from.count("seed", UINT64_MAX);
  calibration.engine = from.text("engine");
  calibration.workers = static_cast<uint32_t>(from.count("workers", UINT32_MAX));
  calibration.judge = from.text("judge");
  calibration.limit_millicores = from.amount("limit_millicores");
  calibration.limit_from = from.text("limit_from");
  calibration.limit_is_quota = from.flag("limit_is_quota");
  from.each("notes", [&](Reader note) { calibration.notes.push_back(note.itself()); });
  if (from.has("idle_millicores")) calibration.idle_millicores = from.figure("idle_millicores");
  from.each("routes", [&](Reader route) { calibration.routes.push_back(route_of(route)); });
  from.each("burns", [&](Reader burn) { calibration.burns.push_back(burn_of(burn)); });
  from.each("steps", [&](Reader step) { calibration.steps.push_back(step_of(step)); });
  if (from.has("line")) calibration.line = line_of(from.object("line"));
  from.each("overload", [&](Reader step) { calibration.overload.push_back(step_of(step)); });
  calibration.plateau_millicores = from.amount("plateau_millicores");
  return calibration;
}

}  // namespace

base::Result<Calibration> from_json(std::string_view json) {
  const auto refuse = [](std::string_view why) { return base::error(fmt::format("no calibration of kiln: {}", why)); };
  dom::parser parser;
  dom::element root;
  if (const auto code = parser.parse(simdjson::padded_string(json)).get(root); code != simdjson::SUCCESS) {
    return refuse(simdjson::error_message(code));
  }
  std::string problem;
  Reader reader(root, "", problem);
  const uint64_t schema = reader.count("schema");
  if (problem.empty() && schema != kSchema) {
    return base::error(fmt::format("a calibration of schema {}; this kiln reads schema {}", schema, kSchema));
  }
  Calibration calibration = calibration_of(reader);
  if (!problem.empty()) return refuse(problem);
  if (calibration.line && calibration.steps.size() < 2) return refuse("it has a line and not two steps for it");
  return calibration;
}

}  // namespace kiln::calibrate
