#include "app/pod.h"

#include <gtest/gtest.h>

#include "app/worker.h"

namespace kiln::app {
namespace {

using namespace std::chrono_literals;

Identity somebody() {
  Identity who;
  who.pod_name = "kiln-1";
  who.node_name = "node-1";
  who.pod_ip = "10.0.0.1";
  return who;
}

TEST(Pod, PutsTheAnsweringPodIntoThePage) {
  Identity who = somebody();
  who.pod_namespace = "<script>&\"'";
  const std::string page = render_page("<b>{{pod_name}}</b> {{node_name}} {{namespace}} {{unknown}} {{", who, "epoll");
  EXPECT_EQ(page, "<b>kiln-1</b> node-1 &lt;script&gt;&amp;&quot;&#39; {{unknown}} {{");
}

TEST(Pod, InfoKeepsOneLengthAndTellsTheTime) {
  Pod pod({}, somebody(), base::Cgroup::find("/nonexistent"), 1);
  InfoBody body(pod);
  body.refresh(pod.started);
  const std::string first(body.at(0));
  EXPECT_NE(first.find(R"("timestamp":"1970-01-01T00:00:00.000Z")"), std::string::npos) << first;
  EXPECT_NE(first.find(R"("used_millicores":null)"), std::string::npos) << first;

  pod.usage.sample(pod.started);
  pod.usage.sample(pod.started + 1s);
  body.refresh(pod.started + 2s);
  const std::string second(body.at(1'795'530'163'974));
  EXPECT_EQ(second.size(), first.size());
  EXPECT_NE(second.find(R"("timestamp":"2026-11-24T14:22:43.974Z")"), std::string::npos) << second;
  EXPECT_NE(second.find(R"("uptime_seconds":2.000)"), std::string::npos) << second;
  EXPECT_EQ(second.find(R"("used_millicores":null)"), std::string::npos) << second;
  EXPECT_EQ(second.back(), '\n');
}

TEST(Pod, LoadAnswersAreNeverLongerThanTheirWidth) { EXPECT_GT(load_body_bytes_max(somebody()), 150U); }

}  // namespace
}  // namespace kiln::app
