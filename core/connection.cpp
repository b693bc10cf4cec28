#include "core/connection.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/check.h"
#include "core/loop.h"

namespace kiln::core {

namespace {

// What the result of a receive or send means. Every errno that sockets are known to give is listed; what is not listed
// ends the connection as well.
enum class Outcome : uint8_t { Bytes, End, Again, NoBuffer, PeerGone };

Outcome outcome_of(int result) {
  if (result > 0) return Outcome::Bytes;
  switch (-result) {
    case 0: return Outcome::End;
    case EAGAIN:
    case EINTR:
    case ECANCELED: return Outcome::Again;
    case ENOBUFS: return Outcome::NoBuffer;
    case ECONNRESET:
    case EPIPE:
    case ETIMEDOUT:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case ENETDOWN:
    case ENOTCONN:
    case ENOMEM: return Outcome::PeerGone;
    default: return Outcome::PeerGone;
  }
}

bool may_follow(Connection::State from, Connection::State to) {
  using State = Connection::State;
  switch (to) {
    case State::Connecting: return from == State::Free;
    case State::Open: return from == State::Free || from == State::Connecting;
    case State::Flushing: return from == State::Open;
    case State::Lingering: return from == State::Flushing;
    case State::Closing: return from != State::Free && from != State::Closing;
    case State::Free: return from == State::Closing;
  }
  return false;
}

}  // namespace

void Connection::enter(State state) {
  CHECK(may_follow(state_, state));
  state_ = state;
}

void Connection::open(int fd, uint32_t listener) {
  fd_ = fd;
  listener_ = listener;
  begin();
}

void Connection::begin() {
  enter(State::Open);
  in_protocol_ = true;
  loop_.protocol().opened(*this);
  in_protocol_ = false;
  proceed();
  if (state_ == State::Open) arm_receive();
}

void Connection::connect(int fd, const SocketAddress& address, Duration timeout) {
  enter(State::Connecting);
  fd_ = fd;
  listener_ = kNoListener;
  connecting_ = true;
  set_own_deadline(timeout);
  loop_.engine().connect(fd, token(Operation::Connect), address);
}

void Connection::connected(const Completion& completion) {
  connecting_ = false;
  if (state_ == State::Closing) return free_when_idle();
  if (completion.result < 0) return connect_failed(-completion.result);
  own_deadline_ = TimerWheel::kNever;
  loop_.wheel().disarm(slot_);
  begin();
}

void Connection::complete(const Completion& completion) {
  switch (completion.token.operation) {
    case Operation::Connect: connected(completion); break;
    case Operation::Receive: received(completion); break;
    default: sent(completion); break;
  }
  loop_.account(*this);
}

// --- Receiving -------------------------------------------------------------------------------------------------------

void Connection::received(const Completion& completion) {
  if (!completion.more) {
    receiving_ = false;
    receive_cancelled_ = false;
  }
  if (state_ == State::Closing) return free_when_idle();

  switch (outcome_of(completion.result)) {
    case Outcome::Bytes:
      lives_on_ = true;
      if (state_ == State::Open) {
        offer({completion.data.data(), completion.data.size()});
      } else {
        drop(completion.data.size());
      }
      break;
    case Outcome::End:
      input_ended_ = true;
      if (state_ == State::Lingering) return close();
      proceed();
      break;
    case Outcome::NoBuffer:
      starved_ = true;
      loop_.queue_starved(id());
      return;
    case Outcome::Again: break;
    case Outcome::PeerGone: return close();
  }
  arm_receive();
}

void Connection::receive_again() {
  if (!std::exchange(starved_, false)) return;
  arm_receive();
}

void Connection::arm_receive() {
  if (state_ != State::Open && state_ != State::Lingering) return;
  if (receiving_ || starved_ || input_ended_) return;
  if (input_.size() > loop_.options().input_bytes_max) return;  // back-pressure: offer() arms again
  receiving_ = true;
  loop_.engine().receive(fd_, token(Operation::Receive), lives_on_ ? Repeat::Stream : Repeat::Once);
}

void Connection::offer(std::string_view fresh) {
  if (!may_offer()) {
    input_.append(fresh);
  } else {
    // The usual case copies nothing: whole requests are taken straight from the engine's buffer.
    const bool kept = !input_.empty();
    if (kept) input_.append(fresh);
    const std::string_view input = kept ? std::string_view(input_) : fresh;
    if (output_.empty()) loop_.lend_buffer(output_);
    in_protocol_ = true;
    const size_t taken = loop_.protocol().receive(*this, input);
    in_protocol_ = false;
    CHECK(taken <= input.size());
    const bool wanted = state_ == State::Open && !aborted_ && taken < input.size();
    if (kept && wanted) {
      input_.erase(0, taken);
    } else if (kept) {
      std::string().swap(input_);
    } else if (wanted) {
      input_.assign(input.substr(taken));
    }
    proceed();
  }
  if (input_.size() > loop_.options().input_bytes_max) stop_receiving();
}

void Connection::drop(size_t bytes) {
  if (state_ == State::Lingering) {
    if (!loop_.draining()) extend_lingering();
    return;
  }
  linger_ = Linger::Yes;  // more may be on its way
  dropped_bytes_ += bytes;
  if (dropped_bytes_ > loop_.options().input_bytes_max) stop_receiving();
}

void Connection::stop_receiving() {
  if (!receiving_ || receive_cancelled_) return;
  receive_cancelled_ = true;
  loop_.engine().cancel(fd_, token(Operation::Receive));
}

// --- Answering -------------------------------------------------------------------------------------------------------

// What follows from a call of the protocol, or from the end of a send.
void Connection::proceed() {
  if (state_ != State::Open && state_ != State::Flushing) return;
  if (aborted_) return close();
  if (state_ == State::Flushing) std::string().swap(input_);  // nobody will be offered it
  send_output();
  if (sending_now_) return;
  if (state_ == State::Open && input_ended_ && !std::exchange(end_told_, true)) {
    in_protocol_ = true;
    loop_.protocol().input_ended(*this);
    in_protocol_ = false;
    return proceed();
  }
  if (state_ != State::Flushing) return loop_.take_back_buffer(output_);
  if (linger_ == Linger::Yes && !input_ended_) {
    linger();
  } else {
    close();
  }
}

void Connection::send_output() {
  if (sending_now_ || output_.empty()) return;
  sending_.swap(output_);
  sent_bytes_ = 0;
  send_chunk();
}

// No more than a chunk at once: it bounds what a slow reader pins in the kernel, and each must be taken in time.
void Connection::send_chunk() {
  const size_t size = std::min(sending_.size() - sent_bytes_, loop_.options().send_bytes_max);
  sending_now_ = true;
  set_own_deadline(loop_.options().send_timeout);
  loop_.engine().send(fd_, token(Operation::Send), {sending_.data() + sent_bytes_, size});
}

void Connection::sent(const Completion& completion) {
  sending_now_ = false;
  if (state_ == State::Closing) return free_when_idle();
  own_deadline_ = TimerWheel::kNever;
  loop_.wheel().arm(slot_, deadline_);
  const size_t asked = std::min(sending_.size() - sent_bytes_, loop_.options().send_bytes_max);
  // A short send was cut by the peer's end: there is nobody to send the rest to.
  if (completion.result < 0 || static_cast<size_t>(completion.result) < asked) return close();
  sent_bytes_ += asked;
  if (sent_bytes_ < sending_.size()) return send_chunk();
  sending_.clear();
  loop_.take_back_buffer(sending_);
  resume();
}

void Connection::resume() {
  if (!output_.empty() || !may_offer() || (input_.empty() && !input_ended_)) {
    proceed();
  } else {
    offer({});
  }
  if (state_ == State::Open) arm_receive();
  loop_.account(*this);
}

// --- Ending ----------------------------------------------------------------------------------------------------------

void Connection::finish(Linger linger) {
  if (state_ != State::Open) return;
  enter(State::Flushing);
  linger_ = linger;
  deadline_ = TimerWheel::kNever;
  if (!in_protocol_) proceed();
}

void Connection::abort() {
  if (state_ == State::Lingering) return close();
  if (state_ == State::Connecting) return connect_failed(ECANCELED);
  if (state_ != State::Open && state_ != State::Flushing) return;
  aborted_ = true;
  if (!in_protocol_) proceed();
}

void Connection::linger() {
  if (!loop_.may_linger()) return close();
  enter(State::Lingering);
  loop_.count_lingering(1);
  std::string().swap(input_);
  loop_.take_back_buffer(output_);
  loop_.engine().shutdown(fd_, SHUT_WR);
  linger_until_ = loop_.now() + loop_.options().linger_time_max;
  extend_lingering();
  arm_receive();
}

void Connection::extend_lingering() {
  own_deadline_ = std::min(loop_.now() + loop_.options().linger_timeout, linger_until_);
  loop_.wheel().arm(slot_, own_deadline_);
}

size_t Connection::held_bytes() const {
  if (state_ != State::Open && state_ != State::Flushing) return 0;
  static const size_t kInPlace = std::string().capacity();
  const auto of = [](const std::string& buffer) {
    return buffer.empty() || buffer.capacity() == kInPlace ? 0 : buffer.capacity();
  };
  return of(input_) + of(output_) + of(sending_) + loop_.protocol().held_bytes(*this);
}

void Connection::shed() {
  if (may_offer()) {
    in_protocol_ = true;
    loop_.protocol().shed(*this);
    in_protocol_ = false;
    if (!aborted_) return proceed();
  }
  give_up();
}

// With something in flight the shutdown that ends it sends our end before the reset. An answer that only that end
// delimits (HTTP/1.0) looks whole then; all others have their length.
void Connection::give_up() {
  loop_.engine().reset_at_close(fd_);
  close();
}

void Connection::connect_failed(int error) {
  begin_closing();
  loop_.protocol().connect_failed(error);
  // Not shutdown(2): a connect that was disconnected would be begun again by the kernel's next look at it.
  if (connecting_) {
    loop_.engine().cancel(fd_, token(Operation::Connect));
    set_own_deadline(loop_.options().close_timeout);
  }
  free_when_idle();
}

void Connection::begin_closing() {
  enter(State::Closing);
  deadline_ = TimerWheel::kNever;
}

void Connection::close() {
  if (state_ == State::Lingering) loop_.count_lingering(-1);
  begin_closing();
  loop_.protocol().closed(*this);
  std::string().swap(input_);
  output_.clear();
  loop_.take_back_buffer(output_);
  if (receiving_ || sending_now_) {
    loop_.engine().shutdown(fd_, SHUT_RDWR);
    set_own_deadline(loop_.options().close_timeout);
  }
  free_when_idle();
}

void Connection::free_when_idle() {
  if (connecting_ || receiving_ || sending_now_) return;
  loop_.engine().close(fd_);
  sending_.clear();
  loop_.take_back_buffer(sending_);
  enter(State::Free);
  fd_ = -1;
  generation_ = (generation_ + 1) & Token::kGenerationMask;
  dropped_bytes_ = 0;
  linger_ = Linger::No;
  lives_on_ = starved_ = input_ended_ = end_told_ = aborted_ = false;
  own_deadline_ = TimerWheel::kNever;
  loop_.released(slot_, listener_);
}

// --- Deadlines -------------------------------------------------------------------------------------------------------

void Connection::set_deadline(TimePoint deadline) {
  if (state_ != State::Open) return;
  deadline_ = deadline;
  loop_.wheel().arm(slot_, deadline);
}

void Connection::set_own_deadline(Duration from_now) {
  own_deadline_ = loop_.now() + from_now;
  loop_.wheel().arm(slot_, own_deadline_);
}

TimePoint Connection::deadline_passed(TimePoint now) {
  if (own_deadline_ <= now) {
    own_deadline_ = TimerWheel::kNever;
    if (state_ == State::Closing) {
      // shutdown(2) should have ended them: the last resort, which is counted.
      loop_.count_forced_close();
      if (connecting_) loop_.engine().cancel(fd_, token(Operation::Connect));
      if (receiving_) loop_.engine().cancel(fd_, token(Operation::Receive));
      if (sending_now_) loop_.engine().cancel(fd_, token(Operation::Send));
      own_deadline_ = now + loop_.options().close_timeout;
    } else if (state_ == State::Connecting) {
      connect_failed(ETIMEDOUT);
    } else {
      give_up();
    }
  } else if (sending_now_) {
    // The peer has its own time to take an answer; until then the protocol is not offered what it waits for.
    return own_deadline_;
  } else if (deadline_ <= now && state_ == State::Open) {
    deadline_ = TimerWheel::kNever;
    in_protocol_ = true;
    loop_.protocol().expired(*this);
    in_protocol_ = false;
    proceed();
    loop_.account(*this);
  }
  return std::min(deadline_, own_deadline_);
}

}  // namespace kiln::core
