#include "http/message.h"

#include "http/ascii.h"

namespace kiln::http {

std::optional<std::string_view> MessageHead::find(std::string_view name) const {
  for (const Field& field : fields()) {
    if (equal_without_case(field.name, name)) return field.value;
  }
  return {};
}

}  // namespace kiln::http
