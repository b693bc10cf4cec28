// A kustomize component that gives a Deployment and its HorizontalPodAutoscaler the calibrated request, limit and
// target.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace kiln::calibrate {

// A DNS subdomain as RFC 1123 has it, of lower case, at most 253 characters: what both objects may be called.
[[nodiscard]] bool is_object_name(std::string_view text);

inline constexpr std::string_view kPatchFile = "kustomization.yaml";
// By which one of ours is known.
inline constexpr std::string_view kPatchBegins = "# What kiln calibrate recommends, or was asked for.";

struct PatchOptions {
  std::string name = "kiln";  // of both objects
  double request_millicores = 0;
  std::optional<double> limit_millicores = std::nullopt;  // nothing: it stays what it is
  unsigned target_percent = 0;
};

// A component, to be named last under `components:` of an overlay. It changes the CPU request and limit of the
// Deployment's first container and the target of the autoscaler's first metric, which must be CPU utilisation: anything
// else is an error of kustomize's, not a silent change. Where there is no such autoscaler (KEDA makes its own) nothing
// is changed there.
// `name` is an object name; CPU is rounded to millicores, at least 1m.
std::string patch_text(const PatchOptions& options);

}  // namespace kiln::calibrate
