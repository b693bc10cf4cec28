// What is stored: a client's JSON text under an id that tells when it came.
#pragma once

#include <array>
#include <chrono>
#include <compare>
#include <cstdint>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <string_view>

namespace kiln::store {

// A UUID of version 7 (RFC 9562 section 5.7): 48 bits of Unix milliseconds first, then random ones, so that ids sort by
// time wherever they are kept, as bytes and as text, and replicas need not agree on anything.
struct RecordId {
  static constexpr size_t kTextBytes = 36;

  std::array<uint8_t, 16> bytes{};

  // Lower or upper case; nothing unless it is a UUID of version 7.
  static std::optional<RecordId> parse(std::string_view text);
  [[nodiscard]] std::string text() const;  // lower case

  friend auto operator<=>(const RecordId&, const RecordId&) = default;
};

struct Record {
  RecordId id;
  int64_t created_at = 0;  // Unix milliseconds
  std::string data;        // valid JSON, an object, byte for byte as it came
};

// Makes ids, each greater than all before, also when the clock is set back. Any thread.
class IdMaker {
 public:
  IdMaker();

  RecordId next(int64_t unix_milliseconds);

  // Ids to come are greater than `id`.
  void pass(const RecordId& id);

 private:
  std::mutex mutex_;
  std::mt19937_64 random_;
  RecordId last_;
};

}  // namespace kiln::store
