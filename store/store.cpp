#include "store/store.h"

#include <time.h>

#include <algorithm>
#include <cerrno>
#include <iterator>

#include "base/check.h"

namespace kiln::store {

namespace {

std::chrono::nanoseconds thread_cpu_time() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
}

int64_t unix_milliseconds() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

constexpr const char* kGoingAway = "this pod is going away";

// A batch ends past this many bytes of data, in its questions and, at the most, in the pages asked for: whoever is in
// it waits for all of it, and all of it is in memory.
constexpr size_t kBatchBytesMax = 2 * 1024 * 1024;

constexpr size_t kMuchBytes = 256 * 1024;
constexpr std::chrono::seconds kRestAfter{1};

size_t bytes_of(const Answer& answer) {
  size_t bytes = answer.record.data.size();
  for (const Record& record : answer.page.records) bytes += record.data.size();
  return bytes;
}

size_t bytes_of(const Question& question) {
  constexpr size_t kFoundBytes = 16 * 1024;  // a guess: what is found is as large as it is
  switch (question.operation) {
    case Operation::List: return kPageBytesMax;
    case Operation::Find: return kFoundBytes;
    default: return question.data.size();
  }
}

}  // namespace

std::string_view operation_name(Operation operation) {
  switch (operation) {
    case Operation::Insert: return "insert";
    case Operation::Remove: return "remove";
    case Operation::Find: return "find";
    case Operation::List: return "list";
  }
  return {};
}

std::string_view outcome_name(Outcome outcome) {
  switch (outcome) {
    case Outcome::Done: return "done";
    case Outcome::NotFound: return "not_found";
    case Outcome::Unavailable: return "unavailable";
    case Outcome::Busy: return "busy";
  }
  return {};
}

void Untaken::wait(size_t bytes_max, const std::function<bool()>& leave) {
  std::unique_lock lock(mutex_);
  less_.wait(lock, [&] { return bytes_ <= bytes_max || leave(); });
}

void Untaken::wake() {
  const std::lock_guard lock(mutex_);
  less_.notify_all();
}

void Untaken::change(size_t bytes, Sign sign) {
  const std::lock_guard lock(mutex_);
  if (sign == Sign::More) {
    bytes_ += bytes;
  } else {
    CHECK(bytes_ >= bytes);
    bytes_ -= bytes;
    less_.notify_all();
  }
}

Store::Store(StoreOptions options) : database_(std::move(options.database)), options_(std::move(options)) {
  CHECK(database_ != nullptr);
  for (Lane* lane : {&changes_, &reads_}) lane->thread = std::thread([this, lane] { run(*lane); });
}

Store::~Store() {
  stop({});
  for (Lane* lane : {&changes_, &reads_}) lane->thread.join();
}

bool Store::stop(std::chrono::nanoseconds patience) {
  const Clock::time_point until = Clock::now() + patience;
  stopping_ = true;
  untaken_.wake();
  for (Lane* lane : {&changes_, &reads_}) {
    const std::lock_guard lock(lane->mutex);
    lane->wake.notify_all();
  }
  bool all_ended = true;
  for (Lane* lane : {&changes_, &reads_}) {
    std::unique_lock lock(lane->mutex);
    all_ended &= lane->wake.wait_until(lock, until, [lane] { return lane->ended; });
  }
  return all_ended;
}

// --- Any thread ------------------------------------------------------------------------------------------------------

std::optional<Answer> Store::submit(Question question, Done done) {
  Lane& lane = lane_of(question.operation);
  std::optional<Answer> refused;
  {
    const std::lock_guard lock(lane.mutex);
    refused = refuse(lane, question);
    if (!refused) {
      lane.queue_bytes += question.data.size();
      lane.queue.push_back({.question = std::move(question), .done = std::move(done), .submitted = Clock::now()});
      if (lane.queue.size() == 1) lane.wake.notify_all();
      return std::nullopt;
    }
  }
  count(question, *refused);
  return refused;
}

