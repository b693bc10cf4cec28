// Who this pod is: from the downward API's variables, or from the machine where there is no Kubernetes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "app/settings.h"

namespace kiln::app {

struct Identity {
  std::string pod_name, pod_ip, pod_namespace, node_name, node_ip, hostname, zone;
  std::optional<uint64_t> request_millicores;  // CPU_REQUEST_MILLI
  std::optional<uint64_t> limit_millicores;    // CPU_LIMIT_MILLI
  bool in_kubernetes = false;                  // true when POD_NAME was given

  // Values that could not be header fields or numbers are dropped and named in `warnings`.
  static Identity find(const Environment& environment, uint16_t port);
  std::string warnings = {};
};

}  // namespace kiln::app
