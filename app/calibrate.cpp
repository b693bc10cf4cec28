#include "app/calibrate.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <optional>
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
// A millisecond in each period of 100 (min_cfs_quota_period, kernel/sched/core.c).
constexpr double kQuotaLeast = 10;

// In one line, whatever was given or came.
int complain(int status, std::string_view what) {
  print(stderr, fmt::format("kiln calibrate: {}\n", load::printable(what)));
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

base::Result<double> millicores_of(const char* flag, const std::string& text, double least) {
  const auto parsed = base::parse_millicores(text);
  if (!parsed) return base::error(fmt::format("{}: {}", flag, parsed.error().what));
  if (*parsed < least) return base::error(fmt::format("{}: '{}' is less than {:g}m", flag, text, least));
  return *parsed;
}

base::Result<void> take_slope(const std::string& text, Asked& asked) {
  if (text.empty()) return {};
  if (text.ends_with('m')) {
    const auto millicores = base::parse_millicores(text);
    if (!millicores) return base::error("--slope: " + millicores.error().what);
    asked.wishes.slope_millicores = *millicores;
  } else {
    const auto requests = base::parse_decimal(text);
    if (!requests) return base::error("--slope: " + requests.error().what);
    asked.slope_requests = *requests;
  }
  const double slope = asked.slope_requests ? *asked.slope_requests : *asked.wishes.slope_millicores;
  if (slope >= calibrate::kSlopeLeast && slope <= calibrate::kSlopeMost) return {};
  return base::error(fmt::format("--slope: '{}' is not from {:g} to {:.0f}, m or requests, a second", text,
                                 calibrate::kSlopeLeast, calibrate::kSlopeMost));
}

base::Result<Asked> understand(const CalibrateArguments& arguments) {
  Asked asked;
  for (const auto& [flag, text, into] : {std::tuple{"", &arguments.url, &asked.url},
                                         std::tuple{"--metrics: ", &arguments.metrics, &asked.metrics}}) {
    if (text->empty()) continue;
    auto url = url_of(flag, *text);
    if (!url) return std::unexpected(std::move(url.error()));
    *into = std::move(*url);
  }
  std::optional<double> request;
  for (const auto& [flag, text, least, into] :
       {std::tuple{"--quota", &arguments.quota, kQuotaLeast, &asked.quota_millicores},
        std::tuple{"--limit", &arguments.limit, 1.0, &asked.limit_millicores},
        std::tuple{"--request", &arguments.request, 1.0, &request}}) {
    if (text->empty()) continue;
    const auto millicores = millicores_of(flag, *text, least);
    if (!millicores) return std::unexpected(millicores.error());
    *into = *millicores;
  }
  if (!request) return base::error("--request: '' is no CPU");
  if (*request != std::floor(*request)) {
    return base::error(fmt::format("--request: '{}' is no whole number of millicores, the least that Kubernetes knows",
                                   arguments.request));
  }
  asked.wishes.request_millicores = *request;
  const auto ms = base::parse_decimal(arguments.ms);
  if (!ms || *ms <= 0 || *ms > kMsMax) {
    return base::error(fmt::format("--ms: '{}' is not a number above 0 and at most {:g}", arguments.ms, kMsMax));
  }
  asked.ms = *ms;
  const auto seed = base::parse_integer(arguments.seed);
  if (!seed) return base::error("--seed: " + seed.error().what);
  asked.run.seed = *seed;
  asked.wishes.target_percent = arguments.target;
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
    print(stderr, fmt::format("\r[{:#<{}}{:.<{}}] {:.0f} s left: {}\x1b[K", "", full, "", kColumns - full,
                              planned - done, doing));
  }
  void clear() const {
    if (on_terminal_) print(stderr, "\r\x1b[K");
  }

 private:
  const bool on_terminal_ = is_drawable(stderr);
};