// The lane's mutex is held.
std::optional<Answer> Store::refuse(Lane& lane, const Question& question) const {
  if (stopping_) return Answer{.outcome = Outcome::Unavailable, .reason = kGoingAway};
  const bool makes_room = lane.full && question.operation == Operation::Remove;
  const bool refuses = lane.down && !makes_room;
  if (refuses && (lane.trying || Clock::now() < lane.try_at)) {
    return Answer{.outcome = Outcome::Unavailable, .reason = lane.reason};
  }
  if (lane.queue.size() >= options_.queue_max ||
      lane.queue_bytes + question.data.size() > options_.queue_bytes_max) {
    return Answer{.outcome = Outcome::Busy, .reason = "too many requests wait for the database already"};
  }
  if (refuses) lane.trying = true;
  return std::nullopt;
}

size_t Store::waiting() const {
  size_t total = 0;
  for (const Lane* lane : {&changes_, &reads_}) {
    const std::lock_guard lock(lane->mutex);
    total += lane->queue.size();
  }
  return total;
}

std::string Store::why_not() const {
  for (const Lane* lane : {&changes_, &reads_}) {
    const std::lock_guard lock(lane->mutex);
    if (lane->down) return lane->reason;
  }
  return {};
}

bool Store::available() const { return why_not().empty(); }

// --- A lane's thread -------------------------------------------------------------------------------------------------

void Store::run(Lane& lane) {
  std::chrono::nanoseconds spent{};
  const auto book = [&] {
    const std::chrono::nanoseconds now = thread_cpu_time();
    const std::chrono::nanoseconds step = now - std::exchange(spent, now);
    options_.spent(step);
    return step;
  };
  // So that what is wrong with the database is said at the start, and not to the first client.
  if (&lane == &changes_) {
    Batch early;
    note(lane, open(lane), early);
    finish(lane, early, book());
  }
  while (std::optional<Batch> batch = next_batch(lane)) {
    base::Result<void> performed = open(lane);
    if (performed) performed = perform(lane, *batch);
    note(lane, performed, *batch);
    finish(lane, *batch, book());
  }
  lane.session.reset();
  const std::lock_guard lock(lane.mutex);
  lane.ended = true;
  lane.wake.notify_all();
}

// The lane's mutex is held.
void Store::take_all(Lane& lane, Batch& batch) {
  std::ranges::move(lane.queue, std::back_inserter(batch));
  lane.queue.clear();
  lane.queue_bytes = 0;
}

void Store::fail(Batch& batch, const std::string& reason) {
  for (Job& job : batch) job.answer = Answer{.outcome = Outcome::Unavailable, .reason = reason};
}

// Waits for questions. Nothing when it is time to leave.
std::optional<Store::Batch> Store::next_batch(Lane& lane) {
  if (&lane == &reads_) untaken_.wait(options_.untaken_bytes_max, [this] { return stopping_.load(); });
  Batch batch;
  {
    std::unique_lock lock(lane.mutex);
    const auto has_work = [&] { return stopping_ || !lane.queue.empty(); };
    if (lane.gave_much && !lane.wake.wait_for(lock, kRestAfter, has_work)) {
      lane.gave_much = false;
      lock.unlock();
      options_.rest();
      lock.lock();
    }
    lane.wake.wait(lock, has_work);
    size_t bytes = 0;
    while (!stopping_ && !lane.queue.empty() && batch.size() < options_.batch_max && bytes < kBatchBytesMax) {
      const Question& question = lane.queue.front().question;
      bytes += bytes_of(question);
      lane.queue_bytes -= question.data.size();
      batch.push_back(std::move(lane.queue.front()));
      lane.queue.pop_front();
    }
    if (!stopping_) return batch;
    take_all(lane, batch);
  }
  fail(batch, kGoingAway);
  finish(lane, batch, {});
  return std::nullopt;
}

base::Result<void> Store::open(Lane& lane) {
  if (lane.session) return {};
  auto opened = database_->open_session(ids_);
  if (!opened) return std::unexpected(std::move(opened.error()));
  lane.session = std::move(*opened);
  return {};
}

