// The handlers of /data. None waits: the store answers later, and the answer finds its connection by its id.
#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "app/pod.h"
#include "app/worker.h"
#include "base/quantity.h"
#include "http/date.h"
#include "http/target.h"

namespace kiln::app {

namespace {

constexpr std::string_view kJson = "application/json";
constexpr std::string_view kRetry = "Retry-After: 1\r\n";
constexpr size_t kPageDefault = 50;
constexpr uint64_t kPageMax = 500;

void append_record(std::string& out, const store::Record& record) {
  out += R"({"id":")";
  out += record.id.text();
  out += R"(","created_at":")";
  out += http::rfc3339(record.created_at);
  out += R"(","data":)";
  out += record.data;
  out += '}';
}

std::string record_body(const store::Record& record) {
  std::string body;
  body.reserve(record.data.size() + 128);
  append_record(body, record);
  body += '\n';
  return body;
}

std::string page_body(const store::Page& page) {
  constexpr size_t kBesideData = 128;  // of a record, at the most
  size_t bytes = kBesideData;
  for (const store::Record& record : page.records) bytes += record.data.size() + kBesideData;
  std::string body;
  body.reserve(bytes);
  body += R"({"items":[)";
  for (const store::Record& record : page.records) {
    if (&record != page.records.data()) body += ',';
    append_record(body, record);
  }
  body += R"(],"next":)";
  body += page.more && !page.records.empty() ? '"' + page.records.back().id.text() + '"' : "null";
  body += "}\n";
  return body;
}

// limit and after of a query, or what is wrong with them.
std::expected<store::PageRequest, std::string> parse_page(std::string_view query) {
  store::PageRequest page{.before = std::nullopt, .count_max = kPageDefault};
  const auto parameters = http::parse_form(query);
  if (!parameters) return std::unexpected("A percent sign that no two hexadecimal digits follow.");
  for (auto at = parameters->begin(); at != parameters->end(); ++at) {
    if (std::ranges::find(parameters->begin(), at, at->name, &http::Parameter::name) != at) {
      return std::unexpected(fmt::format("{} is given twice.", at->name));
    }
    if (at->name == "limit") {
      const auto limit = base::parse_integer(at->value);
      if (!limit || *limit == 0 || *limit > kPageMax) {
        return std::unexpected(
            fmt::format("limit is '{}', which is no whole number from 1 to {}.", at->value, kPageMax));
      }
      page.count_max = static_cast<size_t>(*limit);
    } else if (at->name == "after") {
      page.before = store::RecordId::parse(at->value);
      if (!page.before) return std::unexpected(fmt::format("after is '{}', which is no id of a record.", at->value));
    } else {
      return std::unexpected(fmt::format("Unknown parameter '{}'; there are limit and after.", at->name));
    }
  }
  return page;
}

}  // namespace

// A body larger than a record is refused before it is read.
uint64_t Worker::body_bytes_max(const http::RequestHead& head, uint64_t usual) {
  return head.path == "/data" ? pod_.settings.data_max : usual;
}

void Worker::post_data(const http::Request& request, http::Reply& reply) {
  if (request.body.size() > pod_.settings.data_max) {
    return problem(reply, 413, "Content Too Large",
                   fmt::format("A record has at most {} (--data-max).", base::format_size(pod_.settings.data_max)));
  }
  auto text = documents_.read(request.body);
  if (text) return ask_store({.operation = store::Operation::Insert, .data = std::move(*text)}, reply);
  const store::DocumentFault& fault = text.error();
  if (fault.kind == store::DocumentFault::Kind::NotAnObject) {
    return problem(reply, 422, "Unprocessable Content", "A record is a JSON object such as {\"loadtest\":\"true\"}.");
  }
  problem(reply, 400, "Bad Request", fmt::format("The body is not JSON, at byte {}: {}.", fault.position, fault.why));
}

void Worker::list_data(const http::Request& request, http::Reply& reply) {
  const auto page = parse_page(request.head.query);
  if (!page) return problem(reply, 400, "Bad Request", page.error());
  ask_store({.operation = store::Operation::List, .page = *page}, reply);
}

void Worker::get_data(const http::Request& /*request*/, http::Reply& reply) {
  ask_about_record(store::Operation::Find, reply);
}

void Worker::delete_data(const http::Request& /*request*/, http::Reply& reply) {
  ask_about_record(store::Operation::Remove, reply);
}

void Worker::ask_about_record(store::Operation operation, http::Reply& reply) {
  const auto id = store::RecordId::parse(path_parameter_);
  if (!id) return no_record(reply);
  ask_store({.operation = operation, .id = *id}, reply);
}

void Worker::no_record(http::Reply& reply) { problem(reply, 404, "Not Found", "There is no record with this id."); }

// Answers now when the store refuses, otherwise in finish_data().
void Worker::ask_store(store::Question question, http::Reply& reply) {
  Session& s = *current_;
  const store::Operation operation = question.operation;
  // What is stored and then refused for want of CPU would be stored again by whoever tries again.
  if (store::is_change(operation) && costs_[s.label] && burner_.refuses()) return refuse_burn(reply);
  s.question = ++questions_;
  auto refused = pod_.store->submit(
      std::move(question), [this, id = s.id, operation, number = s.question](store::Answer answer) {
        loop_.post([this, id, operation, number, answer = std::move(answer)] {
          finish_data(id, number, operation, answer);
        });
      });
  if (!refused) return;
  s.question = 0;
  answer_data(reply, operation, *refused);
}

void Worker::finish_data(core::ConnectionId id, uint64_t question, store::Operation operation,
                         const store::Answer& answered) {
  core::Connection* connection = loop_.find(id);
  if (connection == nullptr) return;
  Session& s = session(*connection);
  if (std::exchange(s.question, s.question == question ? 0 : s.question) != question) return;  // answered already
  freshen();
  s.spent_by_store = answered.cpu;
  http::Reply reply(s.exchange, connection->output());
  answer_data(reply, operation, answered);
  s.spent_by_store = {};
  follow(*connection, s);
  connection->resume();
}

void Worker::answer_data(http::Reply& reply, store::Operation operation, const store::Answer& answered) {
  switch (answered.outcome) {
    case store::Outcome::Busy:
      return problem(reply, 503, "Service Unavailable", "Not done: " + answered.reason + ".", kRetry);
    case store::Outcome::Unavailable:
      return problem(reply, 503, "Service Unavailable", "The records are out of reach: " + answered.reason + ".",
                     kRetry);
    case store::Outcome::NotFound: return no_record(reply);
    case store::Outcome::Done: break;
  }
  switch (operation) {
    case store::Operation::Insert: {
      const std::string location = "Location: /data/" + answered.record.id.text() + "\r\n";
      return answer(reply, {.status = 201,
                            .content_type = kJson,
                            .body = record_body(answered.record),
                            .fields = location});
    }
    case store::Operation::Find: return answer(reply, {.content_type = kJson, .body = record_body(answered.record)});
    case store::Operation::List: return answer(reply, {.content_type = kJson, .body = page_body(answered.page)});
    case store::Operation::Remove: return answer(reply, {.status = 204});
  }
}

// The store may still do what it was asked for, but nobody waits for that for ever.
void Worker::give_up_waiting(core::Connection& connection, Session& s) {
  freshen();
  s.question = 0;
  http::Reply reply(s.exchange, connection.output());
  problem(reply, 503, "Service Unavailable",
          fmt::format("The database has not answered in {} (--data-timeout); a change may have been made all the same.",
                      base::format_duration(pod_.settings.data_timeout)),
          kRetry);
  follow(connection, s);
}

}  // namespace kiln::app