// EINVAL: the command line does not fit what is there.
base::Result<void> check_request(const Asked& asked, const calibrate::Calibration& facts) {
  if (asked.wishes.request_millicores <= facts.limit_millicores) return {};
  return std::unexpected(base::Error{EINVAL, fmt::format("--request {}: is above the limit of {}",
                                                         calibrate::cpu_text(asked.wishes.request_millicores),
                                                         calibrate::cpu_text(facts.limit_millicores))});
}

base::Result<calibrate::Calibration> measure(Asked& asked, const CalibrateArguments& arguments) {
  notice_interrupts();
  asked.run.interrupted = [] { return interrupted_by() != 0; };
  auto subject = asked.url ? calibrate::remote_subject({.url = *asked.url,
                                                        .metrics = asked.metrics,
                                                        .limit_millicores = asked.limit_millicores,
                                                        .ms = asked.ms})
                           : calibrate::own_subject({.ms = asked.ms,
                                                     .quota_millicores = asked.quota_millicores,
                                                     .engine = arguments.engine,
                                                     .interrupted = asked.run.interrupted});
  if (!subject) return std::unexpected(std::move(subject.error()));
  if (const auto fits = check_request(asked, subject->facts); !fits) return std::unexpected(fits.error());
  subject->facts.kiln = fmt::format("{} ({})", build_facts().version, build_facts().commit);
  ProgressLine line;
  asked.run.progress = [&line](std::string_view doing, double done, double planned) {
    line.show(doing, done, planned);
  };
  auto found = calibrate::run(*subject, asked.run);
  line.clear();
  return found;
}

base::Result<calibrate::Calibration> read(const Asked& asked, const std::string& path) {
  const auto text = read_file(path);
  if (!text) return std::unexpected(text.error());
  auto found = calibrate::from_json(*text);
  if (!found) return base::error(path + ": " + found.error().what);
  if (!found->line || found->interrupted) return base::error(path + ": it was interrupted and has no line");
  if (found->limit_millicores <= 0) return base::error(path + ": it has no limit");
  if (const auto fits = check_request(asked, *found); !fits) return std::unexpected(fits.error());
  return found;
}

// Whether the patch can be written, and what is there is ours to replace.
base::Result<void> check_patch(const std::string& directory) {
  std::error_code ignored;
  if (fs::exists(directory, ignored) && !fs::is_directory(directory, ignored)) {
    return base::error(fmt::format("--patch: '{}' is there and no directory", directory));
  }
  fs::path parent = fs::absolute(directory, ignored);
  while (!fs::exists(parent, ignored) && parent.has_relative_path()) parent = parent.parent_path();
  const int error = !fs::is_directory(parent, ignored) ? ENOTDIR : ::access(parent.c_str(), W_OK) != 0 ? errno : 0;
  if (error != 0) return base::system_error("--patch: writing into " + parent.string(), error);
  const std::string path = fs::path(directory) / calibrate::kPatchFile;
  const auto there = read_file(path);
  if (fs::exists(path, ignored) && (!there || !there->starts_with(calibrate::kPatchBegins))) {
    return base::error(path + " is not one of ours: --patch takes a directory of its own");
  }
  return {};
}

// What is written at the end can be written, before minutes are spent on what it shall hold.
base::Result<void> check_places(const CalibrateArguments& arguments) {
  std::error_code ignored;
  if (!arguments.out.empty()) {
    const fs::path path = arguments.out;
    if (fs::exists(path, ignored) && !fs::is_regular_file(path, ignored)) {
      return base::error(fmt::format("--out: '{}' is there and no file; --out '' writes none", arguments.out));
    }
    const std::string directory = path.has_parent_path() ? path.parent_path().string() : ".";
    if (::access(directory.c_str(), W_OK) != 0) {
      const auto why = base::system_error("writing " + arguments.out, errno);
      return base::error(why.error().what + "; --out '' writes none");
    }
  }
  return arguments.patch.empty() ? base::Result<void>() : check_patch(arguments.patch);
}

