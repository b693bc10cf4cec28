// Whole files and streams, for the verbs that read and write reports.
#pragma once

#include <cstdio>
#include <string>
#include <string_view>

#include "base/result.h"

namespace kiln::app {

[[nodiscard]] base::Result<std::string> read_file(const std::string& path);

// There is the old file or the whole new one, whatever happens to this process meanwhile.
[[nodiscard]] base::Result<void> replace_file(const std::string& path, std::string_view text);

// Whoever was started without some of stdin, stdout and stderr gets them as ones that fail, before a socket takes their
// number and receives what is meant for them. The first call of main().
void occupy_standard_streams();

// True when it is a terminal that understands escape codes.
[[nodiscard]] bool is_drawable(std::FILE* stream);

// False when not all of it could be written.
bool print(std::FILE* stream, std::string_view text);

}  // namespace kiln::app
