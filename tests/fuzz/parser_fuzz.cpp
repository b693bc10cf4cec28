// Any bytes as a request head. Beyond not crashing: a prefix never knows better than the whole, nothing is consumed
// that was not given, every view lies in the input, and a head written anew from what was parsed parses to the same.
#include <string>
#include <vector>

#include "http/parser.h"
#include "tests/fuzz/pieces.h"

namespace kiln::fuzz {
namespace {

using http::ParseOutcome;
using http::ParseResult;

void check_views(std::string_view input, const http::RequestHead& head) {
  const auto inside = [input](std::string_view view) {
    return view.data() >= input.data() && view.data() + view.size() <= input.data() + input.size();
  };
  CHECK(inside(head.method_text));
  CHECK(inside(head.target));
  CHECK(head.query.empty() || inside(head.query));
  CHECK(head.host.empty() || inside(head.host));
  CHECK(!head.path.empty());
  for (const http::Field& field : head.fields()) {
    CHECK(inside(field.name));
    CHECK(inside(field.value));
    CHECK(!field.name.empty());
  }
}

void check_round_trip(const http::RequestHead& head, const http::Limits& limits) {
  std::string text(head.method_text);
  text.append(" ").append(head.target).append(head.minor_version == 0 ? " HTTP/1.0\r\n" : " HTTP/1.1\r\n");
  for (const http::Field& field : head.fields()) text.append(field.name).append(":").append(field.value).append("\r\n");
  text.append("\r\n");
  http::RequestHead again;
  const ParseResult result = parse_head(text, limits, again);
  CHECK(result.outcome == ParseOutcome::Complete);
  CHECK(result.consumed == text.size());
  CHECK(again.method == head.method);
  CHECK(again.form == head.form);
  CHECK(again.framing == head.framing);
  CHECK(again.content_length == head.content_length);
  CHECK(again.keep_alive == head.keep_alive);
  CHECK(again.expects_continue == head.expects_continue);
  CHECK(again.path == head.path);
  CHECK(again.query == head.query);
  CHECK(again.host == head.host);
  CHECK(again.fields().size() == head.fields().size());
  for (size_t field = 0; field < head.fields().size(); ++field) {
    CHECK(again.fields()[field].name == head.fields()[field].name);
    CHECK(again.fields()[field].value == head.fields()[field].value);
  }
}

// Growing prefixes: all of a short input, some of a long one.
std::vector<size_t> prefixes(std::string_view input) {
  constexpr size_t kAllMax = 256;
  Chooser chooser(input);
  std::vector<size_t> sizes;
  for (size_t size = 0; size < input.size();
       size += input.size() <= kAllMax ? 1 : 1 + chooser.up_to(input.size() / 32)) {
    sizes.push_back(size);
  }
  sizes.push_back(input.size());
  return sizes;
}

void check_head(std::string_view input, const http::Limits& limits) {
  http::RequestHead head;
  ParseResult before;
  for (const size_t size : prefixes(input)) {
    const ExactCopy copy(input.substr(0, size));
    const ParseResult result = parse_head(copy.view(), limits, head);
    CHECK(result.consumed <= size);
    CHECK((result.outcome == ParseOutcome::Invalid) == (result.refusal != http::Refusal::None));
    CHECK((result.outcome == ParseOutcome::Complete) == (result.consumed != 0));
    if (before.outcome != ParseOutcome::NeedMore) {
      CHECK(result.outcome == before.outcome);
      CHECK(result.refusal == before.refusal);
      CHECK(result.consumed == before.consumed);
    }
    before = result;
    if (result.outcome != ParseOutcome::Complete) continue;
    CHECK(result.consumed <= limits.head_bytes_max);
    CHECK(head.fields().size() <= limits.fields_max);
    check_views(copy.view(), head);
    if (size == input.size()) check_round_trip(head, limits);
  }
}

}  // namespace
}  // namespace kiln::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input = kiln::fuzz::text_of(data, size);
  kiln::fuzz::check_head(input, {});
  kiln::fuzz::check_head(input, {.request_line_bytes_max = 48, .head_bytes_max = 128, .fields_max = 4});
  return 0;
}
