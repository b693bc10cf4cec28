#include "store/record.h"

#include <algorithm>
#include <span>

namespace kiln::store {

namespace {

constexpr size_t kTimeBytes = 6;

constexpr bool is_dash(size_t at) { return at == 8 || at == 13 || at == 18 || at == 23; }

int hex_value(char digit) {
  if (digit >= '0' && digit <= '9') return digit - '0';
  if (digit >= 'a' && digit <= 'f') return digit - 'a' + 10;
  if (digit >= 'A' && digit <= 'F') return digit - 'A' + 10;
  return -1;
}

std::array<uint8_t, kTimeBytes> big_endian(uint64_t milliseconds) {
  std::array<uint8_t, kTimeBytes> out{};
  for (auto byte = out.rbegin(); byte != out.rend(); ++byte, milliseconds >>= 8) {
    *byte = static_cast<uint8_t>(milliseconds);
  }
  return out;
}

void mark_version(RecordId& id) {
  id.bytes[6] = static_cast<uint8_t>((id.bytes[6] & 0x0f) | 0x70);
  id.bytes[8] = static_cast<uint8_t>((id.bytes[8] & 0x3f) | 0x80);
}

// The next id as bytes, but for the marks: a carry goes over them.
void increment(RecordId& id, uint64_t by) {
  for (size_t i = id.bytes.size(); i-- > 0 && by > 0;) {
    const auto mask = static_cast<uint8_t>(i == 6 ? 0x0f : i == 8 ? 0x3f : 0xff);
    const uint64_t sum = (id.bytes[i] & mask) + by;
    id.bytes[i] = static_cast<uint8_t>(sum & mask);
    by = sum / (uint64_t{mask} + 1);
  }
  mark_version(id);
}

}  // namespace

std::optional<RecordId> RecordId::parse(std::string_view text) {
  if (text.size() != kTextBytes) return std::nullopt;
  RecordId id;
  size_t digits = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (is_dash(i)) {
      if (text[i] != '-') return std::nullopt;
      continue;
    }
    const int value = hex_value(text[i]);
    if (value < 0) return std::nullopt;
    uint8_t& byte = id.bytes[digits++ / 2];
    byte = static_cast<uint8_t>(byte << 4 | value);
  }
  RecordId marked = id;
  mark_version(marked);
  if (marked != id) return std::nullopt;
  return id;
}

std::string RecordId::text() const {
  std::string out;
  out.reserve(kTextBytes);
  for (const uint8_t byte : bytes) {
    if (is_dash(out.size())) out += '-';
    out += "0123456789abcdef"[byte >> 4];
    out += "0123456789abcdef"[byte & 15];
  }
  return out;
}

IdMaker::IdMaker() {
  std::random_device device;
  std::seed_seq seed{device(), device(), device(), device(), device(), device(), device(), device()};
  random_.seed(seed);
}

RecordId IdMaker::next(int64_t unix_milliseconds) {
  const auto time = big_endian(static_cast<uint64_t>(std::max<int64_t>(unix_milliseconds, 0)));
  const std::lock_guard lock(mutex_);
  if (std::ranges::lexicographical_compare(std::span(last_.bytes).first(kTimeBytes), time)) {
    std::ranges::copy(time, last_.bytes.begin());
    for (size_t i = kTimeBytes; i < last_.bytes.size(); ++i) last_.bytes[i] = static_cast<uint8_t>(random_());
    mark_version(last_);
  } else {
    // RFC 9562 section 6.2, method 2: a random step within the same millisecond, which the next id cannot be told from.
    increment(last_, 1 + (random_() >> 32));
  }
  return last_;
}

void IdMaker::pass(const RecordId& id) {
  const std::lock_guard lock(mutex_);
  last_ = std::max(last_, id);
}

}  // namespace kiln::store
