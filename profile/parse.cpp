#include "profile/parse.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "base/quantity.h"

namespace kiln::profile {
namespace {

constexpr std::string_view kBlanks = " \t\r\n";
constexpr std::string_view kEndsOfToken = " \t\r\n,:@()";

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

double to_seconds(Time time) { return static_cast<double>(time.count()) / 1e9; }

struct Token {
  std::string_view text;  // empty where something else, or nothing, stands
  size_t position;
};

// Reads from left to right and builds the profile. The first failure is kept, and what is read after it means nothing,
// so that the grammar need not ask after every step.
class Reader {
 public:
  Reader(std::string_view text, const ParseOptions& options)
      : text_(text), rest_ends_(text.size()), options_(options) {}

  std::expected<Profile, ParseError> read_pieces() {
    if (at_end()) fail(at_, "the profile is empty: write RATE@TIME, such as 20@1m");
    do {
      read_piece();
    } while (!error_ && take(','));
    if (!at_end()) fail(at_, "a comma is missing before this");
    return finish();
  }

  std::expected<Profile, ParseError> read_csv() {
    constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
    if (text_.starts_with(kByteOrderMark)) at_ = kByteOrderMark.size();
    bool may_be_header = true;
    for (line_ = 1; !error_ && at_ < text_.size(); ++line_) {
      rest_ends_ = std::min(text_.find('\n', at_), text_.size());
      if (!at_end() && text_[at_] != '#') {
        if (!may_be_header || !is_letter(text_[at_])) read_point();
        may_be_header = false;
      }
      at_ = rest_ends_ + 1;
    }
    line_ = 0;
    if (!point_) fail(text_.size(), "the file is empty: write lines of seconds,rate, such as 0,20");
    if (profile_.pieces().empty()) fail(text_.size(), "a later line is missing: the last one says where the end is");
    return finish();
  }

 private:
  struct Point {
    Time at;
    double rate;
  };

  void fail(size_t position, std::string what) {
    if (error_) return;
    if (line_ != 0) what = "line " + std::to_string(line_) + ": " + what;
    error_ = {position, std::move(what)};
  }

  // What is left to read, without the blanks before it.
  std::string_view rest() {
    std::string_view rest = text_.substr(at_, rest_ends_ - at_);
    rest.remove_prefix(std::min(rest.find_first_not_of(kBlanks), rest.size()));
    at_ = rest_ends_ - rest.size();
    return rest;
  }

  bool at_end() { return rest().empty(); }

  bool take(char mark) {
    if (!rest().starts_with(mark)) return false;
    ++at_;
    return true;
  }

  void expect(char mark, std::string_view otherwise) {
    if (!take(mark)) fail(at_, std::string(otherwise));
  }

  Token take_token() {
    std::string_view token = rest();
    token = token.substr(0, token.find_first_of(kEndsOfToken));
    const size_t position = at_;
    at_ += token.size();
    return {token, position};
  }

  double rate_of(const Token& token) {
    std::string_view number = token.text;
    double requests = 1;  // a second, for each unit of the number
    if (number.ends_with('m')) {
      number.remove_suffix(1);
      requests = requests_for_millicore(token.position);
    }
    const auto parsed = base::parse_decimal(number);
    if (!parsed) {
      fail(token.position, "a rate is needed here: requests a second, such as 20 or 0.5, or millicores, such as 300m");
    }
    const double rate = parsed.value_or(0) * requests;
    check_rate(rate, token.position);
    return rate;
  }

  double requests_for_millicore(size_t position) {
    constexpr double kCpuNanosecondsOfMillicore = 1e6;  // a second
    if (!options_.cost) {
      fail(position, "a rate in millicores needs the CPU time that a request costs, which was not given");
    } else if (*options_.cost <= Time(0)) {
      fail(position, "a rate in millicores means nothing when a request costs no CPU time");
    } else {
      return kCpuNanosecondsOfMillicore / static_cast<double>(options_.cost->count());
    }
    return 1;
  }

  void check_rate(double rate, size_t position) {
    if (rate > kRateMax) fail(position, "this asks for more than 1000000 requests a second, the most there is");
  }

  Time time_of(const Token& token) {
    const auto time = base::parse_duration(token.text);
    if (!time) {
      fail(token.position, "a time is needed here: a number and its unit, such as 30s, 5m or 1.5h");
    } else if (*time == Time(0)) {
      fail(token.position, "a time must be longer than 0");
    }
    return time.value_or(Time(0));
  }

  Time period_of(const Token& token) {
    const Time time = time_of(token);
    if (time < kPeriodMin) fail(token.position, "this is shorter than 1ms, and nobody could tell it from its mean");
    return time;
  }

  void read_piece() {
    const Token first = take_token();
    const Shape shape = take('(') ? read_function(first) : read_ramp(first);
    expect('@', "@TIME is needed here: how long this lasts, such as @1m");
    const Token time = take_token();
    append(shape, time_of(time), time.position);
  }

  Shape read_ramp(const Token& first) {
    const double from = rate_of(first);
    const double to = take(':') ? rate_of(take_token()) : from;
    return Ramp{.from = from, .to = to, .seconds = 0};
  }

