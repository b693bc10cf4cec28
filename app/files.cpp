#include "app/files.h"

#include <cerrno>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <utility>

namespace kiln::app {

base::Result<std::string> read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (file) text << file.rdbuf();
  if (!file || file.bad()) return base::system_error("reading " + path, errno);
  return std::move(text).str();
}

base::Result<void> replace_file(const std::string& path, std::string_view text) {
  const std::string next = path + ".part";
  std::ofstream file(next, std::ios::binary | std::ios::trunc);
  file << text << std::flush;
  if (!file || std::rename(next.c_str(), path.c_str()) != 0) {
    const int error = errno;
    std::remove(next.c_str());
    return base::system_error("writing " + path, error);
  }
  return {};
}

}  // namespace kiln::app
