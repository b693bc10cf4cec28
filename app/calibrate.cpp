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
  if (text.ends_with('m')) {
    const auto millicores = base::parse_millicores(text);
    if (!millicores) return base::error("--slope: " + millicores.error().what);
    asked.wishes.slope_millicores = *millicores;
  } else {
    const auto requests = base::parse_decimal(text);
    if (!requests) return base::error("--slope: " + requests.error().what);
    asked.slope_requests = *requests;
  }
  const double slope = asked.slope_requests.value_or(asked.wishes.slope_millicores);
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
    print(stderr, fmt::format("\r[{:#<{}}{:.<{}}] {:.0f} s left: {}\x1b[K", "", full, "", kColumns - full,
                              planned - done, doing));
  }
  void clear() const {
    if (on_terminal_) print(stderr, "\r\x1b[K");
  }

 private:
  const bool on_terminal_ = ::isatty(STDERR_FILENO) == 1;
};

// EINVAL: the command line does not fit what is there.
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
  if (asked.wishes.request_millicores > subject->facts.limit_millicores) {
    return std::unexpected(base::Error{
        EINVAL, fmt::format("--request {}: is above the limit of {}",
                            calibrate::cpu_text(asked.wishes.request_millicores),
                            calibrate::cpu_text(subject->facts.limit_millicores))});
  }
  subject->facts.kiln = fmt::format("{} ({})", build_facts().version, build_facts().commit);
  ProgressLine line;
  asked.run.progress = [&line](std::string_view doing, double done, double planned) {
    line.show(doing, done, planned);
  };
  auto found = calibrate::run(*subject, asked.run);
  line.clear();
  return found;
}

base::Result<calibrate::Calibration> read(const std::string& path) {
  const auto text = read_file(path);
  if (!text) return std::unexpected(text.error());
  auto found = calibrate::from_json(*text);
  if (!found) return base::error(path + ": " + found.error().what);
  if (!found->line || found->interrupted) return base::error(path + ": it was interrupted and has no line");
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
  if (!arguments.patch.empty() && fs::exists(arguments.patch, ignored) && !fs::is_directory(arguments.patch, ignored)) {
    return base::error(fmt::format("--patch: '{}' is there and no directory", arguments.patch));
  }
  return {};
}

// The rest of what was asked for, once the report is there.
int patch(const CalibrateArguments& arguments, const calibrate::Wishes& wishes, const calibrate::Calibration& found,
          std::optional<unsigned> recommended) {
  const auto target = arguments.target ? arguments.target : recommended;
  if (!target) return complain(kFailed, "--patch: no target is recommended: choose one with --target");
  const auto written = write_patch(arguments, {.name = arguments.name,
                                               .request_millicores = wishes.request_millicores,
                                               .limit_millicores = found.limit_millicores,
                                               .target_percent = *target});
  if (!written) return complain(kFailed, written.error().what);
  print(stderr, fmt::format("kiln calibrate: a target of {} % written to {}\n", *target, arguments.patch));
  return 0;
}

}  // namespace

int calibrate(const CalibrateArguments& arguments) {
  auto asked = understand(arguments);
  if (!asked) return complain(kBadCommandLine, asked.error().what);
  if (const auto writable = check_places(arguments); !writable) return complain(kFailed, writable.error().what);
  const bool measures = arguments.from.empty();
  const auto found = measures ? measure(*asked, arguments) : read(arguments.from);
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
  return arguments.patch.empty() ? 0 : patch(arguments, asked->wishes, *found, advice->recommended);
}

}  // namespace kiln::app
