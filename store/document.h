// Whether a client's text is a JSON object (RFC 8259), before anybody stores it. Stricter than the RFC where a stored
// text could not be shown again: no byte order mark, no lone surrogates, at most 64 levels. Numbers of any size and
// keys that repeat are valid.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <string>
#include <string_view>

namespace kiln::store {

inline constexpr int kDepthMax = 64;  // objects and arrays inside each other, the outermost included

struct DocumentFault {
  enum class Kind : uint8_t { NotJson, NotAnObject };
  Kind kind = Kind::NotJson;
  size_t position = 0;  // of the first byte that cannot be, from the text's begin
  std::string why;
};

class DocumentReader {
 public:
  DocumentReader();
  DocumentReader(const DocumentReader&) = delete;
  DocumentReader& operator=(const DocumentReader&) = delete;
  ~DocumentReader();

  // The text itself without the white space around it.
  std::expected<std::string, DocumentFault> read(std::string_view text);

 private:
  struct Parser;
  std::unique_ptr<Parser> parser_;  // reused: it keeps its buffers
};

}  // namespace kiln::store
