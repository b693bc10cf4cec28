#include "app/control_request.h"

#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "base/quantity.h"
#include "http/ascii.h"
#include "http/target.h"

namespace kiln::app {

namespace {

namespace ondemand = simdjson::ondemand;

constexpr std::string_view kSeconds = "seconds";
constexpr double kSecondsMax = 24 * 60 * 60;

// A client's text, short enough for a sentence.
std::string shown(std::string_view text) {
  constexpr size_t kShown = 40;
  return text.size() <= kShown ? std::string(text) : std::string(text.substr(0, kShown)) + "…";
}

std::unexpected<Problem> problem(int status, std::string detail) {
  return std::unexpected(Problem{status, std::move(detail)});
}

// At least the one nanosecond that makes it more than nothing.
std::chrono::nanoseconds time_of(double seconds) {
  const auto time = std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::duration<double>(seconds));
  return std::max(time, std::chrono::nanoseconds(1));
}

// --- JSON ------------------------------------------------------------------------------------------------------------

// A member that an object may have.
struct Member {
  AmountLimit limit;
  double example;
  bool is_optional = false;  // true: it may be left out, and is not in the example
};

constexpr AmountLimit kSecondsLimit{.name = kSeconds, .max = kSecondsMax, .reason = ", a day"};
constexpr Member kSecondsMember{.limit = kSecondsLimit, .example = 60};

std::string example(std::span<const Member> members) {
  std::string text;
  for (const Member& member : members) {
    if (member.is_optional) continue;
    text += fmt::format("{}\"{}\":{}", text.empty() ? "" : ",", member.limit.name, member.example);
  }
  return "{" + text + "}";
}

std::string names(std::span<const Member> members) {
  std::string text;
  for (size_t i = 0; i < members.size(); ++i) {
    if (i > 0) text += i + 1 < members.size() ? ", " : " and ";
    text += members[i].limit.name;
  }
  return text.empty() ? "none" : text;
}

// simdjson tells where it stands, but not behind the end nor of a body that it did not begin with.
std::unexpected<Problem> not_json(std::string_view why, const simdjson::padded_string& body,
                                  simdjson::simdjson_result<const char*> at) {
  const char* place = nullptr;
  if (std::move(at).get(place) != simdjson::SUCCESS || place < body.data() || place > body.data() + body.size()) {
    return problem(400, fmt::format("The body is not JSON: {}", why));
  }
  return problem(400, fmt::format("The body is not JSON, at byte {}: {}", place - body.data(), why));
}

std::unexpected<Problem> not_json(simdjson::error_code error, const simdjson::padded_string& body,
                                  simdjson::simdjson_result<const char*> at = simdjson::OUT_OF_BOUNDS) {
  return not_json(simdjson::error_message(error), body, at);
}

// Content that is not what we want. On-demand parsing sees only what it is asked for, so wrong JSON may follow: that is
// said first. simdjson takes numbers beyond a double for wrong ones.
std::unexpected<Problem> not_wanted(const simdjson::padded_string& body, std::string detail) {
  simdjson::dom::parser parser;
  if (const auto error = parser.parse(body).error()) return not_json(error, body);
  return problem(422, std::move(detail));
}

// JSON's numbers have no bounds, simdjson's are those of a double.
bool is_beyond_double(std::string_view number) {
  double value = 0;
  const auto [end, code] = std::from_chars(number.data(), number.data() + number.size(), value);
  return code == std::errc::result_out_of_range && end == number.data() + number.size();
}

std::unexpected<Problem> out_of_range(int status, std::string_view words, const AmountLimit& limit,
                                      std::string_view value) {
  return problem(status, fmt::format("{}{} is {}; it must be more than 0 and at most {}{}.", words, limit.name,
                                     shown(value), limit.max, limit.reason));
}

// The number of a member, within its limits.
std::expected<double, Problem> read_amount(const simdjson::padded_string& body, ondemand::document& document,
                                           ondemand::value value, const AmountLimit& limit) {
  std::string_view token = value.raw_json_token();  // with the white space behind it
  token = token.substr(0, token.find_first_of(" \t\r\n"));
  ondemand::json_type type{};
  if (const auto error = value.type().get(type)) return not_json(error, body, document.current_location());
  if (type != ondemand::json_type::number) {
    return not_wanted(body, fmt::format("{} is no number; it must be one, more than 0 and at most {}{}.", limit.name,
                                        limit.max, limit.reason));
  }
  const auto at = document.current_location();
  double number = 0;
  if (const auto error = value.get_double().get(number)) {
    if (!is_beyond_double(token)) return not_json(error, body, at);
    return out_of_range(422, {}, limit, token);
  }
  if (!(number > 0 && number <= limit.max)) return out_of_range(422, {}, limit, token);
  return number;
}

// The numbers of an object, in the order of `members`.
using Numbers = std::vector<std::optional<double>>;

std::expected<Numbers, Problem> read_numbers(std::string_view text, std::span<const Member> members) {
  const simdjson::padded_string body(text);
  ondemand::parser parser;
  ondemand::document document;
  if (const auto error = parser.iterate(body).get(document)) return not_json(error, body);
  ondemand::object object;
  if (const auto error = document.get_object().get(object)) {
    if (error != simdjson::INCORRECT_TYPE) return not_json(error, body);
    return not_wanted(body, fmt::format("The body must be an object such as {}.", example(members)));
  }

  Numbers numbers(members.size());
  for (auto next : object) {
    ondemand::field field;
    if (const auto error = std::move(next).get(field)) return not_json(error, body, document.current_location());
    std::string_view name;
    if (const auto error = field.unescaped_key().get(name)) return not_json(error, body, document.current_location());
    const auto member = std::ranges::find(members, name, [](const Member& known) { return known.limit.name; });
    if (member == members.end()) {
      return not_wanted(body, fmt::format("Unknown member '{}'; there are {}.", shown(name), names(members)));
    }
    std::optional<double>& given = numbers[static_cast<size_t>(member - members.begin())];
    if (given) return not_wanted(body, fmt::format("{} is given twice.", name));
    const auto number = read_amount(body, document, field.value(), member->limit);
    if (!number) return std::unexpected(number.error());
    given = *number;
  }
  // Out of bounds is where a whole document has been read.
  const auto rest = document.current_location();
  if (rest.error() != simdjson::OUT_OF_BOUNDS) return not_json("something follows the object", body, rest);
  for (size_t i = 0; i < members.size(); ++i) {
    if (numbers[i] || members[i].is_optional) continue;
    return not_wanted(body, fmt::format("{} is missing; the body must be an object such as {}.", members[i].limit.name,
                                        example(members)));
  }
  return numbers;
}

// --- Forms -----------------------------------------------------------------------------------------------------------

constexpr std::string_view kNotGiven = "not given function argument: ";
constexpr std::string_view kIncorrect = "incorrect function argument: ";
constexpr AmountLimit kDurationSec{.name = "durationSec", .max = kSecondsMax, .reason = ", a day"};

// Like Go's ParseForm: what the body says comes before the query, and the first of a name counts.
class Form {
 public:
  static std::expected<Form, Problem> of(const http::Request& request) {
    constexpr std::string_view kForm = "application/x-www-form-urlencoded";
    std::string text;
    const auto type = request.head.find("content-type").value_or(kForm);
    if (http::equal_without_case(http::trim_blanks(type.substr(0, type.find(';'))), kForm)) text = request.body;
    text += '&';
    text += request.head.query;
    auto parameters = http::parse_form(text);
    if (!parameters) return problem(400, "A percent sign that no two hexadecimal digits follow.");
    return Form(std::move(*parameters));
  }

