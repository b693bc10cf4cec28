#include "calibrate/patch.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace kiln::calibrate {

namespace {

constexpr size_t kNameCharactersMax = 253;  // RFC 1123, as Kubernetes has it

bool is_letter_or_digit(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }

// kustomize takes the name in a target for a regular expression.
std::string expression_of(std::string_view name) {
  std::string expression;
  for (const char c : name) {
    if (c == '.') expression += '\\';
    expression += c;
  }
  return expression;
}

std::string quantity(double millicores) { return fmt::format("{:.0f}m", std::max(std::round(millicores), 1.0)); }

}  // namespace

bool is_object_name(std::string_view text) {
  if (text.size() > kNameCharactersMax) return false;
  // Labels between dots, each of which begins and ends with a letter or a digit.
  for (;;) {
    const std::string_view label = text.substr(0, text.find('.'));
    if (label.empty() || !is_letter_or_digit(label.front()) || !is_letter_or_digit(label.back())) return false;
    if (!std::ranges::all_of(label, [](char c) { return is_letter_or_digit(c) || c == '-'; })) return false;
    if (label.size() == text.size()) return true;
    text.remove_prefix(label.size() + 1);
  }
}

std::string patch_text(const PatchOptions& options) {
  CHECK(is_object_name(options.name));
  static constexpr std::string_view kKustomization =
      R"({begins} Name this folder last under components: of an overlay.
apiVersion: kustomize.config.k8s.io/v1alpha1
kind: Component
patches:
  - target:
      kind: Deployment
      name: '{name}'
    patch: |
      - op: add
        path: /spec/template/spec/containers/0/resources/requests/cpu
        value: {request}
{limit}  - target:
      kind: HorizontalPodAutoscaler
      name: '{name}'
    patch: |
      # The target is a share of the CPU request: of any other metric it would mean something else.
      - op: test
        path: /spec/metrics/0/type
        value: Resource
      - op: test
        path: /spec/metrics/0/resource/name
        value: cpu
      - op: replace
        path: /spec/metrics/0/resource/target/averageUtilization
        value: {target}
)";
  static constexpr std::string_view kLimit =
      R"(      - op: add
        path: /spec/template/spec/containers/0/resources/limits/cpu
        value: {}
)";
  const std::string limit = options.limit_millicores ? fmt::format(kLimit, quantity(*options.limit_millicores)) : "";
  return fmt::format(kKustomization, fmt::arg("begins", kPatchBegins), fmt::arg("name", expression_of(options.name)),
                     fmt::arg("request", quantity(options.request_millicores)), fmt::arg("limit", limit),
                     fmt::arg("target", options.target_percent));
}

}  // namespace kiln::calibrate
