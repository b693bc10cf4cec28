// Any bytes as a script for the whole server on a scripted kernel (tests/scripted/scripted_server.h): whatever arrives,
// completes, fails or stalls, in whatever order, every request is answered once and everything is given back. A byte
// that is no letter of a script stands for one that is.
#include <algorithm>
#include <string>

#include "tests/fuzz/pieces.h"
#include "tests/scripted/scripted_server.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr size_t kLettersMax = 2048;  // a fault that needs more would be found sooner by the random walk
  constexpr std::string_view kAlsoRead = "+ \n";
  const std::string_view letters = kiln::scripted::kLetters;
  std::string script(kiln::fuzz::text_of(data, std::min(size, kLettersMax)));
  for (char& c : script) {
    if (!letters.contains(c) && !kAlsoRead.contains(c)) c = letters[static_cast<unsigned char>(c) % letters.size()];
  }
  kiln::scripted::run_script(script);
  return 0;
}
