#include "app/calibrate.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <string_view>
#include <tuple>
#include <utility>

#include "app/files.h"
#include "app/interrupt.h"
#include "app/version.h"
#include "base/quantity.h"
#include "calibrate/advice.h"
#include "calibrate/calibration.h"
#include "calibrate/patch.h"
#include "calibrate/run.h"
#include "calibrate/subject.h"
#include "http/url.h"
#include "load/report.h"

namespace kiln::app {

namespace {

namespace fs = std::filesystem;

constexpr int kFailed = 1, kBadCommandLine = 2;
constexpr double kMsMax = 1000;  // the server's --load-max, unless it says otherwise

int complain(int status, std::string_view what) {
  fmt::print(stderr, "kiln calibrate: {}\n", what);
  return status;
}

// The command line, understood.
struct Asked {
  std::optional<http::Url> url;
  std::optional<http::Url> metrics;
  std::optional<double> quota_millicores;
  std::optional<double> limit_millicores;
  double ms = 0;
  calibrate::RunOptions run;
  calibrate::Wishes wishes;
  std::optional<double> slope_requests;  // a second, each second; nothing: wishes.slope_millicores
};

base::Result<http::Url> url_of(const char* flag, const std::string& text) {
  http::UrlResult parsed = http::parse_url(text);
  if (parsed.fault == http::UrlFault::None) return std::move(parsed.url);
  return base::error(fmt::format("{}'{}': {}", flag, load::printable(text), http::url_fault_text(parsed.fault)));
}

base::Result<double> millicores_of(const char* flag, const std::string& text) {
  const auto parsed = base::parse_millicores(text);
  if (!parsed) return base::error(fmt::format("{}: {}", flag, parsed.error().what));
  if (*parsed < 1) return base::error(fmt::format("{}: '{}' is less than a millicore", flag, text));
  return *parsed;
}

base::Result<void> take_slope(const std::string& text, Asked& asked) {
  if (text.ends_with('m')) {
    const auto millicores = base::parse_millicores(text);
    if (!millicores) return base::error("--slope: " + millicores.error().what);
    asked.wishes.slope_millicores = *millicores;
  } else {
    const auto requests = base::parse_decimal(text);
    if (!requests) return base::error("--slope: " + requests.error().what);
    asked.slope_requests = *requests;
  }
  if (asked.slope_requests.value_or(asked.wishes.slope_millicores) > 0) return {};
  return base::error(fmt::format("--slope: '{}' is no growth", text));
}

// What is measured with a flag cannot be read from a file, and the other way round.
base::Result<void> check_together(const CalibrateArguments& arguments) {
  const bool has_url = !arguments.url.empty();
  struct Pair {
    bool wrong;
    const char* why;
  };
  for (const auto& [wrong, why] :
       {Pair{!arguments.from.empty() && (has_url || !arguments.quota.empty() || !arguments.limit.empty()),
             "--from: what it holds was measured already: leave out URL, --quota and --limit"},
        Pair{has_url && !arguments.quota.empty(), "--quota: is for a server of its own; for one at a URL say --limit"},
        Pair{!has_url && !arguments.limit.empty(), "--limit: is for a server at a URL; for one of its own say --quota"},
        Pair{!has_url && !arguments.metrics.empty(), "--metrics: is for a server at a URL"}}) {
    if (wrong) return base::error(why);
  }
  return {};
}

base::Result<Asked> understand(const CalibrateArguments& arguments) {
  Asked asked;
  if (const auto fits = check_together(arguments); !fits) return std::unexpected(fits.error());
  for (const auto& [flag, text, into] : {std::tuple{"", &arguments.url, &asked.url},
                                         std::tuple{"--metrics: ", &arguments.metrics, &asked.metrics}}) {
    if (text->empty()) continue;
    auto url = url_of(flag, *text);
    if (!url) return std::unexpected(std::move(url.error()));
    *into = std::move(*url);
  }
  std::optional<double> request;
  for (const auto& [flag, text, into] : {std::tuple{"--quota", &arguments.quota, &asked.quota_millicores},
                                         std::tuple{"--limit", &arguments.limit, &asked.limit_millicores},
                                         std::tuple{"--request", &arguments.request, &request}}) {
    if (text->empty()) continue;
    const auto millicores = millicores_of(flag, *text);
    if (!millicores) return std::unexpected(millicores.error());
    *into = *millicores;
  }
  if (!request) return base::error("--request: '' is no CPU");
  asked.wishes.request_millicores = *request;
  const auto ms = base::parse_decimal(arguments.ms);
  if (!ms || *ms <= 0 || *ms > kMsMax) {
    return base::error(fmt::format("--ms: '{}' is not a number above 0 and at most {:g}", arguments.ms, kMsMax));
  }
  asked.ms = *ms;
  if (const auto slope = take_slope(arguments.slope, asked); !slope) return std::unexpected(slope.error());
  for (const auto& [flag, text, into] : {std::tuple{"--reaction", &arguments.reaction, &asked.wishes.reaction},
                                         std::tuple{"--step-time", &arguments.step_time, &asked.run.step}}) {
    const auto time = base::parse_duration(*text);
    if (!time) return base::error(fmt::format("{}: {}", flag, time.error().what));
    *into = *time;
  }
  if (asked.run.step < calibrate::kStepMin || asked.run.step > std::chrono::hours(1)) {
    return base::error(fmt::format("--step-time: '{}' is not from {} to 1h", arguments.step_time,
                                   base::format_duration(calibrate::kStepMin)));
  }
  if (!arguments.goal.empty()) {
    const auto goal = calibrate::parse_goal(arguments.goal);
    if (!goal) return base::error("--slo: " + goal.error().what);
    asked.wishes.p99_max = *goal;
  }
  if (!calibrate::is_object_name(arguments.name)) {
    return base::error(fmt::format("--name: '{}' is no name of a Kubernetes object", load::printable(arguments.name)));
  }
  return asked;
}

// One line on a terminal, drawn anew; nothing elsewhere.
class ProgressLine {
 public:
  void show(std::string_view doing, double done, double planned) {
    if (!on_terminal_) return;
    constexpr size_t kColumns = 30;
    const auto full = static_cast<size_t>(done / planned * kColumns);
    fmt::print(stderr, "\r[{:#<{}}{:.<{}}] {:.0f} s left: {}\x1b[K", "", full, "", kColumns - full, planned - done,
               doing);
    std::fflush(stderr);
  }
  void clear() const {
    if (on_terminal_) fmt::print(stderr, "\r\x1b[K");
  }

