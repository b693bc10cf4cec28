// The one table of statuses: how every refusal of input is answered.
#pragma once

#include <cstdint>
#include <string_view>

namespace kiln::http {

// The reason phrase of a status we send (RFC 9110 section 15), "Unknown" for any other.
std::string_view reason_phrase(int status);

// Why input was refused. Each has a row in refusal_info().
enum class Refusal : uint8_t {
  None,
  BadMethod,             // not a token (RFC 9110 section 9.1)
  MethodTooLong,         // longer than any we implement: 501 (RFC 9112 section 3)
  BadTarget,             // none of the four forms, or one that its method may not use (RFC 9112 section 3.2)
  BadVersion,            // not HTTP/d.d (RFC 9112 section 2.3)
  UnsupportedVersion,    // a major version other than 1
  BadLineEnd,            // a bare CR, a bare LF, or the like (RFC 9112 section 2.2)
  BadFieldName,          // not a token, or white space before the colon (RFC 9112 section 5.1)
  BadFieldValue,         // a control character (RFC 9110 section 5.5)
  FoldedField,           // obs-fold (RFC 9112 section 5.2)
  MissingHost,           // HTTP/1.1 without Host (RFC 9112 section 3.2)
  BadHost,               // more than one, or not host [":" port]
  BadContentLength,      // not digits, too large for 64 bits, or several that differ
  LengthAndChunked,      // both framings at once: smuggling (RFC 9112 section 6.3)
  BadTransferEncoding,   // chunked not last, repeated, or on HTTP/1.0 (RFC 9112 section 6.1)
  UnknownTransferCoding, // a coding we do not have: 501
  UnknownExpectation,    // Expect other than 100-continue: 417
  BadChunk,              // size line, data or line ends of a chunk
  BadTrailer,            // a trailer field that is no field line
  RequestLineTooLong,
  HeadTooLarge,
  TooManyFields,
  TrailersTooLarge,
  BodyTooLarge,
  ConnectNotSupported,   // we are no proxy
  HeadTimeout,           // the head did not arrive in time
  BodyTimeout,           // the body came too slowly
  Overloaded,            // no memory for its body now
};

struct RefusalInfo {
  int status;
  std::string_view title;   // the problem's title (RFC 9457)
  std::string_view detail;  // one sentence for the sender
  std::string_view fields = {};  // further field lines, each ending CR LF
};

const RefusalInfo& refusal_info(Refusal refusal);

}  // namespace kiln::http
