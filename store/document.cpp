#include "store/document.h"

#include <simdjson.h>

#include <algorithm>
#include <utility>

namespace kiln::store {

namespace {

namespace ondemand = simdjson::ondemand;

constexpr std::string_view kBlanks = " \t\r\n";
constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// How many bytes of `text` are a number, or npos; simdjson reads those of a double alone, JSON has no such bound.
size_t number_bytes(std::string_view text) {
  size_t at = 0;
  const auto is = [&](auto&& wanted) { return at < text.size() && wanted(text[at]); };
  const auto digits = [&] {
    const size_t before = at;
    while (is(is_digit)) ++at;
    return at > before;
  };
  if (is([](char c) { return c == '-'; })) ++at;
  if (is([](char c) { return c == '0'; })) {
    ++at;
  } else if (!digits()) {
    return std::string_view::npos;
  }
  if (is([](char c) { return c == '.'; })) {
    ++at;
    if (!digits()) return std::string_view::npos;
  }
  if (is([](char c) { return c == 'e' || c == 'E'; })) {
    ++at;
    if (is([](char c) { return c == '+' || c == '-'; })) ++at;
    if (!digits()) return std::string_view::npos;
  }
  return at;
}

// The bytes of the UTF-8 sequence that `text` begins with; 0 when it is none (RFC 3629 section 4).
size_t utf8_bytes(std::string_view text) {
  const auto byte = [&](size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U; };
  const auto tail = [&](size_t from, size_t to) {
    for (size_t i = from; i < to; ++i) {
      if ((byte(i) & 0xc0) != 0x80) return size_t{0};
    }
    return to;
  };
  const unsigned first = byte(0);
  const unsigned second = byte(1);
  if (first < 0x80) return 1;
  if (first >= 0xc2 && first <= 0xdf) return tail(1, 2);
  if (first == 0xe0 && second < 0xa0) return 0;
  if (first == 0xed && second > 0x9f) return 0;  // surrogates
  if (first >= 0xe0 && first <= 0xef) return tail(1, 3);
  if (first == 0xf0 && second < 0x90) return 0;
  if (first == 0xf4 && second > 0x8f) return 0;
  if (first >= 0xf0 && first <= 0xf4) return tail(1, 4);
  return 0;
}

// Where the faults are that simdjson finds before it looks at the structure, and has no place for.
size_t byte_fault(std::string_view text) {
  bool quoted = false;
  size_t opened = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t bytes = utf8_bytes(text.substr(at));
    if (bytes == 0) return at;
    const char c = text[at];
    if (quoted && static_cast<unsigned char>(c) < 0x20) return at;
    if (quoted && c == '\\') {
      at += 2;
      continue;
    }
    if (c == '"') {
      if (!quoted) opened = at;
      quoted = !quoted;
    }
    at += bytes;
  }
  return quoted ? opened : text.size();
}

// Without the full stop that some of them end with.
std::string sentence(simdjson::error_code error) {
  std::string text = simdjson::error_message(error);
  if (text.ends_with('.')) text.pop_back();
  return text;
}

// Versions of simdjson differ: it takes no argument, needs one, or has a default for it.
auto unescaped_key(auto& field) {
  if constexpr (requires { field.unescaped_key(); }) {
    return field.unescaped_key();
  } else {
    return field.unescaped_key(false);
  }
}

using Kind = DocumentFault::Kind;

std::unexpected<DocumentFault> fault(size_t position, std::string why, Kind kind = Kind::NotJson) {
  return std::unexpected(DocumentFault{kind, position, std::move(why)});
}

}  // namespace

struct DocumentReader::Parser {
  ondemand::parser ondemand;
  ondemand::document document;
  std::string text;

  using Verdict = std::expected<void, DocumentFault>;

  [[nodiscard]] size_t position_of(const char* place) const {
    return std::min(static_cast<size_t>(place - text.data()), text.size());
  }

  [[nodiscard]] std::unexpected<DocumentFault> fault_here(simdjson::error_code error) {
    const char* place = nullptr;
    const bool is_known = document.current_location().get(place) == simdjson::SUCCESS;
    return fault(is_known ? position_of(place) : text.size(), sentence(error));
  }

  Verdict check(ondemand::value value, int depth) {
    ondemand::json_type type{};
    if (const auto error = value.type().get(type)) return fault_here(error);
    switch (type) {
      case ondemand::json_type::object: return check_object(value, depth);
      case ondemand::json_type::array: return check_array(value, depth);
      case ondemand::json_type::string: return check_string(value);
      default: return check_scalar(value);
    }
  }

  Verdict check_depth(ondemand::value& value, int depth) {
    if (depth < kDepthMax) return {};
    return fault(position_of(value.raw_json_token().data()), "nested deeper than " + std::to_string(kDepthMax));
  }

  Verdict check_object(ondemand::value value, int depth) {
    if (auto checked = check_depth(value, depth); !checked) return checked;
    ondemand::object object;
    if (const auto error = value.get_object().get(object)) return fault_here(error);
    return check_members(object, depth + 1);
  }

