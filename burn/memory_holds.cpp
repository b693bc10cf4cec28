#include "burn/memory_holds.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>

#include "base/check.h"
#include "burn/background.h"

namespace kiln::burn {
namespace {

// Touched between two looks at what has changed: well under a millisecond of page faults.
constexpr uint64_t kStep = uint64_t{1} << 20;

uint64_t page_bytes() {
  static const auto bytes = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  return bytes;
}

std::byte* map(uint64_t bytes) {
  void* pages = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return pages == MAP_FAILED ? nullptr : static_cast<std::byte*>(pages);
}

// Neighbouring mappings become one in the kernel, and taking a piece out of it fails when there are too many already
// (munmap(2), ENOMEM): then the pages go, the addresses stay.
void unmap(std::byte* pages, uint64_t bytes) {
  if (::munmap(pages, bytes) != 0) static_cast<void>(::madvise(pages, bytes, MADV_DONTNEED));
}

// Not zero, since pages of zeros may be merged into one (KSM). Volatile, since nobody reads them.
void touch(std::byte* from, uint64_t bytes) {
  for (uint64_t at = 0; at < bytes; at += page_bytes()) {
    *static_cast<volatile std::byte*>(from + at) = std::byte{0x5a};
  }
}

}  // namespace

MemoryHolds::~MemoryHolds() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
}

std::expected<MemoryHolds::Hold, MemoryHolds::Refused> MemoryHolds::add(uint64_t bytes, Duration time, const Room& room,
                                                                        TimePoint now) {
  CHECK(bytes > 0);
  CHECK(bytes <= kBytesMax);
  CHECK(time > Duration(0));
  CHECK(time <= kTimeMax);
  bytes = (bytes + page_bytes() - 1) / page_bytes() * page_bytes();

  const std::lock_guard lock(mutex_);
  const auto lasts = [now](const Entry& entry) { return entry.hold.ends > now; };
  if (static_cast<size_t>(std::ranges::count_if(entries_, lasts)) >= kHoldsMax) {
    return std::unexpected(Refused{.why = Refused::Why::TooMany});
  }
  const uint64_t taken = kKeptFree + promised(now);
  const uint64_t all = room();
  const uint64_t left = all > taken ? all - taken : 0;
  if (bytes > left) return std::unexpected(Refused{.why = Refused::Why::NoRoom, .room = left});
  if (!thread_.joinable()) thread_ = start_background("kiln-memory", [this] { run(); });
  if (!thread_.joinable()) return std::unexpected(Refused{.why = Refused::Why::NoThread});

  entries_.push_back({.hold = {.id = next_id_++, .bytes = bytes, .time = time, .ends = now + time}});
  wake_.notify_one();
  return entries_.back().hold;
}

bool MemoryHolds::cancel(Id id, TimePoint now) {
  const std::lock_guard lock(mutex_);
  const auto entry = std::ranges::find_if(entries_, [id](const Entry& e) { return e.hold.id == id; });
  if (entry == entries_.end() || entry->hold.ends <= now) return false;
  entry->hold.ends = TimePoint::min();
  wake_.notify_one();
  return true;
}

std::vector<MemoryHolds::Hold> MemoryHolds::list(TimePoint now) const {
  const std::lock_guard lock(mutex_);
  std::vector<Hold> holds;
  for (const Entry& entry : entries_) {
    if (entry.hold.ends > now) holds.push_back(entry.hold);
  }
  return holds;
}

// Bytes that holds will still touch.
uint64_t MemoryHolds::promised(TimePoint now) const {
  uint64_t bytes = 0;
  for (const Entry& entry : entries_) {
    if (!entry.failed && entry.hold.ends > now) bytes += entry.hold.bytes - entry.hold.held;
  }
  return bytes;
}

// --- The thread ------------------------------------------------------------------------------------------------------

// False when the system has no thread to give: a limit on processes is the world's, not our mistake.
void MemoryHolds::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    if (give_back(lock)) continue;
    if (stopping_) return;
    if (!fill(lock)) rest(lock);
  }
}

// Unmaps one hold that has ended. False when there is none.
bool MemoryHolds::give_back(std::unique_lock<std::mutex>& lock) {
  const TimePoint now = std::chrono::steady_clock::now();
  const auto ended =
      std::ranges::find_if(entries_, [&](const Entry& entry) { return stopping_ || entry.hold.ends <= now; });
  if (ended == entries_.end()) return false;
  const Entry entry = *ended;
  entries_.erase(ended);
  lock.unlock();
  if (entry.pages != nullptr) unmap(entry.pages, entry.hold.bytes);
  held_.fetch_sub(entry.hold.held, std::memory_order_relaxed);
  lock.lock();
  return true;
}

// Touches a step of one hold. False when all are full.
bool MemoryHolds::fill(std::unique_lock<std::mutex>& lock) {
  const auto found = std::ranges::find_if(
      entries_, [](const Entry& entry) { return !entry.failed && entry.hold.held < entry.hold.bytes; });
  if (found == entries_.end()) return false;
  Entry& entry = *found;
  const uint64_t at = entry.hold.held;
  const uint64_t bytes = entry.hold.bytes;
  const uint64_t step = std::min(kStep, bytes - at);
  std::byte* pages = entry.pages;
  lock.unlock();
  if (pages == nullptr) pages = map(bytes);
  if (pages != nullptr) {
    touch(pages + at, step);
    held_.fetch_add(step, std::memory_order_relaxed);
  }
  lock.lock();
  entry.pages = pages;
  entry.failed = pages == nullptr;
  if (!entry.failed) entry.hold.held += step;
  return true;
}

// Until something changes or the next hold ends.
void MemoryHolds::rest(std::unique_lock<std::mutex>& lock) {
  const auto next = std::ranges::min_element(entries_, {}, [](const Entry& entry) { return entry.hold.ends; });
  if (next == entries_.end()) {
    wake_.wait(lock);
  } else {
    const TimePoint ends = next->hold.ends;
    wake_.wait_until(lock, ends);
  }
}

// --- Room ------------------------------------------------------------------------------------------------------------

uint64_t memory_room(std::optional<uint64_t> left, std::string_view meminfo) {
  constexpr std::string_view kName = "MemAvailable:";
  const size_t found = meminfo.find(kName);
  if (found == std::string_view::npos) return 0;
  meminfo.remove_prefix(found + kName.size());
  meminfo.remove_prefix(std::min(meminfo.find_first_not_of(' '), meminfo.size()));
  uint64_t kibibytes = 0;
  std::from_chars(meminfo.data(), meminfo.data() + meminfo.size(), kibibytes);
  const uint64_t available = kibibytes * 1024;
  return std::min(available, left.value_or(available));
}

}  // namespace kiln::burn
