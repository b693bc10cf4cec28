#include "tests/conformance/table.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string_view>

#include "base/check.h"

namespace kiln::conformance {
namespace {

size_t number(std::string_view text, int base) {
  size_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  CHECK(error == std::errc{});
  CHECK(end == text.data() + text.size());
  return value;
}

// "*count}" at the front of `text`, when it is there.
std::optional<std::string_view> repetition_end(std::string_view text) {
  if (!text.starts_with('*')) return {};
  size_t at = 1;
  while (at < text.size() && std::isdigit(static_cast<unsigned char>(text[at])) != 0) ++at;
  if (at == 1 || at == text.size() || text[at] != '}') return {};
  return text.substr(1, at - 1);
}

// Takes the whole text, or what lies inside a repetition up to its end, which stays.
std::string unescape(std::string_view& text, bool inside_repetition) {
  std::string out;
  while (!text.empty()) {
    if (inside_repetition && repetition_end(text)) return out;
    if (text.front() != '\\') {
      out += text.front();
      text.remove_prefix(1);
      continue;
    }
    CHECK(text.size() > 1);
    const char escape = text[1];
    text.remove_prefix(2);
    switch (escape) {
      case 'r': out += '\r'; break;
      case 'n': out += '\n'; break;
      case 't': out += '\t'; break;
      case '0': out += '\0'; break;
      case '\\': out += '\\'; break;
      case 'x':
        out += static_cast<char>(number(text.substr(0, 2), 16));
        text.remove_prefix(2);
        break;
      case '{': {
        const std::string piece = unescape(text, true);
        const auto count = repetition_end(text);
        CHECK(count.has_value());
        for (size_t n = number(*count, 10); n > 0; --n) out += piece;
        text.remove_prefix(count->size() + 2);
        break;
      }
      default: CHECK(false);
    }
  }
  CHECK(!inside_repetition);
  return out;
}

std::string unescape(std::string_view text) { return unescape(text, false); }

std::string_view trim(std::string_view text) {
  while (text.starts_with(' ')) text.remove_prefix(1);
  while (text.ends_with(' ')) text.remove_suffix(1);
  return text;
}

// What stands behind a line's mark and one blank.
std::string_view behind(std::string_view line, std::string_view mark) {
  line.remove_prefix(mark.size());
  if (line.starts_with(' ')) line.remove_prefix(1);
  return line;
}

class Reader {
 public:
  void read(const std::filesystem::path& path) {
    std::ifstream file(path);
    CHECK(file.good());
    for (std::string line; std::getline(file, line);) take(line);
    finish();
  }

  std::vector<Case> cases;

 private:
  void take(std::string_view line) {
    if (line.empty() || line.starts_with('#')) return;
    if (line.starts_with("== ")) {
      finish();
      requirement_ = line.substr(3);
      template_.clear();
    } else if (line.starts_with("-- ")) {
      begin(line.substr(3));
    } else if (line == ">|") {
      sending().ends_sending = true;
    } else if (line.starts_with(">>")) {
      sending().bytes += unescape(behind(line, ">>"));
    } else if (line.starts_with('>')) {
      sending().bytes += unescape(behind(line, ">")) + "\r\n";
    } else if (line.starts_with("<:")) {
      case_->stages.back().answers.back().fields.emplace_back(behind(line, "<:"));
    } else if (line.starts_with('<')) {
      expect(behind(line, "<"));
    } else if (line.starts_with('%')) {
      finish();
      if (!collecting_) template_.clear();
      collecting_ = true;
      template_ += line.starts_with("%%") ? behind(line, "%%") : std::string(behind(line, "%")) + "\\r\\n";
      return;
    } else {
      CHECK(line.starts_with("- "));
      take_row(line.substr(2));
    }
    collecting_ = false;
  }

  void take_row(std::string_view row) {
    const size_t first = row.find(" | ");
    const size_t last = row.rfind(" | ");
    CHECK(first != std::string_view::npos);
    const std::string_view text = last > first ? trim(row.substr(first + 2, last - first - 2)) : std::string_view{};
    const size_t place = template_.find("{}");
    CHECK(place != std::string::npos);
    begin(row.substr(0, first));
    sending().bytes = unescape(std::string(template_).replace(place, 2, text));
    expect(row.substr(last + 3));
    finish();
  }

  void begin(std::string_view name) {
    finish();
    case_ = Case{.name = requirement_ + " / " + std::string(name), .stages = {}};
  }

  // The stage that bytes are added to; a new one once the last has its answers.
  Stage& sending() {
    CHECK(case_.has_value());
    if (case_->stages.empty() || !case_->stages.back().answers.empty()) case_->stages.emplace_back();
    return case_->stages.back();
  }

  void expect(std::string_view outcome) {
    CHECK(case_.has_value());
    if (case_->stages.empty()) case_->stages.emplace_back();
    while (!(outcome = trim(outcome)).empty()) {
      const std::string_view word = outcome.substr(0, outcome.find(' '));
      outcome.remove_prefix(word.size());
      if (word == "close") {
        case_->closes = true;
      } else if (word == "nothing") {
        case_->nothing = true;
      } else {
        Answer answer{.status = static_cast<int>(number(word.substr(0, 3), 10))};
        const std::string_view rest = word.substr(3);
        answer.to_head = rest == "/head";
        answer.has_body = rest.starts_with('=');
        CHECK(rest.empty() || answer.to_head || answer.has_body);
        if (answer.has_body) answer.body = unescape(rest.substr(1));
        case_->stages.back().answers.push_back(std::move(answer));
      }
    }
  }

  void finish() {
    if (!case_) return;
    CHECK(!case_->stages.empty());
    const bool answered = !case_->stages.back().answers.empty();
    CHECK(answered != case_->nothing || (!answered && case_->closes));
    cases.push_back(std::move(*case_));
    case_.reset();
  }

  std::string requirement_;
  std::string template_;
  bool collecting_ = false;  // true while lines of one template follow each other
  std::optional<Case> case_;
};

}  // namespace

std::vector<Case> read_cases(const std::string& folder) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() == ".cases") files.push_back(entry.path());
  }
  std::ranges::sort(files);
  Reader reader;
  for (const auto& file : files) reader.read(file);
  return std::move(reader.cases);
}

}  // namespace kiln::conformance
