// `kiln load URL` and `kiln load merge FILE…`: the command line's words, and what becomes of them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "app/settings.h"

namespace kiln::app {

// As they were written; what is wrong with them is said in one line.
struct LoadArguments {
  std::string url;
  std::string profile;
  std::string cost;         // CPU time of a request, for rates in millicores
  std::string calibration;  // or a file that says it; neither: no rate is in millicores
  std::string arrivals = "uniform";
  std::string seed = "1";
  std::string method;  // empty: GET, or POST with a body
  std::vector<std::string> headers;
  std::string body;  // or @FILE
  uint32_t connections = 1000;
  std::string keepalive_age = "10s";
  bool no_keepalive = false;
  std::string timeout = "10s";
  uint32_t threads = 1;
  std::string engine = "auto";
  std::string shard;  // "I/N", or "N" where JOB_COMPLETION_INDEX is I
  std::string start_every = "30s";
  std::vector<std::string> gates;
  std::string format = "text";
  std::string out;
  std::string hdr;
  std::vector<std::string> files;  // of merge
};

// Exit status 0; 1 when nothing was answered, all was redirected, the run could not begin or a file not be written;
// 2 for a bad command line; 3 when a gate failed; 129, 130 or 143 when a signal ended it, with the report of what was
// done by then.
int load(const LoadArguments& arguments, const Environment& environment);
int load_merge(const LoadArguments& arguments);

}  // namespace kiln::app