base::Result<void> Store::perform(Lane& lane, Batch& batch) {
  lane.statistics.batches.observe(static_cast<double>(batch.size()));
  return &lane == &changes_ ? perform_changes(*lane.session, batch) : perform_reads(*lane.session, batch);
}

base::Result<void> Store::perform_changes(Session& session, Batch& batch) {
  const int64_t now = unix_milliseconds();
  std::vector<Change> changes;
  changes.reserve(batch.size());
  for (Job& job : batch) {
    if (job.question.operation == Operation::Insert) {
      changes.push_back({.kind = Change::Kind::Insert,
                         .record = {.id = ids_.next(now), .created_at = now, .data = std::move(job.question.data)}});
    } else {
      changes.push_back({.kind = Change::Kind::Remove, .record = {.id = job.question.id, .data = {}}});
    }
  }
  if (auto applied = session.apply(changes); !applied) return applied;
  for (size_t i = 0; i < batch.size(); ++i) {
    if (!changes[i].found) batch[i].answer.outcome = Outcome::NotFound;
    batch[i].answer.record = std::move(changes[i].record);
  }
  return {};
}

base::Result<void> Store::perform_reads(Session& session, Batch& batch) {
  std::vector<Lookup> lookups;
  for (const Job& job : batch) {
    if (job.question.operation == Operation::Find) lookups.push_back({.id = job.question.id});
  }
  if (!lookups.empty()) {
    if (auto found = session.find(lookups); !found) return found;
  }
  auto lookup = lookups.begin();
  for (Job& job : batch) {
    if (job.question.operation == Operation::Find) {
      if (lookup->record) {
        job.answer.record = std::move(*lookup->record);
        job.answer.untaken = Untaken::Share(untaken_, bytes_of(job.answer));
      } else {
        job.answer.outcome = Outcome::NotFound;
      }
      ++lookup;
    } else {
      auto page = session.page(job.question.page);
      if (!page) return std::unexpected(std::move(page.error()));
      job.answer.page = std::move(*page);
      job.answer.untaken = Untaken::Share(untaken_, bytes_of(job.answer));
    }
  }
  return {};
}

// What an attempt means for the questions to come. Those that wait join the failed batch: they would be refused now,
// and need not wait for another attempt. In one step, so that the question let through later is never among them.
void Store::note(Lane& lane, const base::Result<void>& performed, Batch& batch) {
  const Clock::time_point now = Clock::now();
  News news{.changes = &lane == &changes_, .available = performed.has_value(), .reason = {}};
  if (!performed) lane.session.reset();
  bool was_down = false;
  {
    const std::lock_guard lock(lane.mutex);
    // That something could be removed says nothing of the room for others.
    if (performed && lane.full && std::ranges::all_of(batch, is_remove)) return;
    was_down = std::exchange(lane.down, !performed);
    lane.full = !performed && performed.error().code == ENOSPC;
    lane.trying = false;
    if (performed) {
      news.outage = now - lane.down_since;
    } else {
      take_all(lane, batch);
      news.reason = lane.reason = performed.error().what;
      lane.try_at = now + options_.retry_after;
      if (!was_down) lane.down_since = now;
    }
  }
  if (!performed) fail(batch, news.reason);
  if (was_down == performed.has_value()) options_.tell(news);
}

void Store::finish(Lane& lane, Batch& batch, std::chrono::nanoseconds cpu) {
  const Clock::time_point now = Clock::now();
  const auto share = cpu / static_cast<std::chrono::nanoseconds::rep>(std::max<size_t>(batch.size(), 1));
  size_t bytes = 0;
  for (Job& job : batch) {
    bytes += bytes_of(job.answer);
    job.answer.cpu = share;
    count(job.question, job.answer);
    lane.statistics.took[static_cast<size_t>(job.question.operation)].observe(
        std::chrono::duration<double>(now - job.submitted).count());
    job.done(std::move(job.answer));
  }
  lane.gave_much |= bytes >= kMuchBytes;
}

}  // namespace kiln::store
