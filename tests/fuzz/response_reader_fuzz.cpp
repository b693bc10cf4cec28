// Any bytes as what a server sends. The first line of the input says what was asked for: 'h' is HEAD, any other letter
// GET. However the rest is split, the same responses are told apart in it; nothing is taken that was not given, views
// lie in what was, bodies are counted right, and a fault is the last word. A second, slow reader finds the same in what
// was found good.
#include <algorithm>
#include <cctype>
#include <string>
#include <vector>

#include "http/response_reader.h"
#include "tests/fuzz/pieces.h"

namespace kiln::fuzz {
namespace {

using http::ResponseFault;
using http::ResponseHead;
using http::ResponseReader;
using http::ResponseStep;
using Kind = ResponseStep::Kind;

struct Response {
  int status = 0;
  http::Framing framing = http::Framing::None;
  std::string fields;  // joined, to compare
  std::string body;
  bool persists = true;
  bool whole = false;
  bool operator==(const Response&) const = default;
};

struct Outcome {
  std::vector<Response> responses;
  ResponseFault fault = ResponseFault::None;
  uint64_t interims = 0;
  size_t consumed = 0;
  bool operator==(const Outcome&) const = default;
};

class Connection {
 public:
  Connection(std::string_view asked, const http::Limits& limits) : reader_(limits) {
    for (const char letter : asked.substr(0, ResponseReader::kDueMax)) {
      reader_.expect(letter == 'h' ? http::Method::Head : http::Method::Get);
    }
    asked_ = reader_.due();
  }

  void receive(std::string_view bytes) {
    waiting_ += bytes;
    const ExactCopy offered(waiting_);
    std::string_view input = offered.view();
    for (;;) {
      const ResponseStep step = reader_.next(input, head_);
      CHECK(step.consumed <= input.size());
      CHECK((step.kind == Kind::Invalid) == (step.fault != ResponseFault::None));
      CHECK((step.kind == Kind::Data) == !step.data.empty());
      const std::string_view taken = input.substr(0, step.consumed);
      if (step.kind == Kind::Head) check_views(taken);
      if (step.kind == Kind::Data) {
        CHECK(step.data.data() >= taken.data());
        CHECK(step.data.data() + step.data.size() <= taken.data() + taken.size());
      }
      CHECK(outcome_.fault == ResponseFault::None || step.consumed == 0);
      CHECK(outcome_.fault == ResponseFault::None || step.fault == outcome_.fault);
      outcome_.consumed += step.consumed;
      input.remove_prefix(step.consumed);
      note(step);
      if (step.kind == Kind::NeedMore || step.kind == Kind::Invalid) break;
    }
    waiting_.erase(0, waiting_.size() - input.size());
  }

  Outcome end() {
    ResponseStep step = reader_.end_of_input();
    for (; step.kind == Kind::End; step = reader_.end_of_input()) note(step);
    CHECK(outcome_.fault == ResponseFault::None || step.fault == outcome_.fault);
    note(step);
    CHECK(step.kind == Kind::Closed || step.kind == Kind::Invalid);
    if (step.kind == Kind::Closed) CHECK(reader_.due() == 0);
    CHECK(asked_ - reader_.due() == static_cast<size_t>(std::count_if(
                                        outcome_.responses.begin(), outcome_.responses.end(),
                                        [](const Response& response) { return response.whole; })));
    outcome_.interims = reader_.interims();
    return outcome_;
  }

 private:
  void check_views(std::string_view taken) {
    const auto inside = [taken](std::string_view view) {
      return view.data() >= taken.data() && view.data() + view.size() <= taken.data() + taken.size();
    };
    CHECK(head_.reason.empty() || inside(head_.reason));
    for (const http::Field& field : head_.fields()) {
      CHECK(!field.name.empty());
      CHECK(inside(field.name));
      CHECK(inside(field.value));
    }
  }

  void note(const ResponseStep& step) {
    std::vector<Response>& responses = outcome_.responses;
    switch (step.kind) {
      case Kind::NeedMore:
      case Kind::Closed: return;
      case Kind::Invalid: outcome_.fault = step.fault; return;
      case Kind::Head:
        CHECK(responses.empty() || (responses.back().whole && responses.back().persists));
        CHECK(head_.status >= 200);
        CHECK(head_.status <= 999);
        responses.emplace_back();
        responses.back().status = head_.status;
        responses.back().framing = head_.framing;
        responses.back().persists = reader_.persists();
        for (const http::Field& field : head_.fields()) {
          responses.back().fields.append(field.name).append(":").append(field.value).append("\n");
        }
        break;
      case Kind::Data: responses.back().body += step.data; break;
      case Kind::End:
        CHECK(!responses.back().whole);
        responses.back().whole = true;
        break;
    }
    CHECK(reader_.body_bytes() == responses.back().body.size());
  }

