// One load after the other against a subject, and what each of them was billed, from rest to rest.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "calibrate/subject.h"
#include "load/report.h"
#include "profile/schedule.h"

namespace kiln::calibrate {

struct Load {
  std::string doing;  // for people
  std::string_view method = "GET";
  std::string target;
  std::string_view body = {};
  double rate = 0;
  double seconds = 0;
  profile::Arrivals arrivals = profile::Arrivals::Uniform;
  uint64_t seed = 1;
};

struct Outcome {
  load::Report report;
  uint64_t good = 0;                        // answers below 400
  double elapsed = 0;                       // seconds, until the bill was read
  bool bill_waited = false;                 // true when reading it took long
  double billed_ms = 0;                     // by then, without idling
  std::optional<double> steady_millicores;  // between the first whole second and the last, idling included
};

class Meter {
 public:
  // Both outlive it; `interrupted` is asked ten times a second, and true ends what is under way.
  Meter(const Subject& subject, const std::function<bool()>& interrupted)
      : subject_(subject), interrupted_(interrupted) {}

  // The CPU that the subject uses without a request, in millicores, which is taken off from then on. Nothing when it
  // was interrupted.
  [[nodiscard]] base::Result<std::optional<double>> measure_idle(double seconds);

  // Calls `passed` once a second. An error when the subject's counter is gone, when there was no answer, when all were
  // redirects, and when more than one pod answered. Of one that was interrupted the report says so.
  [[nodiscard]] base::Result<Outcome> run(const Load& load, const std::function<void(double seconds)>& passed);

  // The most that this process has used for a load.
  [[nodiscard]] double client_millicores() const { return client_millicores_; }

 private:
  base::Result<std::chrono::nanoseconds> bill_at_rest();

  const Subject& subject_;
  const std::function<bool()>& interrupted_;
  double idle_millicores_ = 0;
  double client_millicores_ = 0;
};

}  // namespace kiln::calibrate
