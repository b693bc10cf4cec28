#include "core/ring.h"

#include <liburing.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <iterator>
#include <utility>

#include "base/check.h"

namespace kiln::core {

namespace {

// include/uapi/linux/io_uring.h since Linux 6.15; older headers lack them.
constexpr unsigned kFeatureNoIowait = 1U << 17;
constexpr unsigned kEnterNoIowait = 1U << 7;

constexpr unsigned kSetupFlags = IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                                 IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP |
                                 IORING_SETUP_R_DISABLED;

// What fill() below makes, the last one for clients alone, and the registration that is still to come: the
// descriptor's, given back at the end.
constexpr uint8_t kOperations[] = {IORING_OP_ACCEPT, IORING_OP_RECV, IORING_OP_SEND, IORING_OP_POLL_ADD,
                                   IORING_OP_ASYNC_CANCEL, IORING_OP_CONNECT};
constexpr uint8_t kSubmissionFlags = IOSQE_BUFFER_SELECT;
constexpr uint8_t kRegistrations[] = {IORING_UNREGISTER_RING_FDS};

struct Size {
  unsigned submission;
  unsigned completion;
};

int set_up(io_uring& ring, Size size) {
  io_uring_params params{};
  params.flags = kSetupFlags;
  params.cq_entries = size.completion;
  return io_uring_queue_init_params(size.submission, &ring, &params);
}

// io_uring_register(2). liburing 2.3 declares, but does not export, what enables and restricts a ring. The operation
// is as wide as the register that a seccomp filter looks at.
int register_with(const io_uring& ring, uint64_t operation, const void* argument, unsigned count) {
  const long result = ::syscall(__NR_io_uring_register, ring.ring_fd, operation, argument, count);
  return result < 0 ? -errno : static_cast<int>(result);
}

int register_restrictions(const io_uring& ring, Ring::Use use) {
  std::array<io_uring_restriction, std::size(kOperations) + std::size(kRegistrations) + 1> rules{};
  size_t used = 0;
  for (const uint8_t operation : kOperations) {
    if (operation == IORING_OP_CONNECT && use == Ring::Use::Serve) continue;
    rules[used].opcode = IORING_RESTRICTION_SQE_OP;
    rules[used++].sqe_op = operation;
  }
  for (const uint8_t registration : kRegistrations) {
    rules[used].opcode = IORING_RESTRICTION_REGISTER_OP;
    rules[used++].register_op = registration;
  }
  rules[used].opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED;
  rules[used++].sqe_flags = kSubmissionFlags;
  return register_with(ring, IORING_REGISTER_RESTRICTIONS, rules.data(), static_cast<unsigned>(used));
}

void fill(io_uring_sqe& sqe, const Submission& submission) {
  switch (submission.kind) {
    case Submission::Kind::Accept:
      io_uring_prep_accept(&sqe, submission.fd, nullptr, nullptr, SOCK_CLOEXEC);
      break;
    case Submission::Kind::AcceptStream:
      io_uring_prep_multishot_accept(&sqe, submission.fd, nullptr, nullptr, SOCK_CLOEXEC);
      break;
    case Submission::Kind::Receive:
    case Submission::Kind::ReceiveStream:
      if (submission.kind == Submission::Kind::Receive) {
        io_uring_prep_recv(&sqe, submission.fd, nullptr, 0, 0);
      } else {
        io_uring_prep_recv_multishot(&sqe, submission.fd, nullptr, 0, 0);
      }
      sqe.flags |= IOSQE_BUFFER_SELECT;
      sqe.buf_group = 0;
      if (submission.poll_first) sqe.ioprio |= IORING_RECVSEND_POLL_FIRST;
      break;
    case Submission::Kind::Send:
      // WAITALL: one completion for the whole buffer, however slowly the peer reads.
      io_uring_prep_send(&sqe, submission.fd, submission.data.data(), submission.data.size(),
                         MSG_NOSIGNAL | MSG_WAITALL);
      break;
    case Submission::Kind::Connect:
      io_uring_prep_connect(&sqe, submission.fd, submission.address->get(), submission.address->size);
      break;
    case Submission::Kind::Watch: io_uring_prep_poll_multishot(&sqe, submission.fd, POLLIN); break;
    case Submission::Kind::Cancel: io_uring_prep_cancel64(&sqe, submission.target, 0); break;
  }
  io_uring_sqe_set_data64(&sqe, submission.user_data);
}

}  // namespace

bool RingCompletion::more() const { return (flags & IORING_CQE_F_MORE) != 0; }

bool RingCompletion::non_empty() const { return (flags & IORING_CQE_F_SOCK_NONEMPTY) != 0; }

std::optional<uint16_t> RingCompletion::buffer() const {
  if ((flags & IORING_CQE_F_BUFFER) == 0) return std::nullopt;
  return static_cast<uint16_t>(flags >> IORING_CQE_BUFFER_SHIFT);
}

base::Result<Ring> Ring::open(unsigned submission_entries, unsigned completion_entries) {
  // On ENOMEM: a smaller completion queue, then a smaller submission queue, then twice a little patience, because the
  // charge of a process that has just exited lingers for some 20 ms.
  const std::array<Size, 6> ladder{{{submission_entries, completion_entries},
                                    {submission_entries, completion_entries / 2},
                                    {submission_entries, completion_entries / 4},
                                    {submission_entries / 2, completion_entries / 4},
                                    {submission_entries / 2, completion_entries / 4},
                                    {submission_entries / 2, completion_entries / 4}}};
  constexpr size_t kPatientFrom = 4;
  auto raw = std::make_unique<io_uring>();
  int error = 0;
  for (size_t i = 0; i < ladder.size(); ++i) {
    if (i >= kPatientFrom) ::poll(nullptr, 0, 50);
    error = set_up(*raw, ladder[i]);
    if (error != -ENOMEM) break;
  }
  if (error < 0) return base::system_error("io_uring_setup", -error);

  Ring ring(std::move(raw));
  // io-wq threads would eat the quota unseen; nothing here needs them, so a mistake must not fan out.
  unsigned workers_max[2] = {1, 1};
  io_uring_register_iowq_max_workers(ring.ring_.get(), workers_max);
  ring.register_descriptor();
  ring.quiet_wait_ = (ring.ring_->features & kFeatureNoIowait) != 0;
  return ring;
}

Ring::Ring(std::unique_ptr<io_uring> ring) : ring_(std::move(ring)) {}

Ring::Ring(Ring&&) noexcept = default;

Ring::~Ring() {
  if (!ring_) return;
  give_back_descriptor();
  io_uring_queue_exit(ring_.get());
}

// Saves the kernel looking the descriptor up in every enter (Linux 5.18); where it is refused, nothing is lost. Not
// left to liburing, which would then register everything else through it: 2.4 could not do that before Linux 6.3.
void Ring::register_descriptor() {
  io_uring_rsrc_update entry{};
  entry.offset = UINT32_MAX;  // the kernel chooses, and writes its choice here
  entry.data = static_cast<__u64>(ring_->ring_fd);
  if (register_with(*ring_, IORING_REGISTER_RING_FDS, &entry, 1) == 1) registered_ = entry.offset;
}

// Until then the thread holds the ring, which would outlive its close and still fill buffers that are gone.
void Ring::give_back_descriptor() {
  if (!registered_) return;
  io_uring_rsrc_update entry{};
  entry.offset = *registered_;
  register_with(*ring_, IORING_UNREGISTER_RING_FDS, &entry, 1);
}

base::Result<void> Ring::lock_and_enable(Use use) {
  const int restricted = register_restrictions(*ring_, use);
  if (restricted < 0) restrictions_ = base::system_error("restricting the ring", -restricted);
  const int enabled = register_with(*ring_, IORING_REGISTER_ENABLE_RINGS, nullptr, 0);
  if (enabled < 0) return base::system_error("enabling the ring", -enabled);
  return {};
}

bool Ring::push(const Submission& submission) {
  io_uring_sqe* sqe = io_uring_get_sqe(ring_.get());
  if (sqe == nullptr) {
    // EAGAIN and EBUSY mean: reap first. The caller keeps the operation and tries again after the next reap.
    submit_and_wait(0, std::nullopt);
    sqe = io_uring_get_sqe(ring_.get());
    if (sqe == nullptr) return false;
  }
  fill(*sqe, submission);
  return true;
}

int Ring::enter(std::optional<Duration> timeout) { return submit_and_wait(1, timeout); }

// liburing's own call cannot pass NO_IOWAIT before 2.10, and two calls a turn would be one too many; so the tail is
// published here. The SQE array maps one to one since liburing 2.2 (src/setup.c).
int Ring::submit_and_wait(unsigned wanted, std::optional<Duration> timeout) {
  io_uring_sq& sq = ring_->sq;
  if (sq.sqe_head != sq.sqe_tail) {
    sq.sqe_head = sq.sqe_tail;
    io_uring_smp_store_release(sq.ktail, sq.sqe_tail);
  }
  const unsigned to_submit = sq.sqe_tail - io_uring_smp_load_acquire(sq.khead);

  unsigned flags = IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG;
  if (registered_) flags |= IORING_ENTER_REGISTERED_RING;
  const unsigned descriptor = registered_.value_or(static_cast<unsigned>(ring_->ring_fd));
  if (quiet_wait_) flags |= kEnterNoIowait;

  __kernel_timespec until{};
  io_uring_getevents_arg argument{};
  if (timeout) {
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(*timeout);
    until.tv_sec = seconds.count();
    until.tv_nsec = (*timeout - seconds).count();
    argument.ts = reinterpret_cast<uint64_t>(&until);
    if (*timeout <= Duration::zero()) wanted = 0;
  }
  const long result = ::syscall(__NR_io_uring_enter, descriptor, to_submit, wanted, flags, &argument, sizeof argument);
  return result < 0 ? -errno : 0;
}

size_t Ring::ready() const { return io_uring_smp_load_acquire(ring_->cq.ktail) - *ring_->cq.khead; }

std::span<const RingCompletion> Ring::reap(std::span<RingCompletion> into) {
  unsigned head = *ring_->cq.khead;
  const unsigned tail = io_uring_smp_load_acquire(ring_->cq.ktail);
  const unsigned mask = *ring_->cq.kring_mask;
  size_t count = 0;
  while (head != tail && count < into.size()) {
    const io_uring_cqe& cqe = ring_->cq.cqes[head & mask];
    into[count++] = {cqe.user_data, cqe.res, cqe.flags};
    ++head;
  }
  if (count > 0) io_uring_smp_store_release(ring_->cq.khead, head);
  return into.first(count);
}

bool Ring::work_pending() const {
  return (IO_URING_READ_ONCE(*ring_->sq.kflags) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
}

bool Ring::overflowed() const { return (IO_URING_READ_ONCE(*ring_->sq.kflags) & IORING_SQ_CQ_OVERFLOW) != 0; }

}  // namespace kiln::core
