#include "http/exchange.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace kiln::http {
namespace {

using Phase = Exchange::Phase;

// Notes what it is given and echoes the path, or keeps the request open when `defers`.
class EchoHandler : public Handler {
 public:
  void handle(const Request& request, Reply& reply) override {
    requests.push_back(std::string(request.head.method_text) + " " + std::string(request.head.path) + " " +
                       std::string(request.body));
    if (!defers) reply.send({.body = request.head.path, .close = closes, .chunked = chunked});
  }
  void refused(Refusal refusal, int status) override {
    refusals.push_back(refusal);
    EXPECT_EQ(status, refusal_info(refusal).status);
  }

  std::vector<std::string> requests;
  std::vector<Refusal> refusals;
  bool defers = false;
  bool closes = false;
  bool chunked = false;
};

class ExchangeTest : public testing::Test {
 protected:
  // As a connection does: what was not taken is offered again, in front of what arrives.
  void receive(std::string_view bytes) {
    input += bytes;
    do {
      input.erase(0, exchange.receive(input, output));
    } while (exchange.wants_more_turns());
  }

  std::string take_output() { return std::exchange(output, {}); }

  // The output's statuses: of each line that begins as a response does.
  std::vector<int> statuses() {
    std::vector<int> found;
    for (size_t at = output.find("HTTP/1.1 "); at != std::string::npos; at = output.find("HTTP/1.1 ", at + 1)) {
      found.push_back(std::stoi(output.substr(at + 9, 3)));
    }
    return found;
  }

