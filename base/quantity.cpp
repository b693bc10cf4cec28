#include "base/quantity.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <span>
#include <utility>

namespace kiln::base {
namespace {

struct Unit {
  std::string_view suffix;
  uint64_t worth;
};

constexpr Unit kDurationUnits[] = {
    {"ns", 1}, {"us", 1'000}, {"ms", 1'000'000}, {"s", 1'000'000'000}, {"m", 60'000'000'000}, {"h", 3'600'000'000'000},
};
constexpr Unit kSizeUnits[] = {{"", 1}, {"KiB", 1ULL << 10}, {"MiB", 1ULL << 20}, {"GiB", 1ULL << 30}};

constexpr bool is_digit(char c) { return c >= '0' && c <= '9'; }

std::string_view take_digits(std::string_view& text) {
  const auto end = std::ranges::find_if_not(text, is_digit);
  const auto digits = text.substr(0, static_cast<size_t>(end - text.begin()));
  text.remove_prefix(digits.size());
  return digits;
}

struct Decimal {
  std::string_view whole;     // at least one digit
  std::string_view fraction;  // without the point; empty when there was none
};

// Takes digits, or digits, a point and digits, off the front. Nothing when there is no such number.
std::optional<Decimal> take_decimal(std::string_view& text) {
  Decimal number;
  number.whole = take_digits(text);
  if (number.whole.empty()) return std::nullopt;
  if (text.starts_with('.')) {
    text.remove_prefix(1);
    number.fraction = take_digits(text);
    if (number.fraction.empty()) return std::nullopt;
  }
  return number;
}

const Unit* find_unit(std::span<const Unit> units, std::string_view suffix) {
  const auto unit = std::ranges::find(units, suffix, &Unit::suffix);
  return unit == units.end() ? nullptr : &*unit;
}

std::optional<uint64_t> to_integer(std::string_view digits) {
  uint64_t value = 0;
  const auto [end, code] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (code != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return value;
}

std::optional<double> to_double(const std::string& number) {
  double value = 0;
  const auto [end, code] = std::from_chars(number.data(), number.data() + number.size(), value);
  if (code != std::errc() || end != number.data() + number.size()) return std::nullopt;
  return value;
}

// The fraction times `worth`, or nothing when that is no whole number. Horner's rule from the last digit; every step
// must come out whole, because `worth` is 1 or a multiple of ten: a broken rest cannot be mended by the digits before.
std::optional<uint64_t> scale_fraction(std::string_view fraction, uint64_t worth) {
  uint64_t scaled = 0;
  for (auto digit = fraction.rbegin(); digit != fraction.rend(); ++digit) {
    scaled += static_cast<uint64_t>(*digit - '0') * worth;
    if (scaled % 10 != 0) return std::nullopt;
    scaled /= 10;
  }
  return scaled;
}

// What a person or a client wrote, fit for one line of a log or an answer.
std::string quoted(std::string_view text) {
  constexpr size_t kShown = 40;
  std::string shown = "'";
  for (const char c : text.substr(0, kShown)) shown += c >= ' ' && c <= '~' ? c : '?';
  if (text.size() > kShown) shown += "...";
  return shown + "'";
}

std::unexpected<Error> not_a(std::string_view text, std::string_view accepted) {
  return error(quoted(text) + " is not " + std::string(accepted));
}

std::unexpected<Error> too_large(std::string_view text, std::string_view limit) {
  return error(quoted(text) + " is too large: the most is " + std::string(limit));
}

// `count` in units of `unit`, or nothing when that needs more places than any value has that can be parsed back.
std::optional<std::string> format_in(uint64_t count, const Unit& unit) {
  constexpr int kPlacesMax = 13;
  std::string text = std::to_string(count / unit.worth);
  uint64_t rest = count % unit.worth;
  if (rest != 0) text += '.';
  for (int place = 0; rest != 0; ++place) {
    if (place == kPlacesMax) return std::nullopt;
    rest *= 10;
    text += static_cast<char>('0' + rest / unit.worth);
    rest %= unit.worth;
  }
  return text.append(unit.suffix);
}

}  // namespace

Result<std::chrono::nanoseconds> parse_duration(std::string_view text) {
  constexpr std::string_view kAccepted = "a duration: write a number and ns, us, ms, s, m or h, such as 250us or 1.5s";
  using Rep = std::chrono::nanoseconds::rep;
  if (text == "0") return std::chrono::nanoseconds(0);

  std::string_view rest = text;
  const auto number = take_decimal(rest);
  if (!number) return not_a(text, kAccepted);
  const Unit* unit = find_unit(kDurationUnits, rest);
  if (unit == nullptr) return not_a(text, kAccepted);

  const auto fraction = scale_fraction(number->fraction, unit->worth);
  if (!fraction) return not_a(text, "a duration: it is finer than a nanosecond");
  const auto whole = to_integer(number->whole);
  uint64_t count = 0;
  if (!whole || __builtin_mul_overflow(*whole, unit->worth, &count) ||
      __builtin_add_overflow(count, *fraction, &count) || !std::in_range<Rep>(count)) {
    return too_large(text, "about 292 years");
  }
  return std::chrono::nanoseconds(static_cast<Rep>(count));
}

Result<uint64_t> parse_size(std::string_view text) {
  std::string_view rest = text;
  const std::string_view digits = take_digits(rest);
  const Unit* unit = find_unit(kSizeUnits, rest);
  if (digits.empty() || unit == nullptr) {
    return not_a(text, "a size: write whole bytes, or a whole number and KiB, MiB or GiB, such as 64KiB");
  }
  const auto whole = to_integer(digits);
  uint64_t bytes = 0;
  if (!whole || __builtin_mul_overflow(*whole, unit->worth, &bytes)) return too_large(text, "2^64 - 1 bytes");
  return bytes;
}

Result<double> parse_millicores(std::string_view text) {
  std::string_view rest = text;
  const auto number = take_decimal(rest);
  if (!number || !(rest.empty() || rest == "m")) {
    return not_a(text, "an amount of CPU: write millicores or cores, such as 70m or 0.07");
  }
  // The point is moved in the text: 1.001 cores times 1000 is not 1001 in binary.
  const std::string_view digits = text.substr(0, text.size() - rest.size());
  const auto millicores = to_double(std::string(digits) + (rest.empty() ? "e3" : ""));
  if (!millicores) return error(quoted(text) + " does not fit a double");
  return *millicores;
}

Result<double> parse_decimal(std::string_view text) {
  std::string_view rest = text;
  bool well_formed = take_decimal(rest).has_value();
  if (well_formed && (rest.starts_with('e') || rest.starts_with('E'))) {
    rest.remove_prefix(1);
    if (rest.starts_with('+') || rest.starts_with('-')) rest.remove_prefix(1);
    well_formed = !take_digits(rest).empty();
  }
  if (!well_formed || !rest.empty()) {
    return not_a(text, "a number: write a decimal that is not negative, such as 12, 0.25 or 1e3");
  }
  const auto value = to_double(std::string(text));
  if (!value) return error(quoted(text) + " does not fit a double");
  return *value;
}

Result<uint64_t> parse_integer(std::string_view text) {
  std::string_view rest = text;
  if (take_digits(rest).empty() || !rest.empty()) return not_a(text, "a whole number: write digits only");
  const auto value = to_integer(text);
  if (!value) return too_large(text, "2^64 - 1");
  return *value;
}

std::string format_duration(std::chrono::nanoseconds duration) {
  // Negating the smallest value would overflow as a signed number.
  const auto signed_count = static_cast<uint64_t>(duration.count());
  const uint64_t count = duration.count() < 0 ? 0 - signed_count : signed_count;
  if (count == 0) return "0";

  std::string shortest;
  for (const Unit& unit : kDurationUnits) {
    const auto text = format_in(count, unit);
    if (text && (shortest.empty() || text->size() < shortest.size())) shortest = *text;
  }
  return duration.count() < 0 ? "-" + shortest : shortest;
}

std::string format_size(uint64_t bytes) {
  const Unit* largest = &kSizeUnits[0];
  for (const Unit& unit : kSizeUnits) {
    if (bytes != 0 && bytes % unit.worth == 0) largest = &unit;
  }
  return std::to_string(bytes / largest->worth).append(largest->suffix);
}

}  // namespace kiln::base
