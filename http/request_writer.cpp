#include "http/request_writer.h"

#include <algorithm>
#include <cstddef>

#include "base/check.h"
#include "http/ascii.h"
#include "http/authority.h"

namespace kiln::http {
namespace {

bool is_ours(std::string_view name) {
  for (const std::string_view ours : {"host", "content-length", "transfer-encoding", "connection"}) {
    if (equal_without_case(name, ours)) return true;
  }
  return false;
}

RequestFault judge_field(const Field& field) {
  if (field.name.empty() || !all_are(CharClass::Token, field.name)) return RequestFault::BadFieldName;
  if (!all_are(CharClass::FieldValue, field.value)) return RequestFault::BadFieldValue;
  return is_ours(field.name) ? RequestFault::FieldIsOurs : RequestFault::None;
}

bool is_origin_form(std::string_view target) {
  const size_t query = std::min(target.find('?'), target.size());
  return target.starts_with('/') && all_are(CharClass::Path, target.substr(0, query)) &&
         all_are(CharClass::Query, target.substr(query)) && escapes_are_whole(target);
}

// What our own parser would refuse is not sent either, a comma in a host for one.
RequestFault judge(const RequestToWrite& request) {
  const bool token = !request.method.empty() && all_are(CharClass::Token, request.method);
  if (!token || request.method == "CONNECT") return RequestFault::BadMethod;
  if (request.target == "*" ? request.method != "OPTIONS" : !is_origin_form(request.target)) {
    return RequestFault::BadTarget;
  }
  const auto authority = parse_authority(request.host);
  const bool good_host = authority && !authority->host.empty() && !request.host.contains(',');
  return good_host ? RequestFault::None : RequestFault::BadHost;
}

bool announces_body(std::string_view method) { return method == "POST" || method == "PUT" || method == "PATCH"; }

void append_field(std::string_view name, std::string_view value, std::string& output) {
  output.append(name).append(": ").append(value).append("\r\n");
}

}  // namespace

RequestWritten write_request_head(const RequestToWrite& request, std::string& output) {
  if (const RequestFault fault = judge(request); fault != RequestFault::None) return {.fault = fault};
  for (size_t field = 0; field < request.fields.size(); ++field) {
    const RequestFault fault = judge_field(request.fields[field]);
    if (fault != RequestFault::None) return {.fault = fault, .field = field};
  }
  output.append(request.method).append(" ").append(request.target).append(" HTTP/1.1\r\n");
  append_field("Host", request.host, output);
  for (const Field& field : request.fields) append_field(field.name, field.value, output);
  if (request.content_length > 0 || announces_body(request.method)) {
    append_field("Content-Length", std::to_string(request.content_length), output);
  }
  if (!request.keep_alive) append_field("Connection", "close", output);
  output.append("\r\n");
  return {};
}

std::string_view request_fault_text(RequestFault fault) {
  switch (fault) {
    case RequestFault::None: return "nothing is wrong with the request";
    case RequestFault::BadMethod: return "a method is a word such as GET or POST, and CONNECT is not supported";
    case RequestFault::BadTarget:
      return "a request target begins with '/' and is percent-encoded, without blanks or control characters";
    case RequestFault::BadHost: return "Host is a name or an address, and optionally ':' and a port";
    case RequestFault::BadFieldName: return "the name of a header field is a word of letters, digits and '-'";
    case RequestFault::BadFieldValue: return "the value of a header field may not hold line ends or control characters";
    case RequestFault::FieldIsOurs:
      return "Host, Content-Length, Transfer-Encoding and Connection are written by the client itself";
  }
  CHECK(false);
  return {};
}

}  // namespace kiln::http
