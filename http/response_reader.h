// The client's side of one connection, without the connection: tells the responses apart in what a server sends. No
// I/O, no clock, no memory: bodies pass through.
//
//    +------------- whole, another may follow -------------+
//    v                                                     |
//   Head --head of a final response--> Body ---------------+--whole, the last one--> Finished
//
// From everywhere a fault leads to Failed, for good.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "http/body.h"
#include "http/limits.h"
#include "http/request.h"
#include "http/response_fault.h"
#include "http/response_parser.h"

namespace kiln::http {

// What a client takes: bodies are counted and not kept, so any size will do.
inline constexpr Limits kResponseLimits{.body_bytes_max = UINT64_MAX};

struct ResponseStep {
  enum class Kind : uint8_t {
    NeedMore,  // what was not consumed is to be offered again in front of what arrives
    Head,      // a final response has begun; views in `head` die with the input
    Data,      // `data` is part of its body, decoded; a view into the input
    End,       // the response is whole
    Closed,    // of end_of_input() only: nothing was due
    Invalid,   // `fault` says why; it stays so
  };
  Kind kind = Kind::NeedMore;
  ResponseFault fault = ResponseFault::None;
  size_t consumed = 0;
  std::string_view data = {};
};

class ResponseReader {
 public:
  static constexpr size_t kDueMax = 64;

  // The limits outlive it.
  explicit ResponseReader(const Limits& limits) : limits_(&limits) {}

  // A request goes out, so its response is due behind those of all before it. Only when can_expect(); not for CONNECT.
  void expect(Method method);

  // True when a request may go out: nothing has ended the connection, and fewer than kDueMax responses are due.
  [[nodiscard]] bool can_expect() const {
    return (phase_ == Phase::Head || phase_ == Phase::Body) && persists_ && due_ < kDueMax;
  }

  // The next step at the front of `input`. Call it with the rest, also an empty one, until it needs more or is Invalid.
  // Interim responses are skipped. `head` is the caller's room, which readers may share.
  ResponseStep next(std::string_view input, ResponseHead& head);

  // The server has sent its last byte, and next() needs more. End for a response that only this could end; call again
  // then. Else Closed or Invalid: Unanswered or truncated.
  ResponseStep end_of_input();

  // Responses that are not whole yet.
  [[nodiscard]] size_t due() const { return due_; }
  // Of the response that Head announced last: decoded bytes so far, and whether another response may follow it.
  [[nodiscard]] uint64_t body_bytes() const { return body_bytes_; }
  [[nodiscard]] bool persists() const { return persists_; }
  // Interim responses skipped so far.
  [[nodiscard]] uint64_t interims() const { return interims_; }

 private:
  enum class Phase : uint8_t { Head, Body, Finished, Failed };

  ResponseStep next_head(std::string_view input, ResponseHead& head);
  ResponseStep next_data(std::string_view input);
  ResponseStep take(std::string_view data, size_t consumed);
  ResponseStep end(size_t consumed);
  ResponseStep fail(ResponseFault fault, size_t consumed = 0);

  [[nodiscard]] bool deserves_look(std::string_view input) const;

  const Limits* limits_;
  BodyDecoder decoder_;
  uint64_t to_head_ = 0;  // a bit for each response due, the next one lowest: 1 when the request was HEAD
  uint64_t body_bytes_ = 0;
  uint64_t interims_ = 0;
  size_t due_ = 0;
  size_t looked_at_ = 0;  // bytes of an incomplete head that need no second look
  Phase phase_ = Phase::Head;
  ResponseFault fault_ = ResponseFault::None;  // in Failed: why
  bool persists_ = true;
  bool until_close_ = false;  // in Body: true when only the end of input ends it
};
static_assert(ResponseReader::kDueMax == 64, "a bit each in to_head_");

}  // namespace kiln::http
