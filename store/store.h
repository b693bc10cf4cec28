// The records, for the loops: questions go in from any thread, answers come back later on a thread of the store, which
// hands them on. Nothing here blocks its caller.
//
//   submit() --> queue of the lane --> all that waits, as one batch --> a session of the database --> each `done`
//
// There are two lanes, changes and reads, each a thread with a session of its own, so that a read does not wait for a
// disk. While one batch is being made durable the next gathers: the more wait, the more share one synchronisation.
//
// A lane whose session fails is *down*: questions are refused at once with the reason, and once a second one of them is
// let through to try again. So a database that is gone costs nothing but answers, and is back with the first question
// a second after it is there. One that is full is down for who inserts; who removes makes room, and is let through.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "base/histogram.h"
#include "store/database.h"

namespace kiln::store {

enum class Operation : uint8_t { Insert, Remove, Find, List };
inline constexpr size_t kOperations = 4;
inline bool is_change(Operation operation) { return operation == Operation::Insert || operation == Operation::Remove; }
std::string_view operation_name(Operation operation);

enum class Outcome : uint8_t {
  Done,
  NotFound,     // of Find and Remove
  Unavailable,  // the database is; nothing was stored as far as anybody knows
  Busy,         // the queue is full; nothing was tried
};
inline constexpr size_t kOutcomes = 4;
std::string_view outcome_name(Outcome outcome);

struct Question {
  Operation operation = Operation::List;
  RecordId id{};           // of Find and Remove
  std::string data = {};   // of Insert
  PageRequest page = {};   // of List
};

// What answers take that nobody has dealt with yet. Past a bound the reads wait: a page is as large as a thousand
// questions for it, and the loops may be slower than the database.
class Untaken {
 public:
  // A part of it, until it is destroyed.
  class Share {
   public:
    Share() = default;
    Share(Untaken& of, size_t bytes) : of_(&of), bytes_(bytes) { of.change(bytes, Sign::More); }
    Share(Share&& other) noexcept : of_(std::exchange(other.of_, nullptr)), bytes_(other.bytes_) {}
    Share& operator=(Share&& other) noexcept {
      std::swap(of_, other.of_);
      std::swap(bytes_, other.bytes_);
      return *this;
    }
    ~Share() {
      if (of_ != nullptr) of_->change(bytes_, Sign::Less);
    }

   private:
    Untaken* of_ = nullptr;
    size_t bytes_ = 0;
  };

  // Waits until it is at most `bytes_max`, or `leave` says true; wake() makes it look again.
  void wait(size_t bytes_max, const std::function<bool()>& leave);
  void wake();

 private:
  enum class Sign : uint8_t { More, Less };
  void change(size_t bytes, Sign sign);

  std::mutex mutex_;
  std::condition_variable less_;
  size_t bytes_ = 0;
};

struct Answer {
  Outcome outcome = Outcome::Done;
  std::string reason = {};          // of Unavailable and Busy, for the client
  Record record = {};               // of Insert and Find
  Page page = {};                   // of List
  std::chrono::nanoseconds cpu{};   // this question's share of what the store's thread spent
  Untaken::Share untaken = {};      // to be destroyed, at the latest before the store is
};

// What the log is told, on a thread of the store: once when it fails, once when it is back.
struct News {
  bool changes = true;    // of the lane of changes; false: of reads
  bool available = true;  // from now on
  std::string reason;     // why not
  std::chrono::nanoseconds outage{};  // that is over now
};

struct StoreOptions {
  std::unique_ptr<Database> database;
  std::function<void(const News&)> tell = [](const News&) {};
  // CPU time that a thread of the store has spent, in pieces; on that thread.
  std::function<void(std::chrono::nanoseconds)> spent = [](std::chrono::nanoseconds) {};
  // On a thread of the store that handed out much, and then had nothing to do for a second.
  std::function<void()> rest = [] {};
  size_t queue_max = 4096;                    // questions of a lane
  size_t queue_bytes_max = 16 * 1024 * 1024;  // of data in them
  size_t batch_max = 512;
  size_t untaken_bytes_max = 4 * 1024 * 1024;  // of the reads' answers
  std::chrono::nanoseconds retry_after = std::chrono::seconds(1);
};

// What happened so far; any thread may read.
struct LaneStatistics {
  static constexpr std::array<double, 13> kSeconds{0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01,
                                                   0.025,  0.05,    0.1,    0.5,   1,      5};
  static constexpr std::array<double, 10> kBatches{1, 2, 4, 8, 16, 32, 64, 128, 256, 512};
  using Seconds = base::Histogram<kSeconds.size()>;

