// A run of the load generator: one client on each of its threads, started together, and the sum of what they found.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "core/engine.h"
#include "http/message.h"
#include "http/url.h"
#include "load/report.h"
#include "profile/schedule.h"

namespace kiln::load {

struct GeneratorOptions {
  http::Url url;
  std::string method = "GET";
  std::vector<http::Field> fields;  // further ones; whoever calls keeps the texts
  std::string body;
  std::string profile_text;  // for the report
  profile::Profile profile;
  profile::Arrivals arrivals = profile::Arrivals::Uniform;
  uint64_t seed = 1;
  profile::Shard shard;
  uint32_t threads = 1;
  uint32_t connections_max = 1000;  // of all threads
  std::chrono::nanoseconds keepalive_age = std::chrono::seconds(10);
  std::chrono::nanoseconds timeout = std::chrono::seconds(10);
  core::EngineRequest engine = core::EngineRequest::Auto;
  // By the clock on the wall, so that shards can agree on one; nothing: as soon as all is ready.
  std::optional<std::chrono::system_clock::time_point> start;
};

// The request as it is sent, or what is wrong with method, fields and the like. `keep_alive` is false for the last one
// of a connection.
[[nodiscard]] base::Result<std::string> request_text(const GeneratorOptions& options, bool keep_alive);

// Resolves the host, runs, and returns when all is done. `second_done` is called on this thread after each second of
// the schedule, with the sum of all threads; `interrupted` is asked ten times a second, and true ends the run early,
// with a report of nothing where it had not begun. An error when it could not even begin: no such host, nobody who
// answers there, no engine.
using SecondDone = std::function<void(uint64_t index, const SecondReport& second)>;
[[nodiscard]] base::Result<Report> run(const GeneratorOptions& options, const SecondDone& second_done,
                                       const std::function<bool()>& interrupted);

}  // namespace kiln::load
