// What a peer may cost us before it is refused. RFC 9112 section 3 and RFC 9110 section 5.4 leave the numbers to us.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kiln::http {

// Room for fields in a parsed head; Limits::fields_max may not exceed it.
inline constexpr size_t kFieldsCapacity = 128;

// Before a request line; the next one is taken for its beginning.
inline constexpr size_t kEmptyLinesMax = 8;

struct Limits {
  size_t request_line_bytes_max = 8 * 1024;      // past it 414
  size_t head_bytes_max = 16 * 1024;             // request line, fields and blank line; past it 431
  size_t fields_max = 100;                       // past it 431; also the number of trailer fields
  uint64_t body_bytes_max = 1024 * 1024;         // decoded; past it 413
  size_t chunk_line_bytes_max = 4 * 1024;        // a chunk's size and extensions; past it 400
  size_t chunk_overhead_bytes_max = 16 * 1024;   // all size lines, less what their data excuses; past it 400
  size_t trailer_bytes_max = 8 * 1024;           // past it 431
  size_t requests_a_batch_max = 16;              // answered in one go before other connections get their turn
  size_t output_batch_bytes_max = 64 * 1024;     // the same, in bytes of answers
};

}  // namespace kiln::http