  // From submit() to the answer, of what was not refused at once.
  std::array<Seconds, kOperations> took{Seconds(kSeconds), Seconds(kSeconds), Seconds(kSeconds), Seconds(kSeconds)};
  base::Histogram<kBatches.size()> batches{kBatches};  // questions a batch
};

class Store {
 public:
  using Done = std::move_only_function<void(Answer)>;

  explicit Store(StoreOptions options);
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;
  ~Store();  // joins

  // Any thread. Nothing: `done` is called exactly once, later, on a thread of the store. Otherwise that is the answer
  // at once, and `done` is never called.
  std::optional<Answer> submit(Question question, Done done);

  // Ends what is under way, answers the rest with Unavailable, and waits for it, at most `patience`. False when a
  // database still holds a thread then: whoever destroys the store would wait for that.
  bool stop(std::chrono::nanoseconds patience);

  // Any thread.
  [[nodiscard]] std::string_view database_name() const { return database_->name(); }
  [[nodiscard]] size_t waiting() const;
  [[nodiscard]] bool available() const;        // true when neither lane is down
  [[nodiscard]] std::string why_not() const;  // empty when it is
  [[nodiscard]] uint64_t count(Operation operation, Outcome outcome) const {
    return counts_[static_cast<size_t>(operation)][static_cast<size_t>(outcome)].load(std::memory_order_relaxed);
  }
  [[nodiscard]] const LaneStatistics::Seconds& took(Operation operation) const {
    return lane_of(operation).statistics.took[static_cast<size_t>(operation)];
  }
  [[nodiscard]] const LaneStatistics& changes() const { return changes_.statistics; }
  [[nodiscard]] const LaneStatistics& reads() const { return reads_.statistics; }

 private:
  using Clock = std::chrono::steady_clock;

  struct Job {
    Question question;
    Done done;
    Clock::time_point submitted;
    Answer answer = {};
  };
  using Batch = std::vector<Job>;

  struct Lane {
    mutable std::mutex mutex;
    std::condition_variable wake;
    std::deque<Job> queue;
    size_t queue_bytes = 0;
    bool down = false;
    bool full = false;    // true while down for want of room
    bool trying = false;  // true while down and one question is on its way
    bool ended = false;   // true when its thread has left
    std::string reason;   // while down
    Clock::time_point down_since{}, try_at{};
    std::unique_ptr<Session> session;  // its thread's
    bool gave_much = false;            // its thread's, as well: since the last rest
    LaneStatistics statistics;
    std::thread thread;
  };

  [[nodiscard]] Lane& lane_of(Operation operation) { return is_change(operation) ? changes_ : reads_; }
  [[nodiscard]] const Lane& lane_of(Operation operation) const { return is_change(operation) ? changes_ : reads_; }
  std::optional<Answer> refuse(Lane& lane, const Question& question) const;
  void run(Lane& lane);
  [[nodiscard]] std::optional<Batch> next_batch(Lane& lane);
  [[nodiscard]] base::Result<void> open(Lane& lane);
  [[nodiscard]] base::Result<void> perform(Lane& lane, Batch& batch);
  [[nodiscard]] base::Result<void> perform_changes(Session& session, Batch& batch);
  [[nodiscard]] base::Result<void> perform_reads(Session& session, Batch& batch);
  void note(Lane& lane, const base::Result<void>& performed, Batch& batch);
  static bool is_remove(const Job& job) { return job.question.operation == Operation::Remove; }
  static void take_all(Lane& lane, Batch& batch);
  static void fail(Batch& batch, const std::string& reason);
  void finish(Lane& lane, Batch& batch, std::chrono::nanoseconds cpu);
  void count(const Question& question, const Answer& answer) {
    counts_[static_cast<size_t>(question.operation)][static_cast<size_t>(answer.outcome)].fetch_add(
        1, std::memory_order_relaxed);
  }

  const std::unique_ptr<Database> database_;
  const StoreOptions options_;
  IdMaker ids_;
  std::atomic<bool> stopping_{false};
  Untaken untaken_;
  std::array<std::array<std::atomic<uint64_t>, kOutcomes>, kOperations> counts_{};
  Lane changes_, reads_;
};

}  // namespace kiln::store
