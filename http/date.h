// Dates as HTTP and JSON write them. Time is an argument.
#pragma once

#include <cstdint>
#include <string>

namespace kiln::http {

// IMF-fixdate (RFC 9110 section 5.6.7): "Sun, 06 Nov 1994 08:49:37 GMT". Always 29 bytes for years 1970 to 9999.
std::string imf_fixdate(int64_t unix_seconds);

// RFC 3339 in UTC to the millisecond: "1994-11-06T08:49:37.000Z". Always 24 bytes for years 1970 to 9999.
std::string rfc3339(int64_t unix_milliseconds);

}  // namespace kiln::http
