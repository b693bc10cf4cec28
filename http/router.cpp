#include "http/router.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/check.h"

namespace kiln::http {
namespace {

bool is_parameter(std::string_view segment) { return segment.starts_with('{') && segment.ends_with('}'); }

// Takes the next segment from the front of a path, the slash before it included. `path` starts with '/'.
std::string_view take_segment(std::string_view& path) {
  const size_t end = std::min(path.find('/', 1), path.size());
  const std::string_view segment = path.substr(1, end - 1);
  path.remove_prefix(end);
  return segment;
}

// Whether `path` has the segments of a template; its parameters are then set.
bool match_segments(const std::vector<std::string>& segments, std::string_view path,
                    std::string_view (&parameters)[Router::kParametersMax]) {
  size_t parameter = 0;
  for (const std::string& expected : segments) {
    if (path.empty()) return false;
    const std::string_view segment = take_segment(path);
    if (!is_parameter(expected)) {
      if (segment != expected) return false;
    } else if (segment.empty()) {
      return false;
    } else {
      parameters[parameter++] = segment;
    }
  }
  return path.empty();
}

// Whether, of two templates that match one path, `left` is literal where they first differ.
bool is_more_literal(const std::vector<std::string>& left, const std::vector<std::string>& right) {
  const auto [l, r] = std::mismatch(left.begin(), left.end(), right.begin(), right.end(),
                                    [](const auto& a, const auto& b) { return is_parameter(a) == is_parameter(b); });
  return l != left.end() && !is_parameter(*l);
}

}  // namespace

size_t Router::add(Method method, std::string_view path) {
  CHECK(path.starts_with('/'));
  CHECK(method != Method::Other);
  auto place = std::find_if(paths_.begin(), paths_.end(), [path](const Path& known) { return known.text == path; });
  if (place == paths_.end()) {
    Path made{.text = std::string(path), .segments = {}, .allow = {}, .routes = {}, .literal = true};
    for (std::string_view rest = path; !rest.empty();) made.segments.emplace_back(take_segment(rest));
    const auto parameters = std::count_if(made.segments.begin(), made.segments.end(), is_parameter);
    CHECK(parameters <= static_cast<std::ptrdiff_t>(kParametersMax));
    made.literal = parameters == 0;
    place = paths_.insert(paths_.end(), std::move(made));
  }
  for (const size_t route : place->routes) CHECK(routes_[route].method != method);

  routes_.push_back({method, static_cast<size_t>(place - paths_.begin())});
  place->routes.push_back(routes_.size() - 1);
  place->allow.clear();
  for (const Method candidate : {Method::Get, Method::Head, Method::Post, Method::Put, Method::Patch, Method::Delete,
                                 Method::Options, Method::Trace, Method::Connect}) {
    // Every path answers OPTIONS, whose business it is to tell this list.
    if (candidate != Method::Options && !find_route(*place, candidate)) continue;
    if (!place->allow.empty()) place->allow += ", ";
    place->allow += method_name(candidate);
  }
  return routes_.size() - 1;
}

Router::Match Router::match(Method method, std::string_view path) const {
  Match found;
  const Path* best = nullptr;
  for (const Path& candidate : paths_) {
    if (candidate.literal && candidate.text == path) {
      best = &candidate;
      break;
    }
  }
  if (best == nullptr && path.starts_with('/')) {
    for (const Path& candidate : paths_) {
      std::string_view parameters[kParametersMax];
      if (candidate.literal || !match_segments(candidate.segments, path, parameters)) continue;
      if (best != nullptr && !is_more_literal(candidate.segments, best->segments)) continue;
      best = &candidate;
      std::copy(std::begin(parameters), std::end(parameters), std::begin(found.parameters));
    }
  }
  if (best == nullptr) return found;

  if (const auto route = find_route(*best, method)) {
    found.kind = Match::Kind::Found;
    found.route = *route;
  } else {
    found.kind = Match::Kind::MethodNotAllowed;
    found.route = best->routes.front();
    found.allow = best->allow;
  }
  return found;
}

std::optional<size_t> Router::find_route(const Path& path, Method method) const {
  for (const size_t route : path.routes) {
    if (routes_[route].method == method) return route;
  }
  return method == Method::Head ? find_route(path, Method::Get) : std::nullopt;
}

std::string_view Router::path_of(size_t route) const { return paths_[routes_[route].path].text; }

Method Router::method_of(size_t route) const { return routes_[route].method; }

size_t Router::size() const { return routes_.size(); }

}  // namespace kiln::http
