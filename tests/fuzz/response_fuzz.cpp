// Any bytes as a response: what we write, a client reads back. The first line of the input holds the letters of what is
// asked for, the second is the number of the status, the rest is the body.
#include <algorithm>
#include <string>

#include "http/response.h"
#include "tests/fuzz/pieces.h"
#include "tests/fuzz/response_check.h"

namespace kiln::fuzz {
namespace {

std::string_view take_text_line(std::string_view& text) {
  const size_t end = std::min(text.find('\n'), text.size());
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return line;
}

void check_response(std::string_view input) {
  const std::string_view wishes = take_text_line(input);
  const std::string_view number = take_text_line(input);
  const auto wished = [wishes](char letter) { return wishes.contains(letter); };
  const ExactCopy body(input);

  http::Response response{.content_type = wished('j')   ? "application/json; charset=utf-8"
                                          : wished('p') ? http::kProblemType
                                          : wished('t') ? "text/plain"
                                                        : "",
                          .body = body.view(),
                          .fields = wished('f') ? "Vary: Accept\r\nRetry-After: 1\r\n" : "",
                          .close = wished('c'),
                          .chunked = wished('s')};
  response.status = 0;
  for (const char digit : number.substr(0, 3)) response.status = response.status * 10 + (digit & 7);
  response.status = 200 + response.status % 400;  // an interim one ends nothing, and is not written by this
  const http::ResponseFraming framing{.minor_version = static_cast<uint8_t>(wished('0') ? 0 : 1),
                                      .head = wished('h'),
                                      .keep_alive = !wished('l'),
                                      .request_id = wished('i') ? "id-1.2_3" : ""};
  const std::string before = wished('b') ? "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" : "";
  std::string output = before;
  http::write_response(response, framing, "Server: kiln\r\n", output);

  std::string_view rest = output;
  CHECK(rest.starts_with(before));
  rest.remove_prefix(before.size());
  const bool bodiless = framing.head || response.status == 204 || response.status == 205 || response.status == 304;
  const bool until_close = response.chunked && framing.minor_version == 0;
  const ResponseSeen seen = take_response(rest, framing.head);
  CHECK(rest.empty());
  CHECK(seen.status == response.status);
  CHECK(seen.body == (bodiless ? "" : body.view()));
  CHECK(seen.request_id == framing.request_id);
  if (response.close || !framing.keep_alive) CHECK(seen.closes);
  // A body that only the end of the connection ends would swallow the next response.
  if (until_close && !bodiless) CHECK(seen.closes);
  if (!response.close && framing.keep_alive && !until_close) CHECK(!seen.closes);
}

}  // namespace
}  // namespace kiln::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  kiln::fuzz::check_response(kiln::fuzz::text_of(data, size));
  return 0;
}
