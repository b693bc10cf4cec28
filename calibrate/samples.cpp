#include "calibrate/samples.h"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace kiln::calibrate {

namespace {

//   name{label="value",label="value"} number [timestamp]
struct Sample {
  std::string_view name;
  Labels labels;
  double value = 0;
};

void skip_blanks(std::string_view& text) {
  text.remove_prefix(std::min(text.find_first_not_of(" \t"), text.size()));
}

std::string_view take_until(std::string_view& text, std::string_view any_of) {
  const std::string_view taken = text.substr(0, text.find_first_of(any_of));
  text.remove_prefix(taken.size());
  return taken;
}

bool take(std::string_view& text, char wanted) {
  if (!text.starts_with(wanted)) return false;
  text.remove_prefix(1);
  return true;
}

// The inside of the quotes; a backslash makes whatever follows a part of it.
std::optional<std::string_view> take_quoted(std::string_view& text) {
  if (!take(text, '"')) return std::nullopt;
  for (size_t at = 0; at < text.size(); ++at) {
    if (text[at] == '\\') {
      ++at;
    } else if (text[at] == '"') {
      const std::string_view inside = text.substr(0, at);
      text.remove_prefix(at + 1);
      return inside;
    }
  }
  return std::nullopt;
}

// What stands between braces, the last comma being optional. Nothing when that is not well-formed.
std::optional<Labels> take_labels(std::string_view& text) {
  Labels labels;
  if (!take(text, '{')) return labels;
  for (skip_blanks(text); !take(text, '}'); skip_blanks(text)) {
    const std::string_view name = take_until(text, " \t=");
    skip_blanks(text);
    if (name.empty() || !take(text, '=')) return std::nullopt;
    skip_blanks(text);
    const auto value = take_quoted(text);
    if (!value) return std::nullopt;
    labels.emplace_back(name, *value);
    skip_blanks(text);
    if (!take(text, ',') && !text.starts_with('}')) return std::nullopt;
  }
  return labels;
}

std::optional<double> take_finite(std::string_view& text) {
  take(text, '+');
  const std::string_view digits = take_until(text, " \t");
  double value = 0;
  const auto [end, code] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (code != std::errc() || end != digits.data() + digits.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

std::optional<Sample> sample_of(std::string_view line) {
  Sample sample;
  skip_blanks(line);
  sample.name = take_until(line, " \t{");
  if (sample.name.empty() || sample.name.starts_with('#')) return std::nullopt;
  skip_blanks(line);
  auto labels = take_labels(line);
  if (!labels) return std::nullopt;
  sample.labels = std::move(*labels);
  skip_blanks(line);
  const auto value = take_finite(line);
  if (!value) return std::nullopt;
  sample.value = *value;
  return sample;
}

}  // namespace

std::optional<double> sum_of_samples(std::string_view text, std::string_view name, const Labels& labels) {
  std::optional<double> sum;
  while (!text.empty()) {
    const std::string_view line = take_until(text, "\n");
    take(text, '\n');
    // Most lines are of other names.
    if (line.find(name) == std::string_view::npos) continue;
    const auto found = sample_of(line);
    if (!found || found->name != name) continue;
    const auto is_carried = [&](const auto& label) { return std::ranges::count(found->labels, label) > 0; };
    if (std::ranges::all_of(labels, is_carried)) sum = sum.value_or(0) + found->value;
  }
  return sum && std::isfinite(*sum) ? sum : std::nullopt;
}

}  // namespace kiln::calibrate