  // Not empty.
  [[nodiscard]] std::expected<std::string_view, Problem> text(std::string_view name) const {
    const auto found = std::ranges::find(parameters_, name, &http::Parameter::name);
    if (found != parameters_.end() && !found->value.empty()) return found->value;
    return problem(400, fmt::format("{}{}", kNotGiven, name));
  }

  // Whole and within its limits.
  [[nodiscard]] std::expected<double, Problem> number(const AmountLimit& limit) const {
    const auto given = text(limit.name);
    if (!given) return std::unexpected(given.error());
    std::string_view digits = *given;
    if (digits.starts_with('+')) digits.remove_prefix(1);
    int64_t value = 0;
    const auto [end, code] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (end != digits.data() + digits.size() || digits.empty() || code == std::errc::invalid_argument) {
      return problem(400,
                     fmt::format("{}{} is '{}', which is no whole number.", kIncorrect, limit.name, shown(*given)));
    }
    const auto number = static_cast<double>(value);
    if (code != std::errc() || !(number > 0 && number <= limit.max))
      return out_of_range(400, kIncorrect, limit, *given);
    return number;
  }

 private:
  explicit Form(std::vector<http::Parameter> parameters) : parameters_(std::move(parameters)) {}
  std::vector<http::Parameter> parameters_;
};

}  // namespace

