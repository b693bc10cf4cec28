// Paths to routes. Templates such as "/data/{id}" match one non-empty segment a parameter; "/data" and "/data/" differ.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "http/request.h"

namespace kiln::http {

class Router {
 public:
  static constexpr size_t kParametersMax = 2;

  struct Match {
    enum class Kind : uint8_t { Found, NotFound, MethodNotAllowed };
    Kind kind = Kind::NotFound;
    size_t route = 0;  // Found: what add() returned; MethodNotAllowed: the first route of that path
    std::string_view parameters[kParametersMax];       // Found: raw segments, in order
    std::string_view allow;                            // MethodNotAllowed: value for Allow; lives as long as the router
  };

  // `path` is a literal template of ours: starts with '/'. One call a path and method; a duplicate is our mistake.
  // A GET route answers HEAD too.
  size_t add(Method method, std::string_view path);

  // Literal segments win over parameters. `path` is compared byte by byte: "/api%2finfo" is not "/api/info".
  [[nodiscard]] Match match(Method method, std::string_view path) const;

  // A route's template, for labels; its method; how many routes there are.
  [[nodiscard]] std::string_view path_of(size_t route) const;
  [[nodiscard]] Method method_of(size_t route) const;
  [[nodiscard]] size_t size() const;

 private:
  struct Route {
    Method method;
    size_t path;
  };
  struct Path {
    std::string text;
    std::vector<std::string> segments;  // "{id}" for a parameter
    std::string allow;
    std::vector<size_t> routes;
    bool literal = true;                // true when no segment is a parameter
  };

  // The route of a path for a method; a GET route answers HEAD unless there is one of its own.
  [[nodiscard]] std::optional<size_t> find_route(const Path& path, Method method) const;

  std::vector<Path> paths_;
  std::vector<Route> routes_;
};

}  // namespace kiln::http