  EchoHandler handler;
  ExchangeContext context{.limits = {}, .handler = &handler, .common_fields = "Server: kiln\r\n"};
  Exchange exchange{context, 7};
  std::string input;
  std::string output;
};

std::string get(std::string_view path, std::string_view fields = {}) {
  return "GET " + std::string(path) + " HTTP/1.1\r\nHost: a\r\n" + std::string(fields) + "\r\n";
}

std::string post(std::string_view fields, std::string_view body) {
  return "POST /p HTTP/1.1\r\nHost: a\r\n" + std::string(fields) + "\r\n" + std::string(body);
}

TEST_F(ExchangeTest, AnswersARequest) {
  EXPECT_EQ(exchange.key(), 7u);
  EXPECT_TRUE(exchange.idle());
  receive(get("/x", "X-Request-Id: abc-1\r\n"));
  EXPECT_EQ(output, "HTTP/1.1 200 OK\r\nServer: kiln\r\nX-Request-Id: abc-1\r\nContent-Length: 2\r\n\r\n/x");
  EXPECT_EQ(handler.requests, std::vector<std::string>{"GET /x "});
  EXPECT_EQ(input, "");
  EXPECT_TRUE(exchange.idle());
  EXPECT_EQ(exchange.answered(), 1u);
}

TEST_F(ExchangeTest, GivesTheSameAnswersHoweverTheInputIsSplit) {
  const std::string text =
      get("/1", "X-Request-Id: a\r\n") + "\r\n" + post("X-Request-Id: b\r\nContent-Length: 5\r\n", "hello") +
      post("X-Request-Id: c\r\nTransfer-Encoding: chunked\r\n", "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n") +
      get("/2", "X-Request-Id: d\r\nConnection: close\r\n");
  receive(text);
  const std::string whole = take_output();
  const std::vector<std::string> requests = {"GET /1 ", "POST /p hello", "POST /p abcde", "GET /2 "};
  EXPECT_EQ(handler.requests, requests);
  EXPECT_EQ(exchange.phase(), Phase::Finished);
  for (size_t split = 0; split <= text.size(); ++split) {
    exchange = Exchange(context, 0);
    handler.requests.clear();
    receive(text.substr(0, split));
    receive(text.substr(split));
    EXPECT_EQ(take_output(), whole) << split;
    EXPECT_EQ(handler.requests, requests) << split;
    EXPECT_EQ(exchange.phase(), Phase::Finished) << split;
    EXPECT_EQ(input, "") << split;
  }
  exchange = Exchange(context, 0);
  for (const char byte : text) receive({&byte, 1});
  EXPECT_EQ(take_output(), whole);
}

TEST_F(ExchangeTest, MakesARequestIdWhenNoneIsWellFormed) {
  const auto echoed = [this](const std::string& fields) {
    receive(get("/", fields));
    const std::string text = take_output();
    const size_t begin = text.find("X-Request-Id: ") + 14;
    return text.substr(begin, text.find('\r', begin) - begin);
  };
  const std::string longest(128, 'x');
  EXPECT_EQ(echoed("X-Request-Id: " + longest + "\r\n"), longest);
  EXPECT_EQ(echoed("x-request-id: aZ09._~+/=:@-\r\n"), "aZ09._~+/=:@-");
  std::string previous;
  for (const std::string& fields : {std::string(), "X-Request-Id:" + longest + "x\r\n",
                                    std::string("X-Request-Id:\r\n"), std::string("X-Request-Id: a b\r\n"),
                                    std::string("X-Request-Id: \"\r\n"), std::string("X-Request-Id: \xc3\xa9\r\n")}) {
    const std::string made = echoed(fields);
    EXPECT_EQ(made.size(), 16u) << fields;
    EXPECT_EQ(made.find_first_not_of("0123456789abcdef"), std::string::npos) << made;
    EXPECT_NE(made, previous);
    previous = made;
  }
}

TEST_F(ExchangeTest, EndsWhereAnyoneAsksForIt) {
  struct Row {
    const char* name;
    std::string text;
    bool handler_closes, closing;
    bool last;
    const char* line;
  };
  const std::string old = "GET / HTTP/1.0\r\n";
  for (const Row& row : {Row{"nobody", get("/"), false, false, false, ""},
                         Row{"client", get("/", "Connection: close\r\n"), false, false, true, "Connection: close\r\n"},
                         Row{"handler", get("/"), true, false, true, "Connection: close\r\n"},
                         Row{"owner", get("/"), false, true, true, "Connection: close\r\n"},
                         Row{"HTTP/1.0", old + "\r\n", false, false, true, "Connection: close\r\n"},
                         Row{"HTTP/1.0 kept", old + "Connection: keep-alive\r\n\r\n", false, false, false,
                             "Connection: keep-alive\r\n"}}) {
    SCOPED_TRACE(row.name);
    exchange = Exchange(context, 0);
    handler.closes = row.handler_closes;
    if (row.closing) exchange.close_after_next();
    receive(row.text);
    EXPECT_EQ(exchange.phase(), row.last ? Phase::Finished : Phase::Head);
    EXPECT_FALSE(exchange.must_linger());
    EXPECT_TRUE(output.ends_with(std::string(row.line) + "\r\n/")) << output;
    EXPECT_EQ(output.find("Connection:") == std::string::npos, row.line[0] == '\0');
    output.clear();
  }
}

TEST_F(ExchangeTest, TakesNothingAfterTheLastAnswer) {
  receive(get("/1", "Connection: close\r\n") + get("/2"));
  EXPECT_EQ(handler.requests.size(), 1u);
  EXPECT_EQ(exchange.phase(), Phase::Finished);
  EXPECT_TRUE(exchange.must_linger());
  EXPECT_EQ(input, get("/2"));
  output.clear();
  receive(get("/3"));
  EXPECT_EQ(output, "");
  exchange.end_of_input();
  EXPECT_FALSE(exchange.must_linger());
}

TEST_F(ExchangeTest, SendsUnknownLengthsInChunksOrUntilClose) {
  handler.chunked = true;
  receive(get("/x"));
  EXPECT_TRUE(take_output().ends_with("Transfer-Encoding: chunked\r\n\r\n2\r\n/x\r\n0\r\n\r\n"));
  receive("GET /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  EXPECT_TRUE(take_output().ends_with("Connection: close\r\n\r\n/x"));
  EXPECT_EQ(exchange.phase(), Phase::Finished);
}

TEST_F(ExchangeTest, SendsNoContentToHead) {
  receive("HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_TRUE(take_output().ends_with("Content-Length: 2\r\n\r\n"));
  receive("HEAD /x HTTP/1.1\r\n\r\n");
  EXPECT_EQ(statuses(), std::vector<int>{400});
  EXPECT_TRUE(output.ends_with("\r\n\r\n"));
}

TEST_F(ExchangeTest, TellsTheClientToContinueOnlyWhenItWaits) {
  const std::string continued = "HTTP/1.1 100 Continue\r\n\r\n";
  const std::string fields = "Expect: 100-continue\r\nContent-Length: 5\r\n";
  receive(post(fields, ""));
  EXPECT_EQ(take_output(), continued);
  EXPECT_EQ(exchange.phase(), Phase::Body);
  receive("hel");
  EXPECT_EQ(output, "");
  receive("lo");
  EXPECT_EQ(statuses(), std::vector<int>{200});
  take_output();

  receive(post(fields, "h"));
  EXPECT_EQ(output, "");
  receive("ello");
  EXPECT_EQ(statuses(), std::vector<int>{200});
  take_output();

  receive(post("Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n", ""));
  EXPECT_EQ(take_output(), continued);
  receive("0\r\n\r\n");
  take_output();

  receive(post("Expect: 100-continue\r\nContent-Length: 0\r\n", "") + get("/", "Expect: 100-continue\r\n"));
  EXPECT_EQ(statuses(), (std::vector<int>{200, 200}));
  take_output();

  receive("POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
  EXPECT_EQ(output, "");
}

TEST_F(ExchangeTest, RefusesATooLargeBodyBeforeItIsSent) {
  context.limits.body_bytes_max = 5;
  for (const char* const fields : {"Expect: 100-continue\r\nContent-Length: 6\r\n", "Content-Length: 6\r\n"}) {
    exchange = Exchange(context, 0);
    receive(post(fields, ""));
    EXPECT_EQ(statuses(), std::vector<int>{413});
    EXPECT_EQ(exchange.phase(), Phase::Finished);
    EXPECT_TRUE(exchange.must_linger());
    take_output();
    input.clear();
  }
  EXPECT_TRUE(handler.requests.empty());
}

TEST_F(ExchangeTest, AnswersARefusalWithAProblem) {
  receive(get("/1") + post("X-Request-Id: me\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"));
  EXPECT_EQ(statuses(), (std::vector<int>{200, 400}));
  const std::string refusal = output.substr(output.rfind("HTTP/1.1"));
  const RefusalInfo& info = refusal_info(Refusal::LengthAndChunked);
  const std::string body = problem_json(info.status, info.title, info.detail);
  EXPECT_EQ(refusal,
            "HTTP/1.1 400 Bad Request\r\nServer: kiln\r\nX-Request-Id: me\r\n"
            "Content-Type: application/problem+json\r\nCache-Control: no-store\r\nContent-Length: " +
                std::to_string(body.size()) + "\r\nConnection: close\r\n\r\n" + body);
  EXPECT_EQ(handler.refusals, std::vector<Refusal>{Refusal::LengthAndChunked});
  EXPECT_EQ(exchange.phase(), Phase::Finished);
  EXPECT_TRUE(exchange.must_linger());
  EXPECT_EQ(exchange.answered(), 2u);
}

TEST_F(ExchangeTest, RefusesABrokenChunkInItsMidst) {
  receive(post("Transfer-Encoding: chunked\r\n", "3\r\nab"));
  EXPECT_EQ(exchange.phase(), Phase::Body);
  receive("cd");
  EXPECT_EQ(handler.refusals, std::vector<Refusal>{Refusal::BadChunk});
  EXPECT_EQ(exchange.phase(), Phase::Finished);
  EXPECT_TRUE(handler.requests.empty());
}

TEST_F(ExchangeTest, RefusesGarbageAtItsFirstByte) {
  receive("\x16");
  EXPECT_EQ(handler.refusals, std::vector<Refusal>{Refusal::BadMethod});
  exchange = Exchange(context, 0);
  input.clear();
  receive("\r\n");
  EXPECT_TRUE(exchange.idle());
  receive("\x16");
  EXPECT_EQ(handler.refusals.size(), 2u);
}

TEST_F(ExchangeTest, RefusesLimitsThoughNoLineEnds) {
  context.limits.request_line_bytes_max = 32;
  context.limits.head_bytes_max = 64;
  const std::vector<std::pair<std::string, int>> rows = {{"", 501}, {"GET /", 414}, {get("/").substr(0, 16), 431}};
  for (const auto& [begin, status] : rows) {
    exchange = Exchange(context, 0);
    input.clear();
    take_output();
    receive(begin);
    for (int byte = 0; byte < 64 && exchange.phase() == Phase::Head; ++byte) receive("x");
    EXPECT_EQ(statuses(), std::vector<int>{status});
    EXPECT_LE(input.size(), 64u);
  }
}

TEST_F(ExchangeTest, KeepsWhatADeferredAnswerNeeds) {
  handler.defers = true;
  receive("HEAD /1 HTTP/1.0\r\nConnection: keep-alive\r\nX-Request-Id: 1\r\n\r\n" + get("/2", "X-Request-Id: 2\r\n"));
  EXPECT_EQ(exchange.phase(), Phase::Handling);
  EXPECT_EQ(output, "");
  receive(get("/3", "Connection: close\r\nX-Request-Id: 3\r\n"));
  EXPECT_EQ(handler.requests.size(), 1u);

  Reply(exchange, output).send({.body = "one"});
  EXPECT_EQ(take_output(),
            "HTTP/1.1 200 OK\r\nServer: kiln\r\nX-Request-Id: 1\r\nContent-Length: 3\r\n"
            "Connection: keep-alive\r\n\r\n");
  EXPECT_FALSE(exchange.idle());
  receive("");
  EXPECT_EQ(handler.requests.size(), 2u);
  Reply(exchange, output).send({.body = "two"});
  EXPECT_EQ(take_output(), "HTTP/1.1 200 OK\r\nServer: kiln\r\nX-Request-Id: 2\r\nContent-Length: 3\r\n\r\ntwo");
  receive("");
  Reply(exchange, output).send({.body = "three"});
  EXPECT_EQ(exchange.phase(), Phase::Finished);
  EXPECT_FALSE(exchange.must_linger());
}

TEST_F(ExchangeTest, LingersWhenADeferredLastAnswerLeavesInput) {
  handler.defers = true;
  receive(get("/1") + get("/2"));
  Reply(exchange, output).send({.close = true});
  EXPECT_EQ(exchange.phase(), Phase::Finished);
  EXPECT_TRUE(exchange.must_linger());
}

TEST_F(ExchangeTest, GivesOthersTheirTurn) {
  context.limits.requests_a_batch_max = 2;
  const std::string text = get("/1") + get("/2") + get("/3");
  EXPECT_EQ(exchange.receive(text, output), 2 * get("/1").size());
  EXPECT_TRUE(exchange.wants_more_turns());
  EXPECT_FALSE(exchange.idle());
  EXPECT_EQ(exchange.receive(get("/3"), output), get("/3").size());
  EXPECT_FALSE(exchange.wants_more_turns());
  EXPECT_EQ(handler.requests.size(), 3u);

  const std::string two = get("/1") + get("/2");
  EXPECT_EQ(exchange.receive(two, output), two.size());
  EXPECT_FALSE(exchange.wants_more_turns());

  context.limits.output_batch_bytes_max = 1;
  EXPECT_EQ(exchange.receive(two, output), get("/1").size());
  EXPECT_TRUE(exchange.wants_more_turns());
}

TEST_F(ExchangeTest, DropsAnIncompleteRequestAtTheEnd) {
  for (const std::string& text : {std::string(), get("/").substr(0, 9), post("Content-Length: 5\r\n", "hel")}) {
    exchange = Exchange(context, 0);
    input.clear();
    receive(text);
    exchange.end_of_input();
    EXPECT_EQ(exchange.phase(), Phase::Finished);
    EXPECT_EQ(output, "");
    EXPECT_FALSE(exchange.must_linger());
  }
  EXPECT_TRUE(handler.refusals.empty());
}

TEST_F(ExchangeTest, AnswersWhatItHandlesAtTheEnd) {
  handler.defers = true;
  receive(get("/1"));
  exchange.end_of_input();
  EXPECT_EQ(exchange.phase(), Phase::Handling);
  Reply(exchange, output).send({});
  EXPECT_EQ(exchange.phase(), Phase::Finished);
  EXPECT_NE(output.find("Connection: close"), std::string::npos);
  EXPECT_FALSE(exchange.must_linger());
}

TEST_F(ExchangeTest, AnswersWholeRequestsBehindTheOneItHandlesAtTheEnd) {
  handler.defers = true;
  receive(get("/1") + get("/2") + get("/3").substr(0, 9));
  exchange.end_of_input();
  Reply(exchange, output).send({});
  EXPECT_EQ(exchange.phase(), Phase::Head);
  EXPECT_EQ(take_output().find("Connection: close"), std::string::npos);
  receive("");
  EXPECT_EQ(exchange.phase(), Phase::Handling);
  Reply(exchange, output).send({});
  receive("");
  EXPECT_EQ(exchange.phase(), Phase::Finished);
  EXPECT_EQ(handler.requests.size(), 2u);
  EXPECT_FALSE(exchange.must_linger());
}

TEST_F(ExchangeTest, RefusesWhenItsOwnerSaysSo) {
  receive("HEAD / HTTP/1.1\r\nHost: a\r\nX-Request-Id: before\r\n\r\n");
  take_output();
  receive("G");
  EXPECT_FALSE(exchange.idle());
  exchange.refuse(Refusal::HeadTimeout, output);
  EXPECT_EQ(statuses(), std::vector<int>{408});
  EXPECT_EQ(output.find("before"), std::string::npos);
  EXPECT_TRUE(output.ends_with("}"));
  EXPECT_EQ(exchange.phase(), Phase::Finished);

  exchange = Exchange(context, 0);
  input.clear();
  take_output();
  receive(post("X-Request-Id: now\r\nContent-Length: 5\r\n", "hel"));
  exchange.refuse(Refusal::BodyTimeout, output);
  EXPECT_EQ(statuses(), std::vector<int>{408});
  EXPECT_NE(output.find("X-Request-Id: now\r\n"), std::string::npos);
}

TEST_F(ExchangeTest, CostsLittleWhenAHeadTricklesIn) {
  // Were each byte to begin anew, this would be 16384 * 8192 steps a head: minutes under a sanitizer.
  for (int head = 0; head < 50; ++head) {
    std::string text = "GET / HTTP/1.1\r\nHost: a\r\nName: " + std::string(15000, 'x');
    for (size_t bytes = 1; bytes <= text.size(); ++bytes) {
      ASSERT_EQ(exchange.receive(std::string_view(text).substr(0, bytes), output), 0u);
    }
    text += "\r\n\r\n";
    ASSERT_EQ(exchange.receive(text, output), text.size());
  }
  EXPECT_EQ(handler.requests.size(), 50u);
}

TEST_F(ExchangeTest, StopsAtOurMistakes) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(Reply(exchange, output).send({}), "broken invariant");
  receive(get("/", "Connection: close\r\n"));
  EXPECT_DEATH(Reply(exchange, output).send({}), "broken invariant");
  EXPECT_DEATH(exchange.refuse(Refusal::HeadTimeout, output), "broken invariant");
}

}  // namespace
}  // namespace kiln::http
