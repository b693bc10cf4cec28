// Any bytes as a connection. However they are split, the same requests reach the handler and the same answers come out:
// one for each request and one for a refusal, all well-formed, and none after the last.
#include <string>
#include <vector>

#include "http/exchange.h"
#include "tests/fuzz/pieces.h"
#include "tests/fuzz/response_check.h"

namespace kiln::fuzz {
namespace {

using http::Exchange;

struct Seen {
  bool was_head;
  std::string body;  // of the answer
  bool operator==(const Seen&) const = default;
};

// What is answered, and whether at once, depends on the request.
class Handler : public http::Handler {
 public:
  void handle(const http::Request& request, http::Reply& reply) override {
    CHECK(refusals == 0);
    body_ = std::string(request.head.path) + "\n" + std::string(request.body);
    response_ = {.status = 200,
                 .content_type = request.head.find("content-type").value_or("text/plain"),
                 .body = body_,
                 .close = request.head.path == "/close",
                 .chunked = request.head.path == "/chunked"};
    if (request.head.path == "/empty") {
      response_.status = 204;
      body_.clear();
    }
    seen.push_back({request.head.method == http::Method::Head, body_});
    if (request.head.path != "/later") return reply.send(response_);
    response_.content_type = {};
  }

  void refused(http::Refusal refusal, int status) override {
    CHECK(refusal != http::Refusal::None);
    CHECK(status >= 400);
    ++refusals;
  }

  void answer_late(http::Reply reply) { reply.send(response_); }

  std::vector<Seen> seen;
  size_t refusals = 0;

 private:
  std::string body_;
  http::Response response_;
};

struct Outcome {
  std::vector<Seen> seen;
  std::string output;  // without 100 Continue
  Exchange::Phase phase = Exchange::Phase::Head;
  bool operator==(const Outcome&) const = default;
};

class Connection {
 public:
  explicit Connection(const http::Limits& limits)
      : context_{.limits = limits, .handler = &handler_, .common_fields = {}} {}

  void receive(std::string_view bytes) {
    waiting_ += bytes;
    for (;;) {
      const ExactCopy offered(waiting_);
      const bool was_finished = exchange_.phase() == Exchange::Phase::Finished;
      const size_t taken = exchange_.receive(offered.view(), output_);
      CHECK(taken <= waiting_.size());
      CHECK(!was_finished || taken == 0);
      waiting_.erase(0, taken);
      note_output(was_finished);
      if (exchange_.phase() == Exchange::Phase::Handling) {
        handler_.answer_late(http::Reply(exchange_, output_));
        note_output(false);
      } else if (!exchange_.wants_more_turns()) {
        break;
      }
    }
  }

  Outcome end() {
    const Exchange::Phase phase = exchange_.phase();
    exchange_.end_of_input();
    CHECK(exchange_.phase() == Exchange::Phase::Finished);
    CHECK(!exchange_.must_linger());
    CHECK(exchange_.answered() == handler_.seen.size() + handler_.refusals);
    CHECK(handler_.refusals <= 1);
    check_output(phase);
    return {handler_.seen, all_output_, phase};
  }

 private:
  void note_output(bool was_finished) {
    constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
    CHECK(!was_finished || output_.empty());
    if (output_.ends_with(kContinue) && exchange_.phase() == Exchange::Phase::Body) {
      output_.resize(output_.size() - kContinue.size());
    }
    all_output_ += output_;
    output_.clear();
  }

  void check_output(Exchange::Phase phase) {
    std::string_view rest = all_output_;
    for (size_t response = 0; response < handler_.seen.size(); ++response) {
      const ResponseSeen seen = take_response(rest, handler_.seen[response].was_head);
      CHECK(seen.body == (handler_.seen[response].was_head ? "" : handler_.seen[response].body));
      const bool last = response + 1 == handler_.seen.size() && handler_.refusals == 0;
      CHECK(seen.closes == (last && phase == Exchange::Phase::Finished));
    }
    if (handler_.refusals != 0) {
      const bool without_body = rest.ends_with("\r\n\r\n");
      const ResponseSeen seen = take_response(rest, without_body);
      CHECK(seen.status >= 400);
      CHECK(seen.closes);
      CHECK(phase == Exchange::Phase::Finished);
    }
    CHECK(rest.empty());
  }

  Handler handler_;
  http::ExchangeContext context_;
  Exchange exchange_{context_, 0};
  std::string waiting_;
  std::string output_;
  std::string all_output_;
};

// A line end behind the input makes sure that its last line is looked at, which a trickling one need not be before.
template <typename NextBytes>
Outcome run(std::string_view input, const http::Limits& limits, NextBytes next_bytes) {
  Connection connection(limits);
  for (size_t at = 0; at < input.size();) {
    const std::string_view piece = input.substr(at, next_bytes());
    connection.receive(piece);
    at += piece.size();
  }
  connection.receive("\n");
  return connection.end();
}

void check_exchange(std::string_view input, const http::Limits& limits) {
  Chooser chooser(input);
  const Outcome whole = run(input, limits, [&] { return input.size(); });
  CHECK(whole == run(input, limits, [] { return size_t{1}; }));
  CHECK(whole == run(input, limits, [&] { return 1 + chooser.up_to(input.size() / 4); }));
}

}  // namespace
}  // namespace kiln::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr size_t kInputBytesMax = 8192;  // longer ones only cost time: the limits below are met much earlier
  if (size > kInputBytesMax) return 0;
  const std::string_view input = kiln::fuzz::text_of(data, size);
  kiln::fuzz::check_exchange(input, {});
  kiln::fuzz::check_exchange(input, {.request_line_bytes_max = 64,
                                     .head_bytes_max = 256,
                                     .fields_max = 8,
                                     .body_bytes_max = 64,
                                     .chunk_line_bytes_max = 16,
                                     .trailer_bytes_max = 32,
                                     .requests_a_batch_max = 2,
                                     .output_batch_bytes_max = 256});
  return 0;
}
