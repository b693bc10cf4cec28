// One thread's part of a load: sends its arrivals over connections of its own, one request at a time on each, and notes
// what comes back.
//
// Open loop: a request is due when the schedule says so, whatever the server does. Then it goes out on an idle
// connection, the one used last; where none is idle another is made, up to the limit; else it waits, and its latency
// counts from when it was due. No request is dropped: what has no connection by the end is a failure like any other.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/loop.h"
#include "http/response_reader.h"
#include "load/report.h"
#include "profile/schedule.h"

namespace kiln::load {

struct ClientOptions {
  const profile::Profile* profile = nullptr;  // outlives the client
  profile::ScheduleOptions schedule;
  core::SocketAddress address;
  std::string request;       // as it is sent, the same each time
  std::string last_request;  // the same, but asks the server to end the connection
  http::Method method = http::Method::Get;
  uint32_t connections_max = 1000;
  core::Duration keepalive_age = std::chrono::seconds(10);  // older ones end with their next request; 0: each does
  core::Duration timeout = std::chrono::seconds(10);        // of an answer, from when its request was sent
  core::Duration connect_timeout = std::chrono::seconds(5);
  core::TimePoint start;
};

class Client final : public core::Protocol {
 public:
  // `second_done` is called on the loop's thread after each second of the schedule, with its number.
  using SecondDone = std::function<void(uint64_t index, const SecondReport& second)>;
  Client(ClientOptions options, SecondDone second_done);

  // On the thread that will run the loop, before it runs; the loop halts when all is done.
  void begin(core::Loop& loop);
  // Sends nothing more, and gives what is on its way a second; what has no answer then is cut off.
  void stop();

  // After the loop has run: the counts and histograms, not what was asked.
  Report take_report();

  void turn_began(core::TimePoint) override {}
  void opened(core::Connection& connection) override;
  void connect_failed(int error) override;
  size_t receive(core::Connection& connection, std::string_view input) override;
  void input_ended(core::Connection& connection) override;
  void expired(core::Connection& connection) override;
  size_t held_bytes(const core::Connection&) const override { return 0; }
  void shed(core::Connection& connection) override { connection.abort(); }
  void closed(core::Connection& connection) override;

 private:
  struct Session {
    http::ResponseReader reader{http::kResponseLimits};
    core::TimePoint expires;
    core::TimePoint due;
    core::TimePoint sent;
    int status = 0;
    size_t pod = 0;     // index among the pods; of its last answer
    bool busy = false;  // a request is under way
    bool last = false;  // it is the connection's last
  };

  struct Due {
    core::TimePoint at;
    bool seen_late = false;  // true when nothing but this client kept it from being seen in time
  };

  // What a request that has found no idle connection waits for.
  enum class Wait : uint8_t {
    Nothing,
    Connect,      // the one that is being made for it
    Connections,  // an answer: there are as many connections as there may be
    Descriptors,  // an answer: this machine gives no more connections
  };

  struct Names {
    std::string pod, node;  // as they came, unlike those in the report
  };

  core::TimePoint pull();
  void pull_due(core::TimePoint now);
  void count_due(profile::Time when);
  void dispatch();
  void dispatch_soon();
  [[nodiscard]] core::Connection* take_idle();
  [[nodiscard]] bool may_connect() const { return open_ + connecting_ < connections_max_; }
  void send(core::Connection& connection, const Due& due, core::TimePoint now);
  void answered(core::Connection& connection, Session& session);
  void go_on(core::Connection& connection, core::TimePoint now);
  void fail(Failure failure);
  [[nodiscard]] Failure without_answer(const Session& session) const;
  void end_request(Session& session);
  size_t pod_of(const http::ResponseHead& head, size_t guess);
  void finish_second();
  void second_passed();
  void halt_when_done();
  void give_up();
  [[nodiscard]] double since_start(core::TimePoint when) const;
  Session& session_of(const core::Connection& connection);

  const ClientOptions options_;
  const SecondDone second_done_;
  core::Loop* loop_ = nullptr;
  profile::Schedule schedule_;
  std::optional<profile::Time> next_;
  uint64_t pulled_ = 0;
  // What was due by when, however far behind we are: each arrival is counted when it is pulled, or ahead of that by a
  // copy of the schedule when its second is over.
  uint64_t counted_ = 0;  // never less than pulled_
  profile::Schedule ahead_;
  std::optional<profile::Time> next_ahead_;
  std::vector<uint64_t> due_in_second_;
  std::deque<Due> due_;  // pulled, not sent; no more of them than there may be connections
  Wait waiting_for_ = Wait::Nothing;
  bool watching_ = true;  // true when the next arrival is looked for at its time, and not at the next answer
  bool timer_armed_ = false;
  bool dispatch_pending_ = false;
  std::optional<core::TimePoint> stopped_;  // when, by stop()
  bool over_ = false;                       // give_up() was called
  uint32_t connections_max_;  // of the options, or as many as this machine gave lately
  bool short_ = false;        // true when it is the latter
  uint32_t open_ = 0;
  uint32_t connecting_ = 0;
  uint64_t in_flight_ = 0;
  std::vector<core::ConnectionId> idle_;
  std::vector<Session> sessions_;  // by slot
  http::ResponseHead head_;
  Report report_;
  std::vector<Names> names_;                        // of report_.pods
  std::unordered_map<std::string, size_t> pods_;    // pod, line end, node: index
  std::optional<size_t> others_;                    // index, once there are too many names
  std::vector<uint64_t> second_answers_;            // of each pod in this second
  SecondReport second_;
  base::HdrHistogram second_latency_ = latency_histogram();
};

}  // namespace kiln::load
