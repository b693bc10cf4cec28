#include "http/response_fault.h"

#include "base/check.h"

namespace kiln::http {

std::string_view response_fault_text(ResponseFault fault) {
  switch (fault) {
    case ResponseFault::None: return "nothing is wrong with the answer";
    case ResponseFault::NotHttp: return "what answered does not speak HTTP/1.1; is this port TLS or another protocol?";
    case ResponseFault::UnsupportedVersion: return "the server answered in a version of HTTP other than 1.1 and 1.0";
    case ResponseFault::BadStatusLine: return "the first line of the answer has no status of three digits";
    case ResponseFault::BadLineEnd: return "a line of the answer's head does not end with CR LF";
    case ResponseFault::BadField: return "a header field of the answer is malformed";
    case ResponseFault::BadContentLength: return "the answer's Content-Length is malformed or repeated";
    case ResponseFault::LengthAndChunked: return "the answer has both Content-Length and Transfer-Encoding";
    case ResponseFault::BadTransferEncoding: return "the answer's Transfer-Encoding is malformed, or in HTTP/1.0";
    case ResponseFault::UnknownTransferCoding: return "the answer has a transfer coding that was not asked for";
    case ResponseFault::HeadTooLarge: return "the answer's head is too large";
    case ResponseFault::BadChunk: return "a chunk of the answer's body is malformed";
    case ResponseFault::BadTrailer: return "the trailer fields behind the answer's body are malformed or too large";
    case ResponseFault::BodyTooLarge: return "the answer's body is too large";
    case ResponseFault::SwitchedProtocols: return "the server switched to another protocol, unasked";
    case ResponseFault::NotAsked: return "the server sent something that no request had asked for";
    case ResponseFault::AfterLast: return "the server went on behind the answer that was to be the last";
    case ResponseFault::Unanswered: return "the server closed the connection without an answer";
    case ResponseFault::TruncatedHead: return "the server closed the connection in the middle of an answer's head";
    case ResponseFault::TruncatedBody: return "the server closed the connection in the middle of an answer's body";
  }
  CHECK(false);
  return {};
}

ResponseFault response_fault_of(Refusal refusal) {
  switch (refusal) {
    case Refusal::None: return ResponseFault::None;
    case Refusal::BadVersion: return ResponseFault::NotHttp;
    case Refusal::UnsupportedVersion: return ResponseFault::UnsupportedVersion;
    case Refusal::BadLineEnd: return ResponseFault::BadLineEnd;
    case Refusal::BadFieldName:
    case Refusal::BadFieldValue:
    case Refusal::FoldedField: return ResponseFault::BadField;
    case Refusal::BadContentLength: return ResponseFault::BadContentLength;
    case Refusal::LengthAndChunked: return ResponseFault::LengthAndChunked;
    case Refusal::BadTransferEncoding: return ResponseFault::BadTransferEncoding;
    case Refusal::UnknownTransferCoding: return ResponseFault::UnknownTransferCoding;
    case Refusal::HeadTooLarge:
    case Refusal::TooManyFields: return ResponseFault::HeadTooLarge;
    case Refusal::BadChunk: return ResponseFault::BadChunk;
    case Refusal::BadTrailer:
    case Refusal::TrailersTooLarge: return ResponseFault::BadTrailer;
    case Refusal::BodyTooLarge: return ResponseFault::BodyTooLarge;
    case Refusal::BadMethod:  // the rest is of requests alone
    case Refusal::MethodTooLong:
    case Refusal::BadTarget:
    case Refusal::MissingHost:
    case Refusal::BadHost:
    case Refusal::UnknownExpectation:
    case Refusal::RequestLineTooLong:
    case Refusal::ConnectNotSupported:
    case Refusal::HeadTimeout:
    case Refusal::BodyTimeout:
    case Refusal::Overloaded: break;
  }
  CHECK(false);
  return ResponseFault::None;
}

}  // namespace kiln::http
