#include "load/client.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/check.h"

namespace kiln::load {

namespace {

using core::Connection;
using core::Duration;
using core::TimePoint;
using std::chrono::seconds;

constexpr Duration kLate = std::chrono::milliseconds(1);
constexpr seconds kStopGrace{1};

uint64_t microseconds(Duration duration) {
  return static_cast<uint64_t>(std::max(Duration::zero(), duration) / std::chrono::microseconds(1));
}

Failure failure_of(int error) {
  switch (error) {
    case ECONNREFUSED: return Failure::Refused;
    case ETIMEDOUT: return Failure::ConnectTimeout;
    default: return Failure::Unreachable;
  }
}

}  // namespace

Client::Client(ClientOptions options, SecondDone second_done)
    : options_(std::move(options)),
      second_done_(std::move(second_done)),
      schedule_(*options_.profile, options_.schedule),
      next_(schedule_.next()),
      ahead_(schedule_),
      connections_max_(options_.connections_max) {}

void Client::begin(core::Loop& loop) {
  loop_ = &loop;
  loop.schedule(options_.start + seconds(1), [this] { second_passed(); });
  // The last request is due at the end at the latest, and has the time of any other.
  loop.schedule(options_.start + options_.profile->duration() + options_.timeout, [this] { give_up(); });
  dispatch();
}

void Client::stop() {
  if (stopped_) return;
  stopped_ = loop_->engine().now();
  pull_due(*stopped_);
  for (; !due_.empty(); pull_due(*stopped_)) {
    due_.pop_front();
    fail(Failure::CutOff);
  }
  next_.reset();
  loop_->schedule(loop_->now() + kStopGrace, [this] { give_up(); });
  halt_when_done();
}

double Client::since_start(TimePoint when) const {
  return std::chrono::duration<double>(when - options_.start).count();
}

// --- Sending ---------------------------------------------------------------------------------------------------------

// When the next arrival is due.
TimePoint Client::pull() {
  const TimePoint due = options_.start + *next_;
  if (pulled_ == counted_) count_due(*next_);
  ++pulled_;
  next_ = schedule_.next();
  return due;
}

void Client::pull_due(TimePoint now) {
  while (next_ && options_.start + *next_ <= now && due_.size() < connections_max_) {
    const TimePoint due = pull();
    due_.push_back({.at = due, .seen_late = watching_ && now - due > kLate});
  }
}

void Client::dispatch() {
  const TimePoint now = loop_->engine().now();
  pull_due(now);
  while (!due_.empty()) {
    Connection* connection = take_idle();
    if (connection == nullptr) break;
    send(*connection, due_.front(), now);
    due_.pop_front();
    connection->resume();
    pull_due(now);
  }
  while (connecting_ < due_.size() && may_connect()) {
    ++connecting_;
    loop_->connect(options_.address, options_.connect_timeout);
  }
  waiting_for_ = due_.empty()                 ? Wait::Nothing
                 : connecting_ >= due_.size() ? Wait::Connect
                 : short_                     ? Wait::Descriptors
                                              : Wait::Connections;
  // With a backlog and no more connections to be had the next answer sends the next request.
  watching_ = due_.empty() || may_connect();
  if (!next_ || !watching_ || timer_armed_) return halt_when_done();
  timer_armed_ = true;
  loop_->schedule(options_.start + *next_, [this] {
    timer_armed_ = false;
    dispatch();
  });
}

// From inside a call about one connection others are left alone.
void Client::dispatch_soon() {
  if (std::exchange(dispatch_pending_, true)) return;
  loop_->schedule(loop_->now(), [this] {
    dispatch_pending_ = false;
    dispatch();
  });
}

Connection* Client::take_idle() {
  while (!idle_.empty()) {
    Connection* connection = loop_->find(idle_.back());
    idle_.pop_back();
    if (connection != nullptr && !session_of(*connection).last) return connection;  // else the server has ended it
  }
  return nullptr;
}

void Client::send(Connection& connection, const Due& due, TimePoint now) {
  Session& session = session_of(connection);
  CHECK(!session.busy);
  session.busy = true;
  session.last = session.expires <= now;
  session.due = due.at;
  session.sent = now;
  session.reader.expect(options_.method);
  connection.output() += session.last ? options_.last_request : options_.request;
  connection.set_deadline(now + options_.timeout);
  ++in_flight_;
  ++report_.sent;
  ++second_.sent;
  report_.send_delay.record(microseconds(now - due.at));
  if (now - due.at <= kLate) return;
  switch (due.seen_late ? Wait::Nothing : waiting_for_) {
    case Wait::Nothing: ++report_.late_by_client; break;
    case Wait::Connect: ++report_.late_for_connect; break;
    case Wait::Connections: ++report_.late_for_connections; break;
    case Wait::Descriptors: ++report_.late_for_descriptors; break;
  }
}

// --- Connections -----------------------------------------------------------------------------------------------------

Client::Session& Client::session_of(const Connection& connection) { return sessions_[connection.id().slot]; }

void Client::opened(Connection& connection) {
  const TimePoint now = loop_->engine().now();
  --connecting_;
  ++open_;
  ++report_.connections;
  const uint32_t slot = connection.id().slot;
  if (slot >= sessions_.size()) sessions_.resize(slot + 1);
  Session& session = sessions_[slot];
  session = {};
  session.expires = now + options_.keepalive_age;
  go_on(connection, now);
}

void Client::connect_failed(int error) {
  --connecting_;
  const bool ours = error == EMFILE || error == ENFILE || error == EADDRNOTAVAIL || error == ENOBUFS || error == ENOMEM;
  if (ours && open_ + connecting_ > 0) {
    connections_max_ = std::min(connections_max_, open_ + connecting_);  // until the next second
    short_ = true;
  } else if (!due_.empty()) {
    due_.pop_front();
    fail(failure_of(error));
  }
  dispatch_soon();
}

size_t Client::receive(Connection& connection, std::string_view input) {
  Session& session = session_of(connection);
  size_t taken = 0;
  for (;;) {
    const http::ResponseStep step = session.reader.next(input.substr(taken), head_);
    taken += step.consumed;
    switch (step.kind) {
      case http::ResponseStep::Kind::Head:
        session.status = head_.status;
        session.pod = pod_of(head_, session.pod);
        break;
      case http::ResponseStep::Kind::Data: break;
      case http::ResponseStep::Kind::End: answered(connection, session); break;
      case http::ResponseStep::Kind::Invalid:
        if (session.busy) {
          end_request(session);
          fail(Failure::Malformed);
        }
        connection.abort();
        return taken;
      case http::ResponseStep::Kind::NeedMore:
      case http::ResponseStep::Kind::Closed: return taken;
    }
  }
}

void Client::input_ended(Connection& connection) {
  Session& session = session_of(connection);
  if (session.reader.end_of_input().kind == http::ResponseStep::Kind::End) answered(connection, session);
  connection.abort();
}

void Client::expired(Connection& connection) {
  Session& session = session_of(connection);
  if (session.busy) {
    end_request(session);
    fail(Failure::Timeout);
  }
  connection.abort();
}

void Client::closed(Connection& connection) {
  Session& session = session_of(connection);
  --open_;
  if (session.busy) {
    end_request(session);
    fail(without_answer(session));
  }
  dispatch_soon();
}

// --- Answers ---------------------------------------------------------------------------------------------------------

void Client::end_request(Session& session) {
  session.busy = false;
  --in_flight_;
}

// Why a request has come to nothing with its connection.
Failure Client::without_answer(const Session& session) const {
  if (over_) return stopped_ ? Failure::CutOff : Failure::Timeout;
  // A request that the server does not read ends the connection by the loop's own deadline.
  return loop_->now() >= session.sent + options_.timeout ? Failure::Timeout : Failure::Closed;
}

void Client::fail(Failure failure) {
  ++report_.failures[static_cast<size_t>(failure)];
  ++second_.errors;
}

void Client::answered(Connection& connection, Session& session) {
  const TimePoint now = loop_->engine().now();
  end_request(session);
  connection.set_deadline(core::TimerWheel::kNever);
  const uint64_t latency = microseconds(now - session.due);
  ++report_.answers;
  ++report_.statuses[session.status];
  report_.answer_bytes += session.reader.body_bytes();
  report_.latency.record(latency);
  report_.service.record(microseconds(now - session.sent));
  report_.seconds = since_start(now);
  ++second_.answers;
  second_.errors += session.status >= 400;
  second_latency_.record(latency);
  PodReport& pod = report_.pods[session.pod];
  if (pod.answers == 0) pod.first_seen = report_.seconds;
  ++pod.answers;
  pod.errors += session.status >= 400;
  pod.last_seen = report_.seconds;
  pod.latency.record(latency);
  if (report_.seconds - pod.first_seen < kEarlySeconds) pod.early.record(latency);
  ++second_answers_[session.pod];

  if (session.reader.can_expect() && !session.last) return go_on(connection, now);
  // The server ends it: whoever closes first has to remember the connection for a minute (RFC 9293 section 3.6.1), and
  // runs out of ports.
  session.last = true;
  connection.set_deadline(now + kStopGrace);
  if (!next_) dispatch_soon();
}

// What a connection does next: the next request, if it may carry one and one is due.
void Client::go_on(Connection& connection, TimePoint now) {
  pull_due(now);
  if (due_.empty()) {
    idle_.push_back(connection.id());
    if (!next_) dispatch_soon();
    return;
  }
  send(connection, due_.front(), now);
  due_.pop_front();
  pull_due(now);
  if (due_.empty()) {
    dispatch_soon();  // the schedule's timer is to be set again
  } else if (connecting_ < due_.size() && may_connect()) {
    dispatch_soon();
  }
}

size_t Client::pod_of(const http::ResponseHead& head, size_t guess) {
  const auto pod = head.find("X-Pod-Name");
  const auto node = head.find("X-Node-Name");
  const std::string_view pod_name = pod.value_or("(not said)").substr(0, kNameCharactersMax);
  const std::string_view node_name = node.value_or("").substr(0, kNameCharactersMax);
  if (guess < names_.size() && names_[guess].pod == pod_name && names_[guess].node == node_name) return guess;
  std::string key(pod_name);
  key += '\n';
  key += node_name;
  if (const auto known = pods_.find(key); known != pods_.end()) return known->second;
  if (others_) return *others_;
  const size_t index = report_.pods.size();
  PodReport& added = report_.pods.emplace_back();
  second_answers_.resize(index + 1);
  if (index == kPodsMax) {
    added.pod = kOtherPods;
    others_ = index;
    return index;
  }
  pods_.emplace(std::move(key), index);
  names_.push_back({std::string(pod_name), std::string(node_name)});
  added.pod = printable(pod_name);
  added.node = printable(node_name);
  return index;
}

// --- Time ------------------------------------------------------------------------------------------------------------

void Client::second_passed() {
  if (std::exchange(short_, false)) {
    connections_max_ = options_.connections_max;
    dispatch_soon();
  }
  const auto end_of_second = [this] { return options_.start + seconds(report_.timeline.size() + 1); };
  do finish_second();
  while (end_of_second() <= loop_->now());
  loop_->schedule(end_of_second(), [this] { second_passed(); });
}

// An arrival at the very end of a second belongs to it.
void Client::count_due(profile::Time when) {
  const auto second = static_cast<size_t>(std::max(when - profile::Time(1), profile::Time(0)) / seconds(1));
  if (second >= due_in_second_.size()) due_in_second_.resize(second + 1);
  ++due_in_second_[second];
  ++counted_;
}

void Client::finish_second() {
  const uint64_t index = report_.timeline.size();
  const profile::Time until = seconds(index + 1);
  if (next_ && *next_ <= until) {
    if (counted_ == pulled_) {
      ahead_ = schedule_;
      next_ahead_ = next_;
    }
    for (; next_ahead_ && *next_ahead_ <= until; next_ahead_ = ahead_.next()) count_due(*next_ahead_);
  }
  if (index < due_in_second_.size()) second_.due = due_in_second_[index];
  report_.due += second_.due;
  second_.p50_us = static_cast<uint32_t>(second_latency_.value_at_percentile(50));
  second_.p99_us = static_cast<uint32_t>(second_latency_.value_at_percentile(99));
  for (size_t i = 0; i < second_answers_.size(); ++i) {
    if (second_answers_[i] > 0) second_.pods[report_.pods[i].pod] += second_answers_[i];
    second_answers_[i] = 0;
  }
  report_.timeline.push_back(second_);
  second_done_(index, second_);
  second_ = {};
  second_latency_.reset();
}

Report Client::take_report() {
  // The rest of the last second.
  while (report_.timeline.size() < due_in_second_.size() || second_.sent > 0 || second_.answers > 0 ||
         second_.errors > 0) {
    finish_second();
  }
  const profile::Time asked = stopped_ ? *stopped_ - options_.start : options_.profile->duration();
  report_.asked_seconds =
      std::chrono::duration<double>(std::clamp(asked, profile::Time(0), options_.profile->duration())).count();
  // Heads whose answers never became whole.
  std::erase_if(report_.pods, [](const PodReport& pod) { return pod.answers == 0; });
  return std::move(report_);
}

void Client::halt_when_done() {
  if (next_ || !due_.empty() || in_flight_ > 0 || dispatch_pending_) return;
  loop_->halt();
}

// The end, whatever is still open. What was due and is neither answered nor failed by now will not be.
void Client::give_up() {
  over_ = true;
  while (next_) {
    pull();
    fail(Failure::Unsent);
  }
  for (; !due_.empty(); due_.pop_front()) fail(Failure::Unsent);
  loop_->halt();
}

}  // namespace kiln::load
