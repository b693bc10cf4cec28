// Plays the cases with the protocol alone, without a socket: what the server says must depend on the bytes and not on
// how they were cut.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <iostream>
#include <string>
#include <string_view>
#include <vector>

#include "http/exchange.h"
#include "http/router.h"
#include "http/target.h"
#include "tests/conformance/table.h"
#include "tests/fuzz/response_check.h"

namespace kiln::conformance {
namespace {

constexpr std::string_view kProbe = "GET /api/info HTTP/1.1\r\nHost: kiln\r\n\r\n";

// The two routes that the cases ask for, and the page.
class Routes final : public http::Handler {
 public:
  Routes() {
    router_.add(http::Method::Get, "/");
    router_.add(http::Method::Get, "/api/info");
    echo_ = router_.add(http::Method::Post, "/echo");
  }

  void handle(const http::Request& request, http::Reply& reply) override {
    const http::Method method = request.head.method;
    const std::string path = http::decode_unreserved(request.head.path);
    const http::Router::Match match = router_.match(method, path);
    using Kind = http::Router::Match::Kind;
    const std::string allow = "Allow: " + std::string(match.allow) + "\r\n";
    if (match.kind == Kind::Found) {
      const auto type = request.head.find("content-type");
      if (match.route != echo_) return reply.send({.content_type = "application/json", .body = "{}"});
      return reply.send({.content_type = type.value_or("application/octet-stream"), .body = request.body});
    }
    if (method == http::Method::Other) return problem(reply, 501, {});
    if (method == http::Method::Options && (match.kind == Kind::MethodNotAllowed || path == "*")) {
      return reply.send({.status = 204, .fields = allow});
    }
    if (match.kind == Kind::MethodNotAllowed) return problem(reply, 405, allow);
    problem(reply, 404, {});
  }

  void refused(http::Refusal, int) override {}

 private:
  static void problem(http::Reply& reply, int status, std::string_view fields) {
    reply.send({.status = status, .content_type = http::kProblemType, .body = "{}", .fields = fields});
  }

  http::Router router_;
  size_t echo_ = 0;
};

// One connection, as its owner keeps it.
class Player {
 public:
  explicit Player(http::ExchangeContext& context) : exchange_(context, 0) {}

  void send(std::string_view bytes) {
    if (exchange_.phase() == http::Exchange::Phase::Finished) return;
    input_ += bytes;
    do {
      input_.erase(0, exchange_.receive(input_, output_));
    } while (exchange_.wants_more_turns());
  }

  void end_sending() {
    if (exchange_.phase() != http::Exchange::Phase::Finished) exchange_.end_of_input();
  }

  [[nodiscard]] bool closed() const { return exchange_.phase() == http::Exchange::Phase::Finished; }

  // What came since the last call, which must be these answers and no more.
  void expect(const std::vector<Answer>& answers) {
    std::string_view rest = output_;
    for (const Answer& wanted : answers) {
      const std::string_view from = rest;
      ASSERT_FALSE(rest.empty()) << "no answer where " << wanted.status << " is due";
      const fuzz::ResponseSeen seen = fuzz::take_response(rest, wanted.to_head);
      ASSERT_EQ(seen.status, wanted.status);
      EXPECT_TRUE(!wanted.has_body || seen.body == wanted.body) << seen.body;
      for (const std::string& field : wanted.fields) {
        EXPECT_NE(from.substr(0, from.size() - rest.size()).find("\r\n" + field + "\r\n"), std::string_view::npos)
            << field;
      }
    }
    EXPECT_EQ(rest, "");
    output_.clear();
  }

 private:
  http::Exchange exchange_;
  std::string input_;
  std::string output_;
};

// How a stage's bytes are cut: calls `send` with each piece.
using Send = std::function<void(std::string_view)>;
using Cut = std::function<void(std::string_view bytes, const Send& send)>;

class Conformance : public ::testing::Test {
 protected:
  Conformance() { context_.handler = &routes_; }

  void play(const Case& played, const Cut& cut) {
    Player player(context_);
    for (const Stage& stage : played.stages) {
      cut(stage.bytes, [&player](std::string_view piece) { player.send(piece); });
      if (stage.ends_sending || played.nothing) player.end_sending();
      ASSERT_NO_FATAL_FAILURE(player.expect(stage.answers));
    }
    if (played.closes || played.nothing) {
      EXPECT_TRUE(player.closed());
    } else {
      player.send(kProbe);
      player.expect({{.status = 200}});
    }
  }

  static const std::vector<Case>& cases() {
    static const std::vector<Case> all = read_cases(KILN_CONFORMANCE_FOLDER);
    return all;
  }

  Routes routes_;
  http::ExchangeContext context_;
};

TEST_F(Conformance, Whole) {
  EXPECT_GT(cases().size(), 600u);
  std::cout << cases().size() << " cases\n";
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.name);
    play(c, [](std::string_view bytes, const Send& send) { send(bytes); });
  }
}

TEST_F(Conformance, ByteByByte) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.name);
    play(c, [](std::string_view bytes, const Send& send) {
      for (size_t at = 0; at < bytes.size(); ++at) send(bytes.substr(at, 1));
    });
  }
}

TEST_F(Conformance, AtEverySplit) {
  constexpr size_t kEverySplitUpTo = 2048;  // bytes; longer ones only near their ends
  size_t plays = 0;
  for (const Case& c : cases()) {
    size_t longest = 0;
    for (const Stage& stage : c.stages) longest = std::max(longest, stage.bytes.size());
    for (size_t split = 1; split < longest; ++split) {
      if (longest > kEverySplitUpTo && split == kEverySplitUpTo / 2) split = longest - kEverySplitUpTo / 2;
      SCOPED_TRACE(c.name + ", cut at " + std::to_string(split));
      ++plays;
      play(c, [split](std::string_view bytes, const Send& send) {
        send(bytes.substr(0, split));
        if (split < bytes.size()) send(bytes.substr(split));
      });
    }
  }
  std::cout << plays << " plays\n";
}

}  // namespace
}  // namespace kiln::conformance
