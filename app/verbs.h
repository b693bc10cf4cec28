// The verbs. Each returns the process's exit status: 0, 1 for a failure at run time, 2 for a bad command line.
#pragma once

#include <string>
#include <vector>

#include "app/settings.h"

namespace kiln::app {

int serve(const ServeSettings& settings);

// Exits 0 when `url` answers 200 within two seconds. Empty: /readyz of the server that this environment configures.
int healthcheck(std::string url, const Environment& environment);

enum class Format : uint8_t { Text, Json };
int doctor(Format format, const Environment& environment);

}  // namespace kiln::app