  ResponseReader reader_;
  ResponseHead head_;
  size_t asked_ = 0;
  std::string waiting_;
  Outcome outcome_;
};

// A line end behind the input makes sure that its last line is looked at, which a trickling one need not be before.
template <typename NextBytes>
Outcome run(std::string_view asked, std::string_view input, const http::Limits& limits, NextBytes next_bytes) {
  Connection connection(asked, limits);
  for (size_t at = 0; at < input.size();) {
    const std::string_view piece = input.substr(at, next_bytes());
    connection.receive(piece);
    at += piece.size();
  }
  connection.receive("\n");
  return connection.end();
}

std::string_view take_line(std::string_view& text) {
  const size_t end = text.find("\r\n");
  CHECK(end != std::string_view::npos);
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(end + 2);
  return line;
}

std::string_view take_bytes(std::string_view& text, size_t bytes) {
  CHECK(bytes <= text.size());
  const std::string_view taken = text.substr(0, bytes);
  text.remove_prefix(bytes);
  return taken;
}

int take_head(std::string_view& text, std::string& fields) {
  const std::string_view status_line = take_line(text);
  CHECK(status_line.starts_with("HTTP/1."));
  fields.clear();
  for (std::string_view line = take_line(text); !line.empty(); line = take_line(text)) {
    const size_t colon = line.find(':');
    const std::string_view value = line.substr(colon + 1);
    const size_t begin = std::min(value.find_first_not_of(" \t"), value.size());
    const size_t end = std::max(value.find_last_not_of(" \t") + 1, begin);
    fields.append(line.substr(0, colon)).append(":").append(value.substr(begin, end - begin)).append("\n");
  }
  return std::stoi(std::string(status_line.substr(9, 3)));
}

std::string take_chunks(std::string_view& text) {
  std::string body;
  while (const size_t bytes = std::stoull(std::string(take_line(text)), nullptr, 16)) {
    body += take_bytes(text, bytes);
    CHECK(take_line(text).empty());
  }
  while (!take_line(text).empty()) continue;
  return body;
}

// By RFC 9112 section 6.3, of a head that was found good.
http::Framing framing_of(int status, bool to_head, std::string fields) {
  if (to_head || status == 204 || status == 304) return http::Framing::None;
  for (char& byte : fields) byte = static_cast<char>(std::tolower(static_cast<unsigned char>(byte)));
  fields.insert(0, "\n");
  if (fields.contains("\ntransfer-encoding:")) return http::Framing::Chunked;
  return fields.contains("\ncontent-length:") ? http::Framing::Length : http::Framing::UntilClose;
}

void check_slowly(const Outcome& outcome, std::string_view asked, std::string_view text) {
  for (size_t number = 0; number < outcome.responses.size(); ++number) {
    const Response& response = outcome.responses[number];
    std::string fields;
    int status = take_head(text, fields);
    while (status < 200) status = take_head(text, fields);
    CHECK(status == response.status);
    CHECK(fields == response.fields);
    CHECK(response.framing == framing_of(status, asked[number] == 'h', fields));
    if (!response.whole) return;
    switch (response.framing) {
      case http::Framing::None: CHECK(response.body.empty()); break;
      case http::Framing::Length: CHECK(response.body == take_bytes(text, response.body.size())); break;
      case http::Framing::Chunked: CHECK(response.body == take_chunks(text)); break;
      case http::Framing::UntilClose: CHECK(response.body == take_bytes(text, text.size())); break;
    }
  }
}

void check_reader(std::string_view asked, std::string_view input, const http::Limits& limits) {
  Chooser chooser(input);
  const Outcome whole = run(asked, input, limits, [&] { return input.size(); });
  CHECK(whole.consumed <= input.size() + 1);
  if (whole.fault == ResponseFault::None) CHECK(whole.consumed == input.size() + 1);
  CHECK(whole == run(asked, input, limits, [] { return size_t{1}; }));
  CHECK(whole == run(asked, input, limits, [&] { return 1 + chooser.up_to(input.size() / 4); }));
  check_slowly(whole, asked, std::string(input) + "\n");
}

}  // namespace
}  // namespace kiln::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr size_t kInputBytesMax = 8192;  // longer ones only cost time: the limits below are met much earlier
  if (size > kInputBytesMax) return 0;
  std::string_view input = kiln::fuzz::text_of(data, size);
  const size_t asked_end = std::min(input.find('\n'), input.size());
  const std::string_view asked = input.substr(0, asked_end);
  input.remove_prefix(std::min(asked_end + 1, input.size()));
  kiln::fuzz::check_reader(asked, input, kiln::http::kResponseLimits);
  kiln::fuzz::check_reader(asked, input, {.head_bytes_max = 128,
                                          .fields_max = 4,
                                          .body_bytes_max = 64,
                                          .chunk_line_bytes_max = 16,
                                          .chunk_overhead_bytes_max = 16,
                                          .trailer_bytes_max = 32});
  return 0;
}