  Verdict check_members(ondemand::object& object, int depth) {
    for (auto next : object) {
      ondemand::field field;
      if (const auto error = std::move(next).get(field)) return fault_here(error);
      const char* const quote = field.key().raw() - 1;
      std::string_view key;
      if (const auto error = unescaped_key(field).get(key)) {
        return fault(position_of(quote), sentence(error));
      }
      if (auto checked = check(field.value(), depth); !checked) return checked;
    }
    return {};
  }

  Verdict check_array(ondemand::value value, int depth) {
    if (auto checked = check_depth(value, depth); !checked) return checked;
    ondemand::array array;
    if (const auto error = value.get_array().get(array)) return fault_here(error);
    for (auto next : array) {
      ondemand::value element;
      if (const auto error = std::move(next).get(element)) return fault_here(error);
      if (auto checked = check(element, depth + 1); !checked) return checked;
    }
    return {};
  }

  Verdict check_string(ondemand::value& value) {
    const size_t position = position_of(value.raw_json_token().data());
    std::string_view unescaped;
    if (const auto error = value.get_string().get(unescaped)) return fault(position, sentence(error));
    return {};
  }

  Verdict check_scalar(ondemand::value& value) {
    std::string_view token = value.raw_json_token();  // up to the next structural character
    const size_t position = position_of(token.data());
    token = token.substr(0, std::min(token.size(), text.size() - position));
    token = token.substr(0, token.find_last_not_of(kBlanks) + 1);
    if (token == "null" || token == "true" || token == "false") return {};
    if (number_bytes(token) == token.size()) return {};
    return fault(position, "neither a number nor true, false or null");
  }

  // simdjson looks at the last byte first, and says no more than that the text is not whole. With an end to it the
  // first fault comes to light.
  Verdict check_unfinished(simdjson::error_code error) {
    const size_t bytes = text.size();
    text.reserve(bytes + 1 + simdjson::SIMDJSON_PADDING);
    text.push_back('}');
    Verdict checked = check_document(Closed::ByUs);
    if (checked || checked.error().position >= bytes) return fault(bytes, sentence(error));
    return checked;
  }

  enum class Closed : uint8_t { ByItself, ByUs };

  Verdict check_document(Closed closed = Closed::ByItself) {
    if (const auto error = ondemand.iterate(text.data(), text.size(), text.capacity()).get(document)) {
      return fault(byte_fault(text), sentence(error));
    }
    ondemand::json_type type{};
    if (const auto error = document.type().get(type)) return fault_here(error);
    if (type != ondemand::json_type::object) return check_other();
    ondemand::object object;
    const auto error = document.get_object().get(object);
    if (error == simdjson::INCOMPLETE_ARRAY_OR_OBJECT && closed == Closed::ByItself) return check_unfinished(error);
    if (error) return fault_here(error);
    if (auto checked = check_members(object, 1); !checked) return checked;
    const char* rest = nullptr;
    if (document.current_location().get(rest) == simdjson::SUCCESS) {
      return fault(position_of(rest), "something follows the object");
    }
    return {};
  }

  // Not an object; when it is not even JSON, that is said. simdjson reads a lone value by other rules than one inside.
  Verdict check_other() {
    const std::string lone = text;
    text.reserve(text.size() + 2 + simdjson::SIMDJSON_PADDING);
    text.insert(0, 1, '[').push_back(']');
    Verdict checked = check_lone();
    if (checked) return fault(0, "not an object", Kind::NotAnObject);
    size_t& position = checked.error().position;
    position = std::min(position - std::min<size_t>(position, 1), lone.size());
    return checked;
  }

  Verdict check_lone() {
    if (const auto error = ondemand.iterate(text.data(), text.size(), text.capacity()).get(document)) {
      return fault(byte_fault(text), sentence(error));
    }
    ondemand::array array;
    if (const auto error = document.get_array().get(array)) return fault_here(error);
    size_t values = 0;
    for (auto next : array) {
      ondemand::value element;
      if (const auto error = std::move(next).get(element)) return fault_here(error);
      if (++values > 1) return fault(position_of(element.raw_json_token().data()) - 1, "something follows the value");
      if (auto checked = check(element, 0); !checked) return checked;
    }
    const char* rest = nullptr;
    if (document.current_location().get(rest) == simdjson::SUCCESS) {
      // Not our bracket ended the array, but one in the text.
      return fault(text.rfind(']', position_of(rest) - 1), "something follows the value");
    }
    return {};
  }
};

DocumentReader::DocumentReader() : parser_(std::make_unique<Parser>()) {}
DocumentReader::~DocumentReader() = default;

std::expected<std::string, DocumentFault> DocumentReader::read(std::string_view text) {
  const size_t first = std::min(text.find_first_not_of(kBlanks), text.size());
  const std::string_view trimmed = text.substr(first, text.find_last_not_of(kBlanks) + 1 - first);
  if (trimmed.empty()) return fault(first, "there is nothing");
  if (trimmed.starts_with(kByteOrderMark)) return fault(first, "a byte order mark");
  std::string& own = parser_->text;
  own.reserve(trimmed.size() + simdjson::SIMDJSON_PADDING);
  own = trimmed;
  if (const auto checked = parser_->check_document(); !checked) {
    DocumentFault found = checked.error();
    found.position += first;
    return std::unexpected(std::move(found));
  }
  return std::exchange(own, std::string());
}

}  // namespace kiln::store
