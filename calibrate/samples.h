// Figures out of what a server tells Prometheus (text format 0.0.4,
// https://prometheus.io/docs/instrumenting/exposition_formats/).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace kiln::calibrate {

using Labels = std::vector<std::pair<std::string_view, std::string_view>>;

// The sum of all samples of that name that carry these labels, whatever else they carry; nothing when there is none, or
// none whose value is a finite number. Lines that are no samples are passed over. Label values are compared as they are
// written, escapes and all.
[[nodiscard]] std::optional<double> sum_of_samples(std::string_view text, std::string_view name,
                                                   const Labels& labels = {});

}  // namespace kiln::calibrate
