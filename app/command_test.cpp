#include "app/command.h"

#include <gtest/gtest.h>

#include <initializer_list>

namespace kiln::app {
namespace {

http::RequestHead head_of(std::string_view host, std::initializer_list<http::Field> fields) {
  http::RequestHead head{};
  head.host = host;
  for (const http::Field& field : fields) head.field_storage[head.field_count++] = field;
  return head;
}

TEST(Command, NeedsTheTokenWhereThereIsOne) {
  const std::optional<std::string> token = "s3cret-Token==";
  const struct {
    std::string_view authorization;
    bool allowed;
  } rows[] = {
      {"Bearer s3cret-Token==", true},
      {"bearer s3cret-Token==", true},
      {"BEARER   s3cret-Token==", true},
      {"", false},
      {"Bearer", false},
      {"Bearer ", false},
      {"Bearers3cret-Token==", false},
      {"Bearer s3cret-Token=", false},
      {"Bearer s3cret-Token===", false},
      {"Bearer S3cret-Token==", false},
      {"Bearer s3cret-Token==s3cret-Token==", false},
      {"Bearer s3cret-Token== x", false},
      {"Bearer x", false},
      {"Basic s3cret-Token==", false},
      {"s3cret-Token==", false},
  };
  for (const auto& row : rows) {
    const auto head = head_of("kiln", {{"Authorization", row.authorization}});
    EXPECT_EQ(judge_command(head, token), row.allowed ? Verdict::Allowed : Verdict::NoToken) << row.authorization;
    EXPECT_EQ(judge_command(head, std::nullopt), Verdict::Allowed) << row.authorization;
  }
  EXPECT_EQ(judge_command(head_of("kiln", {}), token), Verdict::NoToken);
}

TEST(Command, RefusesPagesFromElsewhere) {
  const struct {
    std::string_view host;
    std::string_view origin;
    bool foreign;
  } rows[] = {
      {"kiln.test", "http://kiln.test", false},
      {"kiln.test", "http://kiln.test:80", false},
      {"kiln.test:80", "http://KILN.test", false},
      {"kiln.test:", "http://kiln.test", false},
      {"kiln.test:8080", "http://kiln.test:8080", false},
      {"[::1]:8080", "http://[::1]:8080", false},
      {"kiln.test:8080", "http://kiln.test", true},
      {"kiln.test:8080", "http://kiln.test:8081", true},
      {"kiln.test", "https://kiln.test", false},
      {"kiln.test", "https://kiln.test:443", false},
      {"kiln.test", "https://kiln.test:80", true},
      {"kiln.test", "ftp://kiln.test", true},
      {"kiln.test", "http://evil.test", true},
      {"kiln.test", "http://kiln.test.evil.test", true},
      {"kiln.test", "http://xkiln.test", true},
      {"kiln.test", "http://kiln.test/", true},
      {"kiln.test", "http://evil.test@kiln.test", true},
      {"kiln.test", "http://kiln.test http://evil.test", true},
      {"kiln.test", "null", true},
      {"kiln.test", "", true},
      {"kiln.test", "http://", true},
      {"kiln.test", "kiln.test", true},
      {"", "http://", true},
      {"", "http://kiln.test", true},
  };
  for (const auto& row : rows) {
    const auto head = head_of(row.host, {{"Origin", row.origin}});
    EXPECT_EQ(judge_command(head, std::nullopt), row.foreign ? Verdict::ForeignOrigin : Verdict::Allowed)
        << row.host << " " << row.origin;
  }
  const auto twice = head_of("kiln", {{"Origin", "http://kiln"}, {"oRIGIN", "http://evil"}});
  EXPECT_EQ(judge_command(twice, std::nullopt), Verdict::ForeignOrigin);
  // The right token does not make a foreign page less foreign.
  const auto with_token = head_of("kiln", {{"Authorization", "Bearer t"}, {"Origin", "http://evil"}});
  EXPECT_EQ(judge_command(with_token, "t"), Verdict::ForeignOrigin);
}

TEST(Command, TokensAreWhatAHeaderMayCarry) {
  for (const char* good : {"a", "0", "aZ09-._~+/", "abc=", "abc==="}) EXPECT_TRUE(is_bearer_token(good)) << good;
  for (const char* bad : {"", "=", "a=b", "a b", "a\n", "a\"", "a,b", "ä", "a!", "a*", "a:b"}) {
    EXPECT_FALSE(is_bearer_token(bad)) << bad;
  }
}

}  // namespace
}  // namespace kiln::app
