#include "load/client.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/fake_engine.h"
#include "profile/parse.h"

namespace kiln::load {
namespace {

using namespace std::chrono_literals;

constexpr int kSocket = 1'000'000;
constexpr const char* kRequest = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
constexpr const char* kAnswer = "HTTP/1.1 204 No Content\r\nX-Pod-Name: a\r\n\r\n";

// A client of ten requests in a second, due at 50 ms, 150 ms and so on, over a fake engine.
struct Stage {
  explicit Stage(uint32_t connections_max, const char* text = "10@1s") : profile(*profile::parse_profile(text, {})) {
    auto owned = std::make_unique<core::FakeEngine>();
    engine = owned.get();
    engine->next_socket(kSocket);
    start = engine->now();
    client = std::make_unique<Client>(ClientOptions{.profile = &profile,
                                                    .schedule = {},
                                                    .address = {},
                                                    .request = kRequest,
                                                    .last_request = "the last",
                                                    .connections_max = connections_max,
                                                    .start = start},
                                      [this](uint64_t, const SecondReport&) { ++seconds_told; });
    auto mailbox = core::Mailbox::open();
    EXPECT_TRUE(mailbox);
    loop = std::make_unique<core::Loop>(std::move(owned), std::move(*mailbox), *client, core::LoopOptions{});
    client->begin(*loop);
  }

  void at(core::Duration time) {
    engine->advance(start + time - engine->now());
    turns();
  }

  void turns() {
    for (int i = 0; i < 3; ++i) loop->turn();
  }

  [[nodiscard]] std::string under_way(int fd) {
    const auto& sending = engine->descriptor(fd).sending;
    return sending ? sending->copy : "";
  }

  void connect(int fd) {
    engine->connects(fd, 0);
    turns();
  }

  void answer(int fd) {
    engine->sends(fd);
    turns();
    engine->receives(fd, kAnswer);
    turns();
  }

  // What is still open ends with the loop.
  Report finish() {
    loop->halt();
    for (const int fd : {kSocket, kSocket + 1, kSocket + 2}) engine->everything_ends(fd, -ECONNRESET, -ECONNRESET);
    turns();
    EXPECT_EQ(engine->violations(), std::vector<std::string>{});
    return client->take_report();
  }

