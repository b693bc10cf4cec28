#include "http/status.h"

#include <array>
#include <cstddef>
#include <utility>

#include "base/check.h"

namespace kiln::http {
namespace {

struct Row {
  Refusal refusal;
  RefusalInfo info;
};

constexpr std::array kRefusals = {
    Row{Refusal::None, {500, "Not refused", "This request was not refused."}},
    Row{Refusal::BadMethod, {400, "Bad method", "The request must begin with a method, which is a token."}},
    Row{Refusal::MethodTooLong, {501, "Method too long", "This server implements no method as long as that."}},
    Row{Refusal::BadTarget,
        {400, "Bad request target",
         "The request target must be a path, an http URI, or * for OPTIONS, percent-encoded."}},
    Row{Refusal::BadVersion,
        {400, "Bad version", "The request line must end with one space and HTTP/1.1 or HTTP/1.0."}},
    Row{Refusal::UnsupportedVersion, {505, "Unsupported version", "This server speaks HTTP/1.1 and HTTP/1.0."}},
    Row{Refusal::BadLineEnd, {400, "Bad line end", "Every line must end with CR LF, and neither may stand alone."}},
    Row{Refusal::BadFieldName, {400, "Bad field name", "A field name is a token with the colon directly behind it."}},
    Row{Refusal::BadFieldValue, {400, "Bad field value", "A field value must not contain control characters."}},
    Row{Refusal::FoldedField,
        {400, "Folded field", "A field must be on one line; a line must not begin with a blank."}},
    Row{Refusal::MissingHost, {400, "Missing Host", "An HTTP/1.1 request needs a Host field."}},
    Row{Refusal::BadHost, {400, "Bad Host", "There must be one Host field, with a host and optionally a port."}},
    Row{Refusal::BadContentLength,
        {400, "Bad Content-Length", "There may be one Content-Length field, a decimal number of 64 bits."}},
    Row{Refusal::LengthAndChunked,
        {400, "Ambiguous length", "Content-Length and Transfer-Encoding must not be used together."}},
    Row{Refusal::BadTransferEncoding,
        {400, "Bad Transfer-Encoding", "The transfer coding must be chunked, once and last, and only in HTTP/1.1."}},
    Row{Refusal::UnknownTransferCoding,
        {501, "Unknown transfer coding", "This server knows no transfer coding but chunked."}},
    Row{Refusal::UnknownExpectation,
        {417, "Unknown expectation", "This server meets no expectation but 100-continue."}},
    Row{Refusal::BadChunk, {400, "Bad chunk", "The chunked body is malformed: a size line, its data or a line end."}},
    Row{Refusal::BadTrailer, {400, "Bad trailer", "A trailer line behind the chunked body is no field."}},
    Row{Refusal::RequestLineTooLong,
        {414, "Request line too long", "The request line is longer than this server takes."}},
    Row{Refusal::HeadTooLarge, {431, "Head too large", "The fields together are larger than this server takes."}},
    Row{Refusal::TooManyFields, {431, "Too many fields", "There are more fields than this server takes."}},
    Row{Refusal::TrailersTooLarge,
        {431, "Trailers too large", "The trailer fields are larger than this server takes."}},
    Row{Refusal::BodyTooLarge, {413, "Body too large", "The body is larger than this server takes."}},
    Row{Refusal::ConnectNotSupported, {501, "CONNECT not supported", "This server is no proxy and opens no tunnels."}},
    Row{Refusal::HeadTimeout, {408, "Request timeout", "The request line and fields did not arrive in time."}},
    Row{Refusal::BodyTimeout, {408, "Request timeout", "The body arrived too slowly."}},
    Row{Refusal::Overloaded,
        {503, "Service unavailable", "Too many bodies and answers are under way to keep this one.",
         "Retry-After: 1\r\n"}},
};

constexpr bool rows_follow_the_enum() {
  for (size_t row = 0; row < kRefusals.size(); ++row) {
    if (std::to_underlying(kRefusals[row].refusal) != row) return false;
  }
  return kRefusals.back().refusal == Refusal::Overloaded;
}
static_assert(rows_follow_the_enum());

}  // namespace

std::string_view reason_phrase(int status) {
  switch (status) {
    case 100: return "Continue";
    case 101: return "Switching Protocols";
    case 200: return "OK";
    case 201: return "Created";
    case 202: return "Accepted";
    case 203: return "Non-Authoritative Information";
    case 204: return "No Content";
    case 205: return "Reset Content";
    case 206: return "Partial Content";
    case 300: return "Multiple Choices";
    case 301: return "Moved Permanently";
    case 302: return "Found";
    case 303: return "See Other";
    case 304: return "Not Modified";
    case 307: return "Temporary Redirect";
    case 308: return "Permanent Redirect";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 402: return "Payment Required";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 406: return "Not Acceptable";
    case 407: return "Proxy Authentication Required";
    case 408: return "Request Timeout";
    case 409: return "Conflict";
    case 410: return "Gone";
    case 411: return "Length Required";
    case 412: return "Precondition Failed";
    case 413: return "Content Too Large";
    case 414: return "URI Too Long";
    case 415: return "Unsupported Media Type";
    case 416: return "Range Not Satisfiable";
    case 417: return "Expectation Failed";
    case 421: return "Misdirected Request";
    case 422: return "Unprocessable Content";
    case 426: return "Upgrade Required";
    case 428: return "Precondition Required";  // RFC 6585, also the next two
    case 429: return "Too Many Requests";
    case 431: return "Request Header Fields Too Large";
    case 500: return "Internal Server Error";
    case 501: return "Not Implemented";
    case 502: return "Bad Gateway";
    case 503: return "Service Unavailable";
    case 504: return "Gateway Timeout";
    case 505: return "HTTP Version Not Supported";
    case 507: return "Insufficient Storage";  // RFC 4918
    default: return "Unknown";
  }
}

const RefusalInfo& refusal_info(Refusal refusal) {
  const size_t row = std::to_underlying(refusal);
  CHECK(refusal != Refusal::None);
  CHECK(row < kRefusals.size());
  return kRefusals[row].info;
}

}  // namespace kiln::http
