// Logs of `kiln serve` on stdout: one JSON object a line (ts, level, msg, fields), plain text on a terminal.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <variant>

namespace kiln::app::log {

struct Field {
  std::string_view name;  // a literal of ours: not escaped
  std::variant<std::string, int64_t, double> value;
};

using Fields = std::initializer_list<Field>;

// Once, before the first line and before other threads exist.
void start();
// Writes out what is still queued.
void finish();

void info(std::string_view message, Fields fields = {});
void warning(std::string_view message, Fields fields = {});
void error(std::string_view message, Fields fields = {});

// A line a request, off the caller's thread, so that lines of the other kinds may overtake it: when stdout is slow,
// lines are lost rather than requests delayed.
void access(Fields fields);

}  // namespace kiln::app::log
