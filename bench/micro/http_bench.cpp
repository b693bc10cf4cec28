// Question: what does HTTP itself cost a request, apart from the kernel?
// Estimate: a wrk request is 60 bytes at about one cycle each, so 30 ns to parse; an answer of 1 KiB is a dozen short
// copies and one long one, 60 ns; a route is one comparison a path, 20 ns. An exchange is their sum, so 150 ns. For a
// client the head of that answer is 290 bytes, more of them values, which go eight at a time: 150 ns, and 50 ns for the
// steps and two look-ups by name, so that 100000 responses a second are 2 % of a core.
// Answer: on two shared virtual cores (AMD EPYC, gcc 12, -O3), the fastest of 15 runs: wrk's request 90 ns, of which
// checking Host is a third, curl's 70 ns, a browser's 200 ns; an answer of 1 KiB 41 ns; a route 7 to 60 ns; an exchange
// 166 ns, with a body of 1 KiB 160 ns by length and 460 ns in chunks, whose head is copied and parsed twice. An answer
// of /api/info 151 ns to parse and 186 ns to read, 244 ns in chunks (while other work ran on the machine).
#include <benchmark/benchmark.h>

#include <string>

#include "base/check.h"
#include "http/exchange.h"
#include "http/parser.h"
#include "http/response.h"
#include "http/response_reader.h"
#include "http/router.h"

namespace kiln::http {
namespace {

constexpr std::string_view kCurl = "GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";
constexpr std::string_view kWrk =
    "GET /api/info HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nAccept: */*\r\nUser-Agent: wrk/4\r\n\r\n";
constexpr std::string_view kBrowser =
    "GET /api/info?fresh=1 HTTP/1.1\r\nHost: kiln.example.org\r\nConnection: keep-alive\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 "
    "Safari/537.36\r\n"
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n"
    "Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-GB,en;q=0.9\r\nReferer: "
    "http://kiln.example.org/\r\n"
    "Cache-Control: no-cache\r\nPragma: no-cache\r\n\r\n";
constexpr std::string_view kCommonFields =
    "Server: kiln\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nX-Pod-Name: kiln-5d9c7b8f6d-abcde\r\n"
    "X-Node-Name: pool-1-abcde\r\n";

void parse(benchmark::State& state, std::string_view text) {
  const Limits limits;
  RequestHead head;
  for (auto _ : state) {
    benchmark::DoNotOptimize(text);
    const ParseResult result = parse_head(text, limits, head);
    benchmark::DoNotOptimize(head.path);
    CHECK(result.consumed == text.size());
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(text.size()));
}
BENCHMARK_CAPTURE(parse, curl, kCurl);
BENCHMARK_CAPTURE(parse, wrk, kWrk);
BENCHMARK_CAPTURE(parse, browser, kBrowser);

// An answer of /api/info, of the size that it has in a cluster.
std::string info_answer(bool chunked) {
  const std::string body(788, 'x');
  std::string answer;
  write_response({.content_type = "application/json", .body = body, .chunked = chunked},
                 {.request_id = "732bb1ec8fb97e25"}, kCommonFields, answer);
  return answer;
}

void parse_response(benchmark::State& state) {
  const std::string answer = info_answer(false);
  ResponseHead head;
  for (auto _ : state) {
    std::string_view text = answer;
    benchmark::DoNotOptimize(text);
    const ResponseParseResult result = parse_response_head(text, Method::Get, kResponseLimits, head);
    benchmark::DoNotOptimize(head.status);
    CHECK(result.outcome == ParseOutcome::Complete);
  }
}
BENCHMARK(parse_response);

// All that a load generator asks of a response: its status, who answered, how large it was, when it was whole.
void read_response(benchmark::State& state, bool chunked) {
  const std::string answer = info_answer(chunked);
  ResponseHead head;
  ResponseReader reader(kResponseLimits);
  for (auto _ : state) {
    reader.expect(Method::Get);
    std::string_view rest = answer;
    for (auto kind = ResponseStep::Kind::NeedMore; kind != ResponseStep::Kind::End;) {
      const ResponseStep step = reader.next(rest, head);
      CHECK(step.kind != ResponseStep::Kind::NeedMore);
      rest.remove_prefix(step.consumed);
      kind = step.kind;
      if (kind != ResponseStep::Kind::Head) continue;
      CHECK(head.status == 200);
      CHECK(head.find("x-pod-name"));
      CHECK(head.find("x-node-name"));
    }
    CHECK(rest.empty());
    CHECK(reader.body_bytes() == 788);
    CHECK(reader.can_expect());
  }
}
BENCHMARK_CAPTURE(read_response, length, false);
BENCHMARK_CAPTURE(read_response, chunked, true);

void render(benchmark::State& state) {
  const std::string body(static_cast<size_t>(state.range(0)), 'x');
  const Response response{.content_type = "application/json", .body = body};
  const ResponseFraming framing{.request_id = "0123456789abcdef"};
  std::string output;
  for (auto _ : state) {
    output.clear();
    write_response(response, framing, kCommonFields, output);
    benchmark::DoNotOptimize(output.data());
  }
  CHECK(output.ends_with(body));
}
BENCHMARK(render)->Arg(0)->Arg(1024)->Arg(16 * 1024);

void route(benchmark::State& state, std::string_view path) {
  Router router;
  for (const char* const known :
       {"/", "/api/info", "/load", "/burn", "/burn/{id}", "/data", "/livez", "/healthz", "/readyz", "/startupz",
        "/metrics", "/version", "/openapi.json", "/echo", "/memory", "/memory/{id}", "/data/{id}"}) {
    router.add(Method::Get, known);
  }
  for (auto _ : state) {
    benchmark::DoNotOptimize(path);
    const auto match = router.match(Method::Get, path);
    CHECK(match.kind == Router::Match::Kind::Found);
  }
}
BENCHMARK_CAPTURE(route, first, "/");
BENCHMARK_CAPTURE(route, last_literal, "/echo");
BENCHMARK_CAPTURE(route, parameter, "/data/0123456789");

class BodyHandler : public Handler {
 public:
  explicit BodyHandler(std::string_view body) : body_(body) {}
  void handle(const Request&, Reply& reply) override {
    reply.send({.content_type = "application/json", .body = body_});
  }
  void refused(Refusal, int) override { CHECK(false); }