std::expected<HoldRequest, Problem> parse_hold(std::string_view body, const AmountLimit& limit) {
  const Member members[] = {{.limit = limit, .example = 300}, kSecondsMember};
  const auto numbers = read_numbers(body, members);
  if (!numbers) return std::unexpected(numbers.error());
  return HoldRequest{.amount = *(*numbers)[0], .time = time_of(*(*numbers)[1])};
}

std::expected<FaultRequest, Problem> parse_fault(FaultKind kind, std::string_view body) {
  constexpr AmountLimit kMilliseconds{.name = "ms", .max = 60'000, .reason = ", a minute"};
  constexpr AmountLimit kPercent{.name = "percent", .max = 100, .reason = ""};
  constexpr double kStatusMin = 500;
  constexpr AmountLimit kStatus{.name = "status", .max = 599, .reason = ", whole and at least 500"};
  std::vector<Member> members{kSecondsMember};
  if (kind == FaultKind::Latency) members = {{.limit = kMilliseconds, .example = 200}, kSecondsMember};
  if (kind == FaultKind::Errors) {
    members = {{.limit = kPercent, .example = 20},
               kSecondsMember,
               {.limit = kStatus, .example = 503, .is_optional = true}};
  }
  const auto numbers = read_numbers(body, members);
  if (!numbers) return std::unexpected(numbers.error());
  const auto number = [&](std::string_view name) -> std::optional<double> {
    const auto at = std::ranges::find(members, name, [](const Member& member) { return member.limit.name; });
    return at == members.end() ? std::nullopt : (*numbers)[static_cast<size_t>(at - members.begin())];
  };

  FaultRequest asked{.kind = kind, .time = time_of(*number(kSeconds))};
  if (const auto ms = number(kMilliseconds.name)) asked.latency = time_of(*ms / 1000);
  if (const auto percent = number(kPercent.name)) asked.percent = *percent;
  if (const auto status = number(kStatus.name)) {
    if (*status < kStatusMin || *status != std::floor(*status)) {
      return out_of_range(422, {}, kStatus, fmt::format("{}", *status));
    }
    asked.status = static_cast<int>(*status);
  }
  return asked;
}

std::expected<void, Problem> parse_crash(std::string_view body) {
  if (body.empty()) return {};
  const auto numbers = read_numbers(body, {});
  if (!numbers) return std::unexpected(numbers.error());
  return {};
}

std::expected<HoldRequest, Problem> parse_consume(const http::Request& request, const AmountLimit& limit) {
  const auto form = Form::of(request);
  if (!form) return std::unexpected(form.error());
  const auto amount = form->number(limit);
  if (!amount) return std::unexpected(amount.error());
  const auto seconds = form->number(kDurationSec);
  if (!seconds) return std::unexpected(seconds.error());
  return HoldRequest{.amount = *amount, .time = time_of(*seconds)};
}

std::optional<uint64_t> parse_id(std::string_view text) {
  const auto id = base::parse_integer(text);
  return id && std::to_string(*id) == text ? std::optional(*id) : std::nullopt;
}

std::string hold_warning(double asked_millicores, std::optional<double> limit_millicores, size_t workers) {
  const double burnable = static_cast<double>(workers) * 1000;
  if (limit_millicores && *limit_millicores < std::min(asked_millicores, burnable)) {
    return fmt::format(
        "All holds together ask for {} millicores; the pod's CPU limit is {}, so the rest cannot be reached.",
        asked_millicores, *limit_millicores);
  }
  if (asked_millicores <= burnable) return {};
  return fmt::format(
      "All holds together ask for {} millicores; at --workers {} no more than {} can be burned, so the rest "
      "cannot be reached.",
      asked_millicores, workers, burnable);
}

std::expected<BumpRequest, Problem> parse_bump(const http::Request& request) {
  const auto form = Form::of(request);
  if (!form) return std::unexpected(form.error());
  const auto metric = form->text("metric");
  if (!metric) return std::unexpected(metric.error());
  const auto delta = form->text("delta");
  if (!delta) return std::unexpected(delta.error());
  std::string_view digits = *delta;
  if (digits.starts_with('+')) digits.remove_prefix(1);
  double value = 0;
  const auto [end, code] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (end != digits.data() + digits.size() || code != std::errc() || !std::isfinite(value)) {
    return problem(400, fmt::format("{}delta is '{}', which is no number.", kIncorrect, shown(*delta)));
  }
  const auto seconds = form->number(kDurationSec);
  if (!seconds) return std::unexpected(seconds.error());
  return BumpRequest{.metric = std::string(*metric), .delta = value, .time = time_of(*seconds)};
}

}  // namespace kiln::app