// The rest of what was asked for, once the report is there.
int patch(const CalibrateArguments& arguments, const calibrate::Wishes& wishes, const calibrate::Calibration& found,
          const calibrate::Advice& advice) {
  const bool limited = found.limit_was_in_force();
  if (!arguments.target && !limited) {
    return complain(kFailed, "--patch: no limit was in force, so none is known to fit, nor a target: calibrate under "
                             "one, or choose a --target");
  }
  const auto target = arguments.target ? arguments.target : advice.recommended;
  if (!target) return complain(kFailed, "--patch: no target is recommended: choose one with --target");
  const auto at = std::ranges::find(advice.thresholds, *target, &calibrate::Threshold::target_percent);
  if (!at->can_trigger) {
    return complain(kFailed, fmt::format("--patch: a target of {} % never scales up: a replica would have to use more "
                                         "than {}, which it cannot", *target,
                                         calibrate::cpu_text(at->acts_from_millicores)));
  }
  const std::string request = calibrate::cpu_text(wishes.request_millicores);
  const std::string limit = limited ? fmt::format(", a limit of {}", calibrate::cpu_text(found.limit_millicores)) : "";
  const std::string text = calibrate::patch_text(
      {.name = arguments.name,
       .request_millicores = wishes.request_millicores,
       .limit_millicores = limited ? std::optional(found.limit_millicores) : std::nullopt,
       .target_percent = *target});
  std::error_code error;
  fs::create_directories(arguments.patch, error);
  if (error) return complain(kFailed, base::system_error("making " + arguments.patch, error.value()).error().what);
  const auto written = replace_file(fs::path(arguments.patch) / calibrate::kPatchFile, text);
  if (!written) return complain(kFailed, written.error().what);
  print(stderr, fmt::format("kiln calibrate: a request of {}{} and a target of {} % written to {}\n", request, limit,
                            *target, arguments.patch));
  return 0;
}

}  // namespace

int calibrate(const CalibrateArguments& arguments) {
  auto asked = understand(arguments);
  if (!asked) return complain(kBadCommandLine, asked.error().what);
  if (const auto writable = check_places(arguments); !writable) return complain(kFailed, writable.error().what);
  const bool measures = arguments.from.empty();
  const auto found = measures ? measure(*asked, arguments) : read(*asked, arguments.from);
  if (!found && interrupted_by() != 0) return complain(128 + interrupted_by(), "interrupted: nothing was measured");
  if (!found) return complain(found.error().code == EINVAL ? kBadCommandLine : kFailed, found.error().what);

  base::Result<calibrate::Advice> advice = base::error("interrupted: this is what was measured by then");
  if (!found->interrupted) {
    if (asked->slope_requests) asked->wishes.slope_millicores = *asked->slope_requests * found->line->cost_ms;
    advice = calibrate::advise(*found, asked->wishes);
  }
  const std::string json =
      calibrate::to_json(*found, advice ? calibrate::to_json(*advice, asked->wishes) : std::string());
  // First of all what took the time.
  const bool keeps = measures && !found->interrupted && !arguments.out.empty();
  base::Result<void> written;
  if (keeps) written = replace_file(arguments.out, json);
  const std::string text =
      calibrate::to_text(*found) + (advice ? "\n" + calibrate::to_text(*advice, *found, asked->wishes) : "");
  if (!print(stdout, arguments.format == "json" ? json : text)) {
    return complain(kFailed, base::system_error("writing the report", errno).error().what);
  }
  if (found->interrupted) return complain(128 + interrupted_by(), advice.error().what);
  if (!written) return complain(kFailed, written.error().what);
  if (keeps) print(stderr, fmt::format("kiln calibrate: written to {}\n", arguments.out));
  if (!advice) return complain(kBadCommandLine, advice.error().what);
  return arguments.patch.empty() ? 0 : patch(arguments, asked->wishes, *found, *advice);
}

}  // namespace kiln::app
