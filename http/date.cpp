#include "http/date.h"

#include <algorithm>
#include <chrono>
#include <string_view>

namespace kiln::http {
namespace {

using std::chrono::days;
using std::chrono::floor;
using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::sys_days;
using std::chrono::sys_time;

// The last second of the year 9999: beyond it neither format has room.
constexpr int64_t kSecondsMax = 253402300799;

// Writes `value` in decimal so that it ends at `end`, over the zeros of a template.
void put(std::string& text, size_t end, unsigned value) {
  for (size_t at = end; value != 0; value /= 10) text[--at] = static_cast<char>('0' + value % 10);
}

struct Parts {
  std::chrono::year_month_day date;
  unsigned weekday;
  std::chrono::hh_mm_ss<milliseconds> time;
};

Parts parts_of(sys_time<milliseconds> instant) {
  const sys_days day = floor<days>(instant);
  return {day, std::chrono::weekday(day).c_encoding(), std::chrono::hh_mm_ss(instant - day)};
}

unsigned number(const auto& count) { return static_cast<unsigned>(count.count()); }

}  // namespace

std::string imf_fixdate(int64_t unix_seconds) {
  constexpr std::string_view kWeekdays = "SunMonTueWedThuFriSat";
  constexpr std::string_view kMonths = "JanFebMarAprMayJunJulAugSepOctNovDec";
  const seconds since_epoch(std::clamp<int64_t>(unix_seconds, 0, kSecondsMax));
  const Parts parts = parts_of(sys_time<milliseconds>(since_epoch));
  std::string text = "---, 00 --- 0000 00:00:00 GMT";
  text.replace(0, 3, kWeekdays.substr(parts.weekday * 3, 3));
  put(text, 7, static_cast<unsigned>(parts.date.day()));
  text.replace(8, 3, kMonths.substr((static_cast<unsigned>(parts.date.month()) - 1) * 3, 3));
  put(text, 16, static_cast<unsigned>(static_cast<int>(parts.date.year())));
  put(text, 19, number(parts.time.hours()));
  put(text, 22, number(parts.time.minutes()));
  put(text, 25, number(parts.time.seconds()));
  return text;
}

std::string rfc3339(int64_t unix_milliseconds) {
  constexpr int64_t kMillisecondsMax = kSecondsMax * 1000 + 999;
  const milliseconds since_epoch(std::clamp<int64_t>(unix_milliseconds, 0, kMillisecondsMax));
  const Parts parts = parts_of(sys_time<milliseconds>(since_epoch));
  std::string text = "0000-00-00T00:00:00.000Z";
  put(text, 4, static_cast<unsigned>(static_cast<int>(parts.date.year())));
  put(text, 7, static_cast<unsigned>(parts.date.month()));
  put(text, 10, static_cast<unsigned>(parts.date.day()));
  put(text, 13, number(parts.time.hours()));
  put(text, 16, number(parts.time.minutes()));
  put(text, 19, number(parts.time.seconds()));
  put(text, 23, number(parts.time.subseconds()));
  return text;
}

}  // namespace kiln::http