  Shape read_function(const Token& name) {
    if (name.text == "sine") return read_sine();
    if (name.text == "burst") return read_burst();
    fail(name.position, "the functions are sine(MEAN,AMPLITUDE,PERIOD) and burst(BASE,PEAK,EVERY,WIDTH), no others");
    return {};
  }

  Shape read_sine() {
    constexpr std::string_view kForm = "this is not of the form sine(MEAN,AMPLITUDE,PERIOD)";
    const double mean = rate_of(take_token());
    expect(',', kForm);
    const Token token = take_token();
    const double amplitude = rate_of(token);
    if (amplitude > mean) fail(token.position, "the amplitude is above the mean: the rate would be negative at times");
    check_rate(mean + amplitude, token.position);
    expect(',', kForm);
    const Time period = period_of(take_token());
    expect(')', kForm);
    return Sine{.mean = mean, .amplitude = amplitude, .period = to_seconds(period)};
  }

  Shape read_burst() {
    constexpr std::string_view kForm = "this is not of the form burst(BASE,PEAK,EVERY,WIDTH)";
    const double base = rate_of(take_token());
    expect(',', kForm);
    const Token peak_token = take_token();
    const double peak = rate_of(peak_token);
    if (peak < base) fail(peak_token.position, "the peak is below the base");
    expect(',', kForm);
    const Time every = period_of(take_token());
    expect(',', kForm);
    const Token width_token = take_token();
    const Time width = time_of(width_token);
    if (width > every) fail(width_token.position, "a burst would be longer than the time from one to the next");
    expect(')', kForm);
    return Burst{.base = base, .peak = peak, .every = to_seconds(every), .width = to_seconds(width)};
  }

  // A line of a CSV file.
  void read_point() {
    constexpr std::string_view kForm = "this is not of the form seconds,rate";
    const Token seconds = take_token();
    const Time at = seconds_of(seconds);
    expect(',', kForm);
    const double rate = rate_of(take_token());
    if (!at_end()) fail(at_, std::string(kForm));
    if (!point_ && at != Time(0)) fail(seconds.position, "the first line must stand at second 0");
    if (point_ && at < point_->at) fail(seconds.position, "this is earlier than the line before");
    if (point_ && at > point_->at) {
      append(Ramp{.from = point_->rate, .to = rate, .seconds = 0}, at - point_->at, seconds.position);
    }
    point_ = Point{at, rate};
  }

  Time seconds_of(const Token& token) {
    // The unit is ours: that of "5m" would become another one.
    const bool ends_in_digit = !token.text.empty() && token.text.back() >= '0' && token.text.back() <= '9';
    const auto time = base::parse_duration(std::string(token.text) + "s");
    if (!ends_in_digit || !time) fail(token.position, "seconds are needed here, such as 90 or 0.5");
    return time.value_or(Time(0));
  }

  // A ramp learns here how long it is. `position` is where that stands.
  void append(Shape shape, Time time, size_t position) {
    if (!error_ && time > kDurationMax - profile_.duration()) fail(position, "the profile would be longer than 24h");
    if (!error_ && profile_.pieces().size() == kPiecesMax) fail(position, "the profile has more than 100000 pieces");
    if (error_) return;
    if (Ramp* ramp = std::get_if<Ramp>(&shape)) ramp->seconds = to_seconds(time);
    profile_.append(shape, time);
  }

  std::expected<Profile, ParseError> finish() {
    if (profile_.total() < 1) fail(0, "the profile asks for less than one request in all");
    if (error_) return std::unexpected(*std::move(error_));
    return std::move(profile_);
  }

  std::string_view text_;
  size_t at_ = 0;
  size_t rest_ends_;  // of the text, or of the line of a CSV file
  size_t line_ = 0;   // of a CSV file, from 1
  const ParseOptions& options_;
  std::optional<ParseError> error_;
  std::optional<Point> point_;  // the last one of a CSV file
  Profile profile_;
};

}  // namespace

std::expected<Profile, ParseError> parse_profile(std::string_view text, const ParseOptions& options) {
  return Reader(text, options).read_pieces();
}

std::expected<Profile, ParseError> parse_profile_csv(std::string_view text, const ParseOptions& options) {
  return Reader(text, options).read_csv();
}

bool names_csv_file(std::string_view text) { return text.ends_with(".csv"); }

std::string point_at(std::string_view text, const ParseError& error) {
  constexpr size_t kColumnsBefore = 60;
  constexpr size_t kColumnsMax = 76;
  const size_t position = std::min(error.position, text.size());
  const size_t line_begins = text.substr(0, position).rfind('\n') + 1;  // 0 when there is none: npos + 1
  const size_t begins = std::max(line_begins, position - std::min(position, kColumnsBefore));
  const size_t ends = std::min(text.find('\n', position), text.size());
  std::string shown;
  // A byte is a column, whatever it is, so that the caret stands where it should.
  for (const char c : text.substr(begins, std::min(ends - begins, kColumnsMax)))
    shown += c >= ' ' && c <= '~' ? c : '?';
  return shown + "\n" + std::string(position - begins, ' ') + "^";
}

}  // namespace kiln::profile
