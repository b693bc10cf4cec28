#include "app/load.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <memory>
#include <optional>
#include <utility>

#include "app/files.h"
#include "app/interrupt.h"
#include "app/load_view.h"
#include "base/quantity.h"
#include "calibrate/calibration.h"
#include "http/url.h"
#include "load/generator.h"
#include "load/report.h"
#include "profile/parse.h"

namespace kiln::app {

namespace {

constexpr int kFailed = 1, kBadCommandLine = 2, kGateFailed = 3;

int complain(int status, std::string_view what) {
  print(stderr, fmt::format("kiln load: {}\n", what));
  return status;
}

// The profile, or the sentence with the place under it.
base::Result<profile::Profile> profile_of(const LoadArguments& arguments) {
  profile::ParseOptions options;
  if (!arguments.cost.empty()) {
    const auto cost = base::parse_duration(arguments.cost);
    if (!cost) return base::error("--cost: " + cost.error().what);
    options.cost = *cost;
  }
  if (!arguments.calibration.empty()) {
    if (options.cost) return base::error("--calibration: the cost is given by --cost already");
    const auto file = read_file(arguments.calibration);
    if (!file) return base::error("--calibration: " + file.error().what);
    const auto found = calibrate::from_json(*file);
    if (!found) return base::error(fmt::format("--calibration: {}: {}", arguments.calibration, found.error().what));
    if (!found->line) return base::error(fmt::format("--calibration: {}: has no line", arguments.calibration));
    options.cost = std::chrono::round<std::chrono::nanoseconds>(
        std::chrono::duration<double, std::milli>(found->line->cost_ms));
  }
  const bool csv = profile::names_csv_file(arguments.profile);
  std::string text = arguments.profile;
  if (csv) {
    auto file = read_file(arguments.profile);
    if (!file) return base::error("--profile: " + file.error().what);
    text = std::move(*file);
  }
  auto parsed = csv ? profile::parse_profile_csv(text, options) : profile::parse_profile(text, options);
  if (!parsed) {
    return base::error(fmt::format("--profile: {}\n{}", parsed.error().what, profile::point_at(text, parsed.error())));
  }
  return std::move(*parsed);
}

base::Result<profile::Shard> shard_of(const LoadArguments& arguments, const Environment& environment) {
  if (arguments.shard.empty()) return profile::Shard{};
  const size_t slash = arguments.shard.find('/');
  std::string index = arguments.shard.substr(0, std::min(slash, arguments.shard.size()));
  std::string count = slash == std::string::npos ? std::exchange(index, "") : arguments.shard.substr(slash + 1);
  if (slash == std::string::npos) {
    const char* of_job = environment("JOB_COMPLETION_INDEX");
    if (of_job == nullptr) {
      return base::error(
          fmt::format("--shard: '{}' is a number of shards, and no JOB_COMPLETION_INDEX says which one this is: "
                      "write I/{}", count, count));
    }
    index = of_job;
  }
  const auto i = base::parse_integer(index), n = base::parse_integer(count);
  constexpr uint64_t kShardsMax = 10'000;
  if (!i || !n || *n == 0 || *n > kShardsMax || *i >= *n) {
    return base::error(fmt::format("--shard: '{}/{}' is not I/N with I from 0 to N - 1 and N at most {}", index, count,
                                   kShardsMax));
  }
  return profile::Shard{.index = static_cast<uint32_t>(*i), .count = static_cast<uint32_t>(*n)};
}

base::Result<std::vector<load::Gate>> gates_of(const LoadArguments& arguments) {
  std::vector<load::Gate> gates;
  for (const std::string& text : arguments.gates) {
    auto gate = load::Gate::parse(text);
    if (!gate) return base::error("--fail-if: " + gate.error().what);
    gates.push_back(std::move(*gate));
  }
  return gates;
}

// Times are added up, and in nanoseconds they end after 292 years.
base::Result<std::chrono::nanoseconds> time_of(std::string_view flag, const std::string& text) {
  const auto time = base::parse_duration(text);
  if (!time) return base::error(fmt::format("{}: {}", flag, time.error().what));
  if (*time > std::chrono::hours(24)) return base::error(fmt::format("{}: '{}' is more than 24h", flag, text));
  return time;
}

// Everything that can be wrong with the command line. `fields` point into `arguments`.
base::Result<load::GeneratorOptions> options_of(const LoadArguments& arguments, const Environment& environment) {
  load::GeneratorOptions options;
  if (arguments.url.empty()) return base::error("a URL is needed, as in kiln load http://localhost:8080/load?ms=5");
  const http::UrlResult url = http::parse_url(arguments.url);
  if (url.fault != http::UrlFault::None) {
    return base::error(fmt::format("'{}': {}", arguments.url, http::url_fault_text(url.fault)));
  }
  options.url = url.url;

  auto profile = profile_of(arguments);
  if (!profile) return std::unexpected(std::move(profile.error()));
  options.profile = std::move(*profile);
  options.profile_text = arguments.profile;
  options.arrivals = arguments.arrivals == "poisson" ? profile::Arrivals::Poisson : profile::Arrivals::Uniform;
  const auto seed = base::parse_integer(arguments.seed);
  if (!seed) return base::error("--seed: " + seed.error().what);
  options.seed = *seed;
  auto shard = shard_of(arguments, environment);
  if (!shard) return std::unexpected(std::move(shard.error()));
  options.shard = *shard;

  options.body = arguments.body;
  if (options.body == "@") return base::error("--body: '@' names no file");
  if (options.body.starts_with('@')) {
    auto body = read_file(options.body.substr(1));
    if (!body) return base::error(fmt::format("--body: '{}': {}", arguments.body, body.error().what));
    options.body = std::move(*body);
  }
  options.method = !arguments.method.empty() ? arguments.method : options.body.empty() ? "GET" : "POST";
  for (const std::string_view header : arguments.headers) {
    const size_t colon = header.find(':');
    if (colon == std::string_view::npos) return base::error(fmt::format("--header: '{}' has no colon", header));
    std::string_view value = header.substr(colon + 1);
    value.remove_prefix(std::min(value.find_first_not_of(' '), value.size()));
    options.fields.push_back({.name = header.substr(0, colon), .value = value});
  }

  struct Time {
    const char* flag;
    const std::string& text;
    std::chrono::nanoseconds& into;
  };
  for (const Time& time : {Time{"--keepalive-age", arguments.keepalive_age, options.keepalive_age},
                           Time{"--timeout", arguments.timeout, options.timeout}}) {
    const auto parsed = time_of(time.flag, time.text);
    if (!parsed) return std::unexpected(parsed.error());
    time.into = *parsed;
  }
  if (options.timeout <= std::chrono::nanoseconds::zero()) {
    return base::error(fmt::format("--timeout: '{}' is no time for an answer", arguments.timeout));
  }
  const auto request = load::request_text(options, true);
  if (!request) return std::unexpected(std::move(request.error()));
  if (arguments.no_keepalive) options.keepalive_age = {};
  if (arguments.threads > arguments.connections) {
    return base::error(fmt::format("--threads: {} need as many --connections at least, and those are {}",
                                   arguments.threads, arguments.connections));
  }
  options.connections_max = arguments.connections;
  options.threads = arguments.threads;
  options.engine = arguments.engine == "epoll"      ? core::EngineRequest::Epoll
                   : arguments.engine == "io_uring" ? core::EngineRequest::IoUring
                                                    : core::EngineRequest::Auto;

  // Shards agree on the next multiple by the clock on the wall; one that comes up too shortly before it takes the one
  // after.
  if (options.shard.count > 1) {
    const auto every = time_of("--start-every", arguments.start_every);
    if (!every) return std::unexpected(every.error());
    if (*every < std::chrono::seconds(1)) {
      return base::error(fmt::format("--start-every: '{}' is less than 1s", arguments.start_every));
    }
    const auto earliest = (std::chrono::system_clock::now() + std::chrono::seconds(1)).time_since_epoch();
    const auto turns = (earliest + *every - std::chrono::nanoseconds(1)) / *every;
    using Clock = std::chrono::system_clock;
    options.start = Clock::time_point(std::chrono::duration_cast<Clock::duration>(turns * *every));
  }
  return options;
}

int cannot_write(const std::string& what) {
  return complain(kFailed, base::system_error("writing " + what, errno).error().what);
}

// Prints the report, judges it, and says how the command ends. `hdr` is open where --hdr names a file.
int finish(const load::Report& report, const LoadArguments& arguments, const std::vector<load::Gate>& gates,
           std::ofstream& hdr) {
  int status = 0;
  if (!print(stdout, arguments.format == "json" ? load::to_json(report) + "\n" : load::to_text(report))) {
    status = cannot_write("the report");
  }
  if (hdr.is_open()) {
    hdr << report.latency.percentile_distribution({.unit = 1000});
    if (!hdr.flush()) status = cannot_write(arguments.hdr);
  }
  for (const load::Gate& gate : gates) {
    if (const auto why = gate.fails(report)) status = complain(kGateFailed, "failed by " + *why);
  }
  return status;
}

// The file may be the log of a pod: a line each second before the report, and what its gates said behind it.
base::Result<load::Report> report_in(std::string_view text) {
  auto whole = load::from_json(text);
  for (size_t end = text.size(); !whole && end != std::string_view::npos;) {
    const size_t before = end == 0 ? std::string_view::npos : text.rfind('\n', end - 1);
    const size_t begin = before == std::string_view::npos ? 0 : before + 1;
    if (auto line = load::from_json(text.substr(begin, end - begin))) return line;
    end = before;
  }
  return whole;
}

// Before minutes are spent on what it shall hold.
bool open_hdr(const LoadArguments& arguments, std::ofstream& file) {
  if (!arguments.hdr.empty()) file.open(arguments.hdr);
  return bool(file);
}

// The terminal's as it is now.
LoadView::Screen screen() {
  winsize size{};
  if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_row == 0 || size.ws_col == 0) return {};
  return {.rows = size.ws_row, .columns = size.ws_col};
}

}  // namespace

