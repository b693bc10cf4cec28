// A kustomize component that gives a Deployment and its HorizontalPodAutoscaler the calibrated request, limit and
// target.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace kiln::calibrate {

// A DNS subdomain as RFC 1123 has it, of lower case, at most 253 characters: what both objects may be called.
[[nodiscard]] bool is_object_name(std::string_view text);

struct File {
  std::string name;  // below the directory
  std::string text;
};

struct PatchOptions {
  std::string name = "kiln";  // of both objects
  double request_millicores = 0;
  double limit_millicores = 0;
  unsigned target_percent = 0;
};

// kustomization.yaml, to be named last under `components:` of an overlay. It changes the CPU request and limit of the
// Deployment's first container and the target of the autoscaler's first metric, which must be CPU utilisation: anything
// else is an error of kustomize's, not a silent change. Where there is no such autoscaler (KEDA makes its own) nothing
// is changed there.
// `name` is an object name; CPU is rounded to millicores, at least 1m.
std::vector<File> patch_files(const PatchOptions& options);

}  // namespace kiln::calibrate
