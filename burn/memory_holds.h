// Memory that somebody wants resident, and for how long. One thread of its own maps, touches and unmaps the pages, so
// that nobody else waits for page faults; it starts with the first hold, runs at nice 19, and sleeps while there is
// nothing to do. Any thread may call.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <expected>
#include <functional>
#include <mutex>
#include <optional>
#include <string_view>
#include <thread>
#include <vector>

namespace kiln::burn {

class MemoryHolds {
 public:
  using Duration = std::chrono::nanoseconds;
  using TimePoint = std::chrono::steady_clock::time_point;
  using Id = uint64_t;

  static constexpr size_t kHoldsMax = 100;
  static constexpr Duration kTimeMax = std::chrono::hours(24);
  static constexpr uint64_t kBytesMax = uint64_t{1} << 47;  // of one hold: an address space
  static constexpr uint64_t kKeptFree = uint64_t{16} << 20;

  struct Hold {
    Id id = 0;
    uint64_t bytes = 0;  // whole pages
    uint64_t held = 0;   // of them: touched so far. Stays below when the kernel gives no more.
    Duration time{};
    TimePoint ends;
  };

  struct Refused {
    enum class Why : uint8_t { TooMany, NoRoom, NoThread };
    Why why;
    uint64_t room = 0;  // NoRoom: bytes that a hold may have now
  };

  // How many bytes may become resident from now on. Asked after what is promised and not yet touched was added up: a
  // page touched in between counts twice, never not at all.
  using Room = std::function<uint64_t()>;

  MemoryHolds() = default;
  MemoryHolds(const MemoryHolds&) = delete;
  MemoryHolds& operator=(const MemoryHolds&) = delete;
  ~MemoryHolds();  // gives everything back and joins the thread

  // 0 < `bytes` <= kBytesMax, rounded up to whole pages; 0 < `time` <= kTimeMax. kKeptFree of the room stay free.
  std::expected<Hold, Refused> add(uint64_t bytes, Duration time, const Room& room, TimePoint now);
  // False when there is none of that id (any more). The memory is given back soon after.
  bool cancel(Id id, TimePoint now);
  // By rising id. What has ended is not in it.
  [[nodiscard]] std::vector<Hold> list(TimePoint now) const;

  // Bytes touched and not yet given back.
  [[nodiscard]] uint64_t held() const { return held_.load(std::memory_order_relaxed); }

 private:
  struct Entry {
    Hold hold;
    std::byte* pages = nullptr;  // the thread's; nothing until mapped
    bool failed = false;         // true when the kernel would not map it
  };

  [[nodiscard]] uint64_t promised(TimePoint now) const;
  void run();
  bool give_back(std::unique_lock<std::mutex>& lock);
  bool fill(std::unique_lock<std::mutex>& lock);
  void rest(std::unique_lock<std::mutex>& lock);

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Entry> entries_;  // by rising id; the thread alone removes, so that an entry it works on stays in place
  Id next_id_ = 1;
  bool stopping_ = false;  // true from the destructor on
  std::atomic<uint64_t> held_{0};
  std::thread thread_;
};

// The room for holds: what is `left` below the limit of the group, where there is one, but no more than the machine
// has. `meminfo` is the text of /proc/meminfo (proc(5)); nothing is known to be free when it does not tell.
uint64_t memory_room(std::optional<uint64_t> left, std::string_view meminfo);

}  // namespace kiln::burn