int load(const LoadArguments& arguments, const Environment& environment) {
  auto options = options_of(arguments, environment);
  if (!options) return complain(kBadCommandLine, options.error().what);
  const auto gates = gates_of(arguments);
  if (!gates) return complain(kBadCommandLine, gates.error().what);
  std::ofstream out_file;
  std::ostream* out = arguments.out == "-" ? &std::cout : nullptr;
  if (!arguments.out.empty() && out == nullptr) {
    out_file.open(arguments.out);
    if (!out_file) return cannot_write(arguments.out);
    out = &out_file;
  }
  std::ofstream hdr;
  if (!open_hdr(arguments, hdr)) return cannot_write(arguments.hdr);

  // The first signal ends the run with a report, the second the process, whichever they are.
  notice_interrupts();
  // What is taken away to be drawn anew must have nothing of others in it.
  const bool on_terminal = is_drawable(stderr) && !(arguments.out == "-" && ::isatty(STDOUT_FILENO) == 1);
  LoadView view(on_terminal ? LoadView::Where::Terminal : LoadView::Where::Elsewhere,
                arguments.url + "   " + arguments.profile,
                std::chrono::duration<double>(options->profile.duration()).count());
  int out_error = 0;  // of the first line that could not be written
  const auto second_done = [&](uint64_t index, const load::SecondReport& second) {
    if (out != nullptr && out_error == 0) {
      *out << load::to_json_line(second, index) << '\n' << std::flush;
      if (!*out) out_error = errno;
    }
    const std::string seen = view.after(index, second, screen());
    // A pod's log has stdout and stderr in one: who reads a line of JSON each second needs no other.
    if (on_terminal || arguments.out != "-") print(stderr, seen);
  };
  const auto report = load::run(*options, second_done, [] { return interrupted_by() != 0; });
  print(stderr, view.clear());
  if (!report) return complain(kFailed, report.error().what);
  // After the report: it is what minutes were spent on.
  const auto end = [&](int status) {
    if (out_error != 0) {
      complain(kFailed, base::system_error("writing the lines of --out " + arguments.out, out_error).error().what);
    }
    if (report->interrupted) return 128 + interrupted_by();
    return status == 0 && out_error != 0 ? kFailed : status;
  };
  const bool of_nothing = report->interrupted ? report->due == 0 : report->answers == 0 && report->due > 0;
  if (of_nothing) return end(complain(kFailed, load::why_no_answer(*report)));
  int status = finish(*report, arguments, *gates, hdr);
  if (status == 0 && load::only_redirects(*report)) {
    status = complain(kFailed, "every answer was a redirect, which is not followed: use the URL in its Location");
  }
  return end(status);
}

int load_merge(const LoadArguments& arguments) {
  const auto gates = gates_of(arguments);
  if (!gates) return complain(kBadCommandLine, gates.error().what);
  std::ofstream hdr;
  if (!open_hdr(arguments, hdr)) return cannot_write(arguments.hdr);
  std::optional<load::Report> whole;
  for (const std::string& path : arguments.files) {
    const auto text = read_file(path);
    if (!text) return complain(kFailed, text.error().what);
    auto part = report_in(*text);
    if (!part) return complain(kFailed, path + ": " + part.error().what);
    if (!whole) {
      whole = std::move(*part);
    } else if (const auto merged = load::merge(*whole, *part); !merged) {
      return complain(kFailed, path + ": " + merged.error().what);
    }
  }
  if (whole->shards.size() < whole->shards[0].count) {
    print(stderr, fmt::format("kiln load: {} of {} shards: the others' figures are missing\n", whole->shards.size(),
                              whole->shards[0].count));
  }
  return finish(*whole, arguments, *gates, hdr);
}

}  // namespace kiln::app