 private:
  std::string_view body_;
};

// Requests on a connection that persists, `pipelined` in one go.
void exchange(benchmark::State& state) {
  const auto pipelined = static_cast<uint64_t>(state.range(0));
  const std::string body(1024, 'x');
  BodyHandler handler(body);
  ExchangeContext context{.limits = {}, .handler = &handler, .common_fields = std::string(kCommonFields)};
  Exchange connection(context, 0);
  std::string input;
  for (uint64_t request = 0; request < pipelined; ++request) input += kWrk;
  std::string output;
  for (auto _ : state) {
    output.clear();
    const size_t taken = connection.receive(input, output);
    CHECK(taken == input.size());
    benchmark::DoNotOptimize(output.data());
  }
  CHECK(connection.answered() == pipelined * static_cast<uint64_t>(state.iterations()));
  state.SetItemsProcessed(static_cast<int64_t>(connection.answered()));
}
BENCHMARK(exchange)->Arg(1)->Arg(16);

void exchange_with_body(benchmark::State& state, bool chunked) {
  const std::string body(1024, 'x');
  BodyHandler handler("{}");
  ExchangeContext context{.limits = {}, .handler = &handler, .common_fields = std::string(kCommonFields)};
  Exchange connection(context, 0);
  const std::string input = "POST /data HTTP/1.1\r\nHost: kiln:8080\r\n" +
                            (chunked ? "Transfer-Encoding: chunked\r\n\r\n400\r\n" + body + "\r\n0\r\n\r\n"
                                     : "Content-Length: 1024\r\n\r\n" + body);
  std::string output;
  for (auto _ : state) {
    output.clear();
    const size_t taken = connection.receive(input, output);
    CHECK(taken == input.size());
    benchmark::DoNotOptimize(output.data());
  }
}
BENCHMARK_CAPTURE(exchange_with_body, length, false);
BENCHMARK_CAPTURE(exchange_with_body, chunked, true);

}  // namespace
}  // namespace kiln::http

BENCHMARK_MAIN();
