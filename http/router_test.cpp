#include "http/router.h"

#include <gtest/gtest.h>

namespace kiln::http {
namespace {

using Kind = Router::Match::Kind;

class RouterTest : public testing::Test {
 protected:
  Router router;
  const size_t root = router.add(Method::Get, "/");
  const size_t info = router.add(Method::Get, "/api/info");
  const size_t list = router.add(Method::Get, "/data");
  const size_t store = router.add(Method::Post, "/data");
  const size_t read = router.add(Method::Get, "/data/{id}");
  const size_t erase = router.add(Method::Delete, "/data/{id}");
  const size_t two = router.add(Method::Post, "/{kind}/x/{id}");
  const size_t all = router.add(Method::Get, "/data/all");

  void expect_found(Method method, std::string_view path, size_t route, std::string_view first = {},
                    std::string_view second = {}) {
    const auto match = router.match(method, path);
    EXPECT_EQ(match.kind, Kind::Found) << path;
    EXPECT_EQ(match.route, route) << path;
    EXPECT_EQ(match.parameters[0], first) << path;
    EXPECT_EQ(match.parameters[1], second) << path;
  }
};

TEST_F(RouterTest, FindsLiteralPathsAndTemplates) {
  expect_found(Method::Get, "/", root);
  expect_found(Method::Get, "/api/info", info);
  expect_found(Method::Get, "/data", list);
  expect_found(Method::Post, "/data", store);
  expect_found(Method::Get, "/data/7", read, "7");
  expect_found(Method::Delete, "/data/a%2Fb", erase, "a%2Fb");
  expect_found(Method::Post, "/a/x/b", two, "a", "b");
}

TEST_F(RouterTest, PrefersLiteralSegments) {
  expect_found(Method::Get, "/data/all", all);
  EXPECT_EQ(router.match(Method::Delete, "/data/all").kind, Kind::MethodNotAllowed);
  Router other;
  const size_t late = other.add(Method::Get, "/{a}/y");
  const size_t early = other.add(Method::Get, "/x/{b}");
  EXPECT_EQ(other.match(Method::Get, "/x/y").route, early);
  EXPECT_EQ(other.match(Method::Get, "/x/y").parameters[0], "y");
  EXPECT_EQ(other.match(Method::Get, "/z/y").route, late);
}

TEST_F(RouterTest, ComparesPathsByteForByte) {
  for (const char* const path : {"", "*", "//", "/api", "/api/info/", "/API/info", "/api%2finfo", "/api/inf%6f",
                                 "/data/", "/data//", "/data/7/", "//data", "/a/x/", "/a/x/b/c", "data"}) {
    EXPECT_EQ(router.match(Method::Get, path).kind, Kind::NotFound) << path;
  }
}

TEST_F(RouterTest, AnswersHeadWhereverGetDoes) {
  expect_found(Method::Head, "/data", list);
  expect_found(Method::Head, "/data/7", read, "7");
  EXPECT_EQ(router.match(Method::Head, "/a/x/b").kind, Kind::MethodNotAllowed);
  const size_t own = router.add(Method::Head, "/data");
  expect_found(Method::Head, "/data", own);
}

TEST_F(RouterTest, TellsTheMethodsOfAKnownPath) {
  const auto allow = [this](Method method, std::string_view path) {
    const auto match = router.match(method, path);
    EXPECT_EQ(match.kind, Kind::MethodNotAllowed);
    return match.allow;
  };
  EXPECT_EQ(allow(Method::Put, "/data"), "GET, HEAD, POST, OPTIONS");
  EXPECT_EQ(allow(Method::Post, "/data/7"), "GET, HEAD, DELETE, OPTIONS");
  EXPECT_EQ(allow(Method::Other, "/"), "GET, HEAD, OPTIONS");
  EXPECT_EQ(allow(Method::Get, "/a/x/b"), "POST, OPTIONS");
  EXPECT_EQ(router.match(Method::Put, "/data").route, list);
  EXPECT_EQ(router.match(Method::Put, "/data/7").route, read);
}

TEST_F(RouterTest, NamesItsRoutes) {
  EXPECT_EQ(router.size(), 8u);
  EXPECT_EQ(router.path_of(erase), "/data/{id}");
  EXPECT_EQ(router.method_of(erase), Method::Delete);
}

TEST_F(RouterTest, StopsAtOurMistakes) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(router.add(Method::Get, "/data"), "broken invariant");
  EXPECT_DEATH(router.add(Method::Get, "data"), "broken invariant");
  EXPECT_DEATH(router.add(Method::Get, "/{a}/{b}/{c}"), "broken invariant");
}

}  // namespace
}  // namespace kiln::http
