#include "core/ring.h"

#include <gtest/gtest.h>
#include <liburing.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <optional>
#include <utility>

#include "base/fd.h"
#include "core/buffer_ring.h"

namespace kiln::core {
namespace {

class RingTest : public testing::Test {
 protected:
  void SetUp() override {
    auto opened = Ring::open(8, 64);
    ASSERT_TRUE(opened.has_value()) << opened.error().what;
    ring.emplace(std::move(*opened));
  }

  void lock() {
    const auto enabled = ring->lock_and_enable(Ring::Use::Serve);
    ASSERT_TRUE(enabled.has_value()) << enabled.error().what;
    ASSERT_TRUE(ring->restrictions().has_value()) << ring->restrictions().error().what;
  }

  // What the kernel says of an SQE that push() would never make.
  int submit(uint8_t operation, uint8_t flags) {
    io_uring_sqe* sqe = io_uring_get_sqe(&ring->raw());
    io_uring_prep_rw(operation, sqe, -1, nullptr, 0, 0);
    sqe->flags = flags;
    ring->enter(std::chrono::seconds(5));
    std::array<RingCompletion, 1> into{};
    const auto completions = ring->reap(into);
    if (completions.empty()) {
      ADD_FAILURE() << "nothing completed within five seconds";
      return 0;
    }
    return completions.front().result;
  }

  std::optional<Ring> ring;
};

TEST_F(RingTest, TakesNothingUntilItIsLocked) {
  ASSERT_TRUE(ring->push({.kind = Submission::Kind::Cancel}));
  EXPECT_EQ(ring->enter(Duration::zero()), -EBADFD);
}

TEST_F(RingTest, RefusesEveryOperationThatIsNotUsedHere) {
  lock();
  constexpr std::array kUsed{IORING_OP_ACCEPT, IORING_OP_RECV, IORING_OP_SEND, IORING_OP_POLL_ADD,
                             IORING_OP_ASYNC_CANCEL};
  // Up to the last of Linux 6.1: a kernel need not know what newer headers do.
  for (uint8_t operation = 0; operation <= IORING_OP_SENDMSG_ZC; ++operation) {
    SCOPED_TRACE(int{operation});
    if (std::ranges::find(kUsed, operation) == kUsed.end()) {
      EXPECT_EQ(submit(operation, 0), -EACCES);
    } else {
      EXPECT_NE(submit(operation, 0), -EACCES);
    }
  }
}

TEST_F(RingTest, RefusesFlagsThatAreNotUsedHere) {
  lock();
  for (const unsigned flag : {IOSQE_FIXED_FILE, IOSQE_IO_DRAIN, IOSQE_IO_LINK, IOSQE_IO_HARDLINK, IOSQE_ASYNC}) {
    EXPECT_EQ(submit(IORING_OP_RECV, static_cast<uint8_t>(flag)), -EACCES) << flag;
  }
}

TEST_F(RingTest, RefusesToRegisterAnythingMore) {
  lock();
  const int fd = STDOUT_FILENO;
  EXPECT_EQ(::syscall(__NR_io_uring_register, ring->raw().ring_fd, IORING_REGISTER_FILES, &fd, 1), -1);
  EXPECT_EQ(errno, EACCES);
  EXPECT_FALSE(BufferRing::open(*ring, 8).has_value());
}

// A thread that kept the ring's descriptor registered would keep the ring, and the ring the socket.
TEST_F(RingTest, LetsGoOfItsSocketsWhenItEnds) {
  int pair[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  base::Fd ours(pair[0]);
  const base::Fd peer(pair[1]);
  lock();
  ASSERT_TRUE(ring->push({.kind = Submission::Kind::Watch, .fd = ours.get()}));
  EXPECT_EQ(ring->enter(Duration::zero()), 0);
  ring.reset();
  ours.reset();
  pollfd seen{.fd = peer.get(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(::poll(&seen, 1, 5000), 1) << "the peer does not see the end";
}

}  // namespace
}  // namespace kiln::core