 private:
  const bool on_terminal_ = ::isatty(STDERR_FILENO) == 1;
};

// EINVAL: the command line does not fit what is there.
base::Result<calibrate::Calibration> measure(Asked& asked, const CalibrateArguments& arguments) {
  auto subject = asked.url ? calibrate::remote_subject({.url = *asked.url,
                                                        .metrics = asked.metrics,
                                                        .limit_millicores = asked.limit_millicores,
                                                        .ms = asked.ms})
                           : calibrate::own_subject({.ms = asked.ms,
                                                     .quota_millicores = asked.quota_millicores,
                                                     .engine = arguments.engine});
  if (!subject) return std::unexpected(std::move(subject.error()));
  if (asked.wishes.request_millicores > subject->facts.limit_millicores) {
    return std::unexpected(base::Error{
        EINVAL, fmt::format("--request {:g}m: is above the limit of {:g}m", asked.wishes.request_millicores,
                            subject->facts.limit_millicores)});
  }
  subject->facts.kiln = fmt::format("{} ({})", build_facts().version, build_facts().commit);
  notice_interrupts();
  ProgressLine line;
  asked.run.progress = [&line](std::string_view doing, double done, double planned) {
    line.show(doing, done, planned);
  };
  asked.run.interrupted = [] { return interrupted_by() != 0; };
  auto found = calibrate::run(*subject, asked.run);
  line.clear();
  return found;
}

base::Result<calibrate::Calibration> read(const std::string& path) {
  const auto text = read_file(path);
  if (!text) return std::unexpected(text.error());
  auto found = calibrate::from_json(*text);
  if (!found) return base::error(path + ": " + found.error().what);
  if (!found->line) return base::error(path + ": has no line: it was interrupted before");
  return found;
}

base::Result<void> write_patch(const CalibrateArguments& arguments, const calibrate::PatchOptions& options) {
  std::error_code error;
  fs::create_directories(arguments.patch, error);
  if (error) return base::system_error("making " + arguments.patch, error.value());
  for (const calibrate::File& file : calibrate::patch_files(options)) {
    const std::string path = fs::path(arguments.patch) / file.name;
    const std::string_view first_line = std::string_view(file.text).substr(0, file.text.find('\n'));
    if (const auto there = read_file(path); there && !there->starts_with(first_line)) {
      return base::error(path + " is not one of ours: --patch takes a directory of its own");
    }
    if (const auto written = replace_file(path, file.text); !written) return std::unexpected(written.error());
  }
  return {};
}

// What the file is to be written to exists before minutes are spent on what it shall hold.
base::Result<void> check_writable(const std::string& path) {
  const std::string directory = fs::path(path).has_parent_path() ? fs::path(path).parent_path().string() : ".";
  if (::access(directory.c_str(), W_OK) == 0) return {};
  return base::system_error("writing " + path, errno);
}

}  // namespace

int calibrate(const CalibrateArguments& arguments) {
  auto asked = understand(arguments);
  if (!asked) return complain(kBadCommandLine, asked.error().what);
  const bool measures = arguments.from.empty();
  if (measures && !arguments.out.empty()) {
    if (const auto writable = check_writable(arguments.out); !writable) return complain(kFailed, writable.error().what);
  }
  const auto found = measures ? measure(*asked, arguments) : read(arguments.from);
  if (!found) return complain(found.error().code == EINVAL ? kBadCommandLine : kFailed, found.error().what);

  std::optional<calibrate::Advice> advice;
  if (found->line && !found->interrupted) {
    if (asked->slope_requests) asked->wishes.slope_millicores = *asked->slope_requests * found->line->cost_ms;
    auto advised = calibrate::advise(*found, asked->wishes);
    if (!advised) return complain(kBadCommandLine, advised.error().what);
    advice = std::move(*advised);
  }
  const std::string json =
      calibrate::to_json(*found, advice ? calibrate::to_json(*advice, asked->wishes) : std::string());
  if (arguments.format == "json") {
    fmt::print("{}", json);
  } else {
    fmt::print("{}", calibrate::to_text(*found));
    if (advice) fmt::print("\n{}", calibrate::to_text(*advice, *found, asked->wishes));
  }
  if (std::fflush(stdout) != 0) return complain(kFailed, base::system_error("writing the report", errno).error().what);
  if (found->interrupted) return complain(128 + interrupted_by(), "interrupted: this is what was measured by then");

  if (measures && !arguments.out.empty()) {
    const auto written = replace_file(arguments.out, json);
    if (!written) return complain(kFailed, written.error().what);
    fmt::print(stderr, "kiln calibrate: written to {}\n", arguments.out);
  }
  if (arguments.patch.empty()) return 0;
  const auto target = arguments.target ? arguments.target : advice ? advice->recommended : std::nullopt;
  if (!target) return complain(kFailed, "--patch: no target is recommended: choose one with --target");
  const auto written = write_patch(arguments, {.name = arguments.name,
                                               .request_millicores = asked->wishes.request_millicores,
                                               .limit_millicores = found->limit_millicores,
                                               .target_percent = *target});
  if (!written) return complain(kFailed, written.error().what);
  fmt::print(stderr, "kiln calibrate: a target of {} % written to {}\n", *target, arguments.patch);
  return 0;
}

}  // namespace kiln::app