  profile::Profile profile;
  core::FakeEngine* engine = nullptr;
  core::TimePoint start;
  uint64_t seconds_told = 0;
  std::unique_ptr<Client> client;
  std::unique_ptr<core::Loop> loop;
};

TEST(Client, SendsWhenARequestIsDueAndCountsFromThen) {
  Stage stage(1);
  stage.at(49ms);
  EXPECT_FALSE(stage.engine->descriptor(kSocket).connecting) << "nothing is due";
  stage.at(50ms);
  ASSERT_TRUE(stage.engine->descriptor(kSocket).connecting);
  stage.connect(kSocket);
  EXPECT_EQ(stage.under_way(kSocket), kRequest);
  stage.at(70ms);
  stage.answer(kSocket);
  EXPECT_EQ(stage.under_way(kSocket), "") << "the next is due at 150 ms";

  // Those of 150, 250 and 350 ms, of which the first is answered at 400 ms.
  for (const auto time : {150ms, 250ms, 350ms, 400ms}) stage.at(time);
  EXPECT_EQ(stage.under_way(kSocket), kRequest);
  for (int i = 0; i < 3; ++i) stage.answer(kSocket);
  stage.client->stop();
  const Report report = stage.finish();
  EXPECT_EQ(report.due, 4U);
  EXPECT_EQ(report.answers, 4U);
  EXPECT_EQ(report.errors(), 0U);
  EXPECT_EQ(report.connections, 1U);
  EXPECT_EQ(report.late_for_connections, 2U);
  EXPECT_EQ(report.late_by_client, 0U);
  EXPECT_NEAR(static_cast<double>(report.latency.value_at_percentile(100)), 250'000, 250);
  EXPECT_NEAR(static_cast<double>(report.latency.value_at_percentile(25)), 20'000, 20);
  EXPECT_NEAR(static_cast<double>(report.send_delay.value_at_percentile(100)), 150'000, 150);
  EXPECT_EQ(report.service.value_at_percentile(0), 0U) << "what waited longest was answered at once";
}

TEST(Client, MakesAConnectionForEachRequestThatFindsNone) {
  Stage stage(10);
  stage.at(50ms);
  ASSERT_TRUE(stage.engine->descriptor(kSocket).connecting);
  stage.engine->next_socket(kSocket + 1);
  stage.at(150ms);
  ASSERT_TRUE(stage.engine->descriptor(kSocket + 1).connecting) << "the first is not made yet";
  stage.connect(kSocket + 1);
  stage.connect(kSocket);
  EXPECT_EQ(stage.under_way(kSocket), kRequest);
  EXPECT_EQ(stage.under_way(kSocket + 1), kRequest);
  stage.engine->next_socket(kSocket + 2);
  stage.at(250ms);
  EXPECT_TRUE(stage.engine->descriptor(kSocket + 2).connecting) << "the others are busy";
  stage.connect(kSocket + 2);
  for (int i = 0; i < 3; ++i) stage.answer(kSocket + i);
  stage.client->stop();
  const Report report = stage.finish();
  EXPECT_EQ(report.connections, 3U);
  EXPECT_EQ(report.answers, 3U);
}

TEST(Client, MakesConnectionsForWhatCameDueInOneTurn) {
  Stage stage(10);
  stage.at(50ms);
  stage.engine->next_socket(kSocket + 1);
  stage.engine->connects(kSocket, 0);
  stage.at(250ms);  // with what opens the first
  EXPECT_EQ(stage.under_way(kSocket), kRequest);
  EXPECT_TRUE(stage.engine->descriptor(kSocket + 1).connecting) << "two more are due";
  stage.client->stop();
  stage.engine->connects(kSocket + 1, -ECONNREFUSED);
  stage.finish();
}

TEST(Client, SaysWhenItWasLateItself) {
  Stage stage(1);
  stage.at(50ms);
  stage.connect(kSocket);
  stage.answer(kSocket);
  stage.at(160ms);  // nobody woke it at 150
  EXPECT_EQ(stage.under_way(kSocket), kRequest);
  stage.answer(kSocket);
  stage.client->stop();
  const Report report = stage.finish();
  EXPECT_EQ(report.late_by_client, 1U);
  EXPECT_EQ(report.late_for_connections, 0U);
}

TEST(Client, ARequestThatWaitsForItsOwnConnectionFoundNoneBusy) {
  Stage stage(10);
  stage.at(50ms);
  stage.at(80ms);
  stage.connect(kSocket);
  stage.answer(kSocket);
  stage.client->stop();
  const Report report = stage.finish();
  EXPECT_EQ(report.sent, 1U);
  EXPECT_EQ(report.late_for_connect, 1U);
  EXPECT_EQ(report.late_for_connections, 0U);
  EXPECT_EQ(report.late_by_client, 0U);
}

// As when its control group has no CPU time left: it sees several at once, and has not connections enough for them.
TEST(Client, SaysThatItWasLateHoweverManyConnectionsWouldHaveHelped) {
  Stage stage(2);
  stage.at(50ms);
  stage.connect(kSocket);
  stage.answer(kSocket);
  stage.engine->next_socket(kSocket + 1);
  stage.at(360ms);  // nobody woke it for three
  stage.connect(kSocket + 1);
  for (const int fd : {kSocket, kSocket + 1}) stage.answer(fd);
  stage.client->stop();
  const Report report = stage.finish();
  EXPECT_EQ(report.sent, 4U);
  EXPECT_EQ(report.late_by_client, 3U);
  EXPECT_EQ(report.late_for_connections + report.late_for_connect, 0U);
}

TEST(Client, AsksForMoreConnectionsAgainAfterAShortage) {
  Stage stage(10);
  stage.at(50ms);
  stage.connect(kSocket);
  stage.engine->next_socket(-EMFILE);
  for (const auto time : {150ms, 250ms, 950ms}) stage.at(time);
  stage.engine->next_socket(kSocket + 1);
  stage.at(999ms);
  EXPECT_FALSE(stage.engine->descriptor(kSocket + 1).connecting);
  stage.at(1001ms);
  EXPECT_TRUE(stage.engine->descriptor(kSocket + 1).connecting);
  stage.client->stop();
  stage.finish();
}

// Of a schedule that is never pulled beyond a second request.
TEST(Client, KnowsHowMuchWasDueHoweverFarBehind) {
  Stage stage(1, "10@2s");
  stage.at(50ms);
  stage.connect(kSocket);
  for (const auto time : {150ms, 1000ms, 2000ms}) stage.at(time);
  EXPECT_EQ(stage.seconds_told, 2U);
  stage.answer(kSocket);
  stage.client->stop();
  const Report report = stage.finish();
  EXPECT_EQ(report.due, 20U);
  EXPECT_EQ(report.sent, 2U);
  ASSERT_GE(report.timeline.size(), 2U);
  EXPECT_EQ(report.timeline[0].due, 10U);
  EXPECT_EQ(report.timeline[1].due, 10U);
}

TEST(Client, WithoutDescriptorsGoesOnWithTheConnectionsItHas) {
  Stage stage(10);
  stage.at(50ms);
  stage.connect(kSocket);
  stage.engine->next_socket(-EMFILE);
  stage.at(150ms);
  stage.at(250ms);
  EXPECT_EQ(stage.under_way(kSocket), kRequest);
  for (int i = 0; i < 3; ++i) stage.answer(kSocket);
  stage.client->stop();
  const Report report = stage.finish();
  EXPECT_EQ(report.answers, 3U);
  EXPECT_EQ(report.errors(), 0U);
}

TEST(Client, WithoutDescriptorsWaitsForAConnectionUnderWay) {
  Stage stage(10);
  stage.at(50ms);
  stage.engine->next_socket(-EMFILE);
  stage.at(150ms);
  stage.at(200ms);  // the shortage is told some milliseconds later
  stage.connect(kSocket);
  for (int i = 0; i < 2; ++i) stage.answer(kSocket);
  stage.client->stop();
  const Report report = stage.finish();
  EXPECT_EQ(report.answers, 2U);
  EXPECT_EQ(report.errors(), 0U);
}

TEST(Client, InterruptedAccountsForWhatWaitsAndWhatIsUnderWay) {
  Stage stage(1);
  stage.at(50ms);
  stage.connect(kSocket);
  stage.answer(kSocket);
  for (const auto time : {150ms, 250ms, 350ms}) stage.at(time);
  stage.engine->advance(100ms);  // another is due, and nobody has seen it
  stage.client->stop();
  stage.at(2s);
  const Report report = stage.finish();
  EXPECT_EQ(report.due, 5U);
  EXPECT_EQ(report.sent, 2U);
  EXPECT_EQ(report.answers, 1U);
  EXPECT_EQ(report.failures[static_cast<size_t>(Failure::CutOff)], 4U);
  EXPECT_EQ(report.errors(), 4U);
  EXPECT_EQ(stage.seconds_told, report.timeline.size());
}

TEST(Client, TellsNoSecondInWhichNothingWas) {
  Stage stage(1);
  stage.at(50ms);
  stage.connect(kSocket);
  stage.answer(kSocket);
  for (auto time = 150ms; time <= 950ms; time += 100ms) {
    stage.at(time);
    stage.answer(kSocket);
  }
  const Report report = stage.finish();
  EXPECT_EQ(report.answers, 10U);
  ASSERT_EQ(report.timeline.size(), 1U);
  EXPECT_EQ(report.timeline[0].due, 10U);
  EXPECT_EQ(stage.seconds_told, 1U);
}

}  // namespace
}  // namespace kiln::load
