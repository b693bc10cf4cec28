// What can be wrong with what a server sends: the client's counterpart of Refusal.
#pragma once

#include <cstdint>
#include <string_view>

#include "http/status.h"

namespace kiln::http {

enum class ResponseFault : uint8_t {
  None,
  NotHttp,                // does not begin with HTTP/d.d: another protocol (RFC 9112 section 2.3)
  UnsupportedVersion,     // a major version other than 1
  BadStatusLine,          // no three digits from 100 on behind the version (RFC 9112 section 4)
  BadLineEnd,             // a bare CR, a bare LF, or the like (RFC 9112 section 2.2)
  BadField,               // name or value of a field, or a folded one (RFC 9112 section 5)
  BadContentLength,       // not digits, too large for 64 bits, or more than one
  LengthAndChunked,       // both framings at once: somebody is being smuggled to (RFC 9112 section 6.3)
  BadTransferEncoding,    // chunked repeated, or in HTTP/1.0 (RFC 9112 section 6.1)
  UnknownTransferCoding,  // one that we have not asked for (RFC 9112 section 7.4)
  HeadTooLarge,           // in bytes, or in fields
  BadChunk,               // size line, data or line ends of a chunk
  BadTrailer,             // a trailer that is no field line, or too many of them
  BodyTooLarge,
  SwitchedProtocols,      // 101, which we never ask for
  NotAsked,               // bytes when no response is due
  AfterLast,              // bytes behind the response that was to be the last
  Unanswered,             // closed before the first byte of a response that is due
  TruncatedHead,          // closed in the middle of a head
  TruncatedBody,          // closed in the middle of a body whose end is known
};

// One sentence for people, without a full stop: "the server closed the connection without an answer".
std::string_view response_fault_text(ResponseFault fault);

// What the walk over a head or a body refused, seen from the client.
ResponseFault response_fault_of(Refusal refusal);

}  // namespace kiln::http
