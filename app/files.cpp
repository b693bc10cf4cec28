#include "app/files.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <utility>

namespace kiln::app {

namespace fs = std::filesystem;

base::Result<std::string> read_file(const std::string& path) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) return base::system_error("reading " + path, EISDIR);
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
    ::unlink(next.c_str());
    return base::system_error("writing " + path, error);
  }
  return {};
}

void occupy_standard_streams() {
  // open(2): the lowest number that is free. The wrong direction, so that using it is an error as before.
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(fd, F_GETFD) < 0) (void)::open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
  }
}

bool is_drawable(std::FILE* stream) {
  const char* kind = std::getenv("TERM");
  return ::isatty(::fileno(stream)) == 1 && kind != nullptr && std::string_view(kind) != "dumb";
}

bool print(std::FILE* stream, std::string_view text) {
  return std::fwrite(text.data(), 1, text.size(), stream) == text.size() && std::fflush(stream) == 0;
}

}  // namespace kiln::app
