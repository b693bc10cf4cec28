#include "store/memory.h"

#include <iterator>
#include <map>
#include <mutex>
#include <utility>

namespace kiln::store {

namespace {

class Memory final : public Database {
 public:
  explicit Memory(const MemoryOptions& options) : options_(options) {}

  [[nodiscard]] std::string_view name() const override { return "memory"; }
  [[nodiscard]] base::Result<std::unique_ptr<Session>> open_session(IdMaker& ids) override;

  void apply(std::span<Change> changes) {
    const std::lock_guard lock(mutex_);
    for (Change& change : changes) {
      if (change.kind == Change::Kind::Insert) {
        bytes_ += bytes_of(change.record);
        records_.emplace(change.record.id, change.record);
      } else {
        const auto at = records_.find(change.record.id);
        change.found = at != records_.end();
        if (change.found) erase(at);
      }
    }
    while (bytes_ > options_.bytes_max && records_.size() > 1) erase(records_.begin());
  }

  void find(std::span<Lookup> lookups) {
    const std::lock_guard lock(mutex_);
    for (Lookup& lookup : lookups) {
      const auto at = records_.find(lookup.id);
      if (at != records_.end()) lookup.record = at->second;
    }
  }

  Page page(const PageRequest& request) {
    Page page;
    size_t bytes = 0;
    const std::lock_guard lock(mutex_);
    auto at = request.before ? records_.lower_bound(*request.before) : records_.end();
    while (at != records_.begin()) {
      if (page.records.size() == request.count_max || bytes > kPageBytesMax) {
        page.more = true;
        break;
      }
      --at;
      bytes += at->second.data.size();
      page.records.push_back(at->second);
    }
    return page;
  }

 private:
  using Records = std::map<RecordId, Record>;

  static size_t bytes_of(const Record& record) { return record.data.size() + kRecordBytes; }

  void erase(Records::iterator at) {
    bytes_ -= bytes_of(at->second);
    records_.erase(at);
  }

  const MemoryOptions options_;
  std::mutex mutex_;
  Records records_;
  size_t bytes_ = 0;
};

class MemorySession final : public Session {
 public:
  explicit MemorySession(Memory& memory) : memory_(memory) {}

  base::Result<void> apply(std::span<Change> changes) override {
    memory_.apply(changes);
    return {};
  }
  base::Result<void> find(std::span<Lookup> lookups) override {
    memory_.find(lookups);
    return {};
  }
  base::Result<Page> page(const PageRequest& request) override { return memory_.page(request); }

 private:
  Memory& memory_;
};

base::Result<std::unique_ptr<Session>> Memory::open_session(IdMaker& /*ids*/) {
  return std::make_unique<MemorySession>(*this);
}

}  // namespace

std::unique_ptr<Database> open_memory(const MemoryOptions& options) { return std::make_unique<Memory>(options); }

}  // namespace kiln::store
