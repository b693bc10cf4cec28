#include "app/log.h"

#include <fmt/format.h>
#include <poll.h>
#include <spdlog/async.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "http/response.h"

namespace kiln::app::log {

namespace {

constexpr size_t kAccessLinesQueued = 1024;

// Writes whole lines to stdout, and drops a line rather than wait for whoever reads: a reader that stalls must hold up
// neither a request nor the end of the process. A pipe that is writable takes PIPE_BUF bytes at once (pipe(7)).
class StdoutSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  explicit StdoutSink(bool colour) : colour_(colour) {}

 private:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    std::string text(line.data(), line.size());
    if (colour_ && message.color_range_end > message.color_range_start) {
      text.insert(message.color_range_end, "\x1b[0m");
      text.insert(message.color_range_start, message.level == spdlog::level::info   ? "\x1b[32m"
                                             : message.level == spdlog::level::warn ? "\x1b[33m"
                                                                                    : "\x1b[31m");
    }
    pollfd stdout_now{.fd = STDOUT_FILENO, .events = POLLOUT, .revents = 0};
    if (::poll(&stdout_now, 1, 0) != 1 || (stdout_now.revents & POLLOUT) == 0) return;
    while (!text.empty()) {
      const ssize_t put = ::write(STDOUT_FILENO, text.data(), text.size());
      if (put < 0 && errno == EINTR) continue;
      if (put <= 0) return;
      text.erase(0, static_cast<size_t>(put));
    }
  }

  void flush_() override {}

  const bool colour_;
};

struct Loggers {
  bool terminal = false;
  std::shared_ptr<StdoutSink> sink;
  std::shared_ptr<spdlog::logger> direct;
  std::shared_ptr<spdlog::async_logger> queued;
  std::shared_ptr<spdlog::details::thread_pool> pool;
};

Loggers& loggers() {
  static Loggers instance;
  return instance;
}

std::string text_of(const Field& field, bool terminal) {
  if (const auto* number = std::get_if<int64_t>(&field.value)) return fmt::format("{}", *number);
  if (const auto* number = std::get_if<double>(&field.value)) return fmt::format("{}", *number);
  const auto& text = std::get<std::string>(field.value);
  if (terminal && !text.empty() && text.find_first_of(" \"\\\n\r\t\x1b") == std::string::npos) return text;
  return '"' + http::json_escape(text) + '"';
}

std::string line_of(std::string_view message, Fields fields) {
  const bool terminal = loggers().terminal;
  std::string line = terminal ? std::string(message) : fmt::format("\"msg\":\"{}\"", http::json_escape(message));
  for (const Field& field : fields) {
    line += terminal ? fmt::format(" {}={}", field.name, text_of(field, true))
                     : fmt::format(",\"{}\":{}", field.name, text_of(field, false));
  }
  return line;
}

void write(spdlog::level::level_enum level, std::string_view message, Fields fields) {
  if (loggers().direct) loggers().direct->log(level, "{}", line_of(message, fields));
}

}  // namespace

void start() {
  Loggers& l = loggers();
  l.terminal = ::isatty(STDOUT_FILENO) == 1;
  const char* no_color = std::getenv("NO_COLOR");
  const bool plain = !l.terminal || (no_color != nullptr && *no_color != '\0');
  l.sink = std::make_shared<StdoutSink>(!plain);
  l.direct = std::make_shared<spdlog::logger>("kiln", l.sink);
  const std::string pattern =
      l.terminal ? "%H:%M:%S.%e %^%l%$ %v" : R"({"ts":"%Y-%m-%dT%H:%M:%S.%eZ","level":"%l",%v})";
  l.sink->set_formatter(std::make_unique<spdlog::pattern_formatter>(
      pattern, l.terminal ? spdlog::pattern_time_type::local : spdlog::pattern_time_type::utc));
}

void finish() {
  Loggers& l = loggers();
  l.queued.reset();
  l.pool.reset();  // joins after the queue is empty
}

void info(std::string_view message, Fields fields) { write(spdlog::level::info, message, fields); }
void warning(std::string_view message, Fields fields) { write(spdlog::level::warn, message, fields); }
void error(std::string_view message, Fields fields) { write(spdlog::level::err, message, fields); }

void access(Fields fields) {
  static const auto logger = [] {
    Loggers& l = loggers();
    l.pool = std::make_shared<spdlog::details::thread_pool>(kAccessLinesQueued, 1);
    l.queued =
        std::make_shared<spdlog::async_logger>("access", l.sink, l.pool, spdlog::async_overflow_policy::overrun_oldest);
    return std::weak_ptr(l.queued);
  }();
  if (const auto alive = logger.lock()) alive->info("{}", line_of("request", fields));
}

}  // namespace kiln::app::log
