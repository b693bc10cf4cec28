// The server's side of one connection, without the connection: bytes in, requests to a handler, responses out, in
// order. No I/O, no clock, no memory but what has arrived.
//
//        +--------------------------- answered -----------------------------+
//        v                                                                  |
//       Head --head whole--> Body --body whole--> Handling --answered, last--> Finished
//        |                    |                                                 ^
//        +---- refused -------+-------------------------------------------------+
//
// One request at a time: while one is Handling, later input is not taken, which is the back-pressure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "http/body.h"
#include "http/limits.h"
#include "http/request.h"
#include "http/response.h"
#include "http/status.h"

namespace kiln::http {

class Exchange;

// Where an answer goes. Valid as long as the exchange and the buffer it was made from.
class Reply {
 public:
  Reply(Exchange& exchange, std::string& output) : exchange_(exchange), output_(output) {}

  // Answers the request that the exchange is Handling; exactly once.
  void send(const Response& response);

  [[nodiscard]] Exchange& exchange() { return exchange_; }

 private:
  Exchange& exchange_;
  std::string& output_;
};

class Handler {
 public:
  virtual ~Handler() = default;

  // A whole request. Either reply.send() before returning, or later through a Reply made anew; the views in `request`
  // die on return.
  virtual void handle(const Request& request, Reply& reply) = 0;

  // The largest body that a request with this head may have; `usual` is that of the limits.
  virtual uint64_t body_bytes_max(const RequestHead& /*head*/, uint64_t usual) { return usual; }

  // Input was refused and answered with `status`; for metrics and logs. The connection ends after that answer.
  virtual void refused(Refusal refusal, int status) = 0;
};

// What the exchanges of one worker share. Outlives them.
struct ExchangeContext {
  Limits limits;
  Handler* handler = nullptr;
  std::string common_fields;      // field lines in every response; the owner renews Date in it
  uint64_t request_id_state = 1;  // where the generator of request ids stands; any seed will do
  RequestHead head = {};          // of the request being taken; the exchanges' own
};

class Exchange {
 public:
  enum class Phase : uint8_t { Head, Body, Handling, Finished };

  // `key` is the owner's own name for this exchange.
  Exchange(ExchangeContext& context, uint64_t key) : context_(&context), key_(key) {}

  // Takes requests from the front of `input` and appends the answers (and 100 Continue) to `output`. Returns how many
  // bytes it is done with; the owner offers the rest again, in front of what arrives later, or at once when
  // wants_more_turns(). While Handling and after Finished it takes nothing. A handler must not call it, on any exchange
  // of this context.
  size_t receive(std::string_view input, std::string& output);

  // The peer will send nothing more; to be told once receive() was offered all that came and no longer wants turns. An
  // incomplete request is dropped without an answer. A request being handled is still answered, and so are whole ones
  // behind it, which are to be offered again.
  void end_of_input();

  // Refuses whatever is arriving, 408 for instance. Only in Head or Body.
  void refuse(Refusal refusal, std::string& output);

  // From now on the next answer is the last one: it says Connection: close.
  void close_after_next() { closing_ = true; }

  [[nodiscard]] Phase phase() const { return phase_; }
  [[nodiscard]] uint64_t key() const { return key_; }
  // True when nothing of a next request has arrived: the connection is idle between requests.
  [[nodiscard]] bool idle() const { return phase_ == Phase::Head && !head_begun_ && !batch_ended_; }
  // True when receive() stopped at a batch limit with input left.
  [[nodiscard]] bool wants_more_turns() const { return batch_ended_; }
  // True when bytes of the peer may still arrive that nobody will read: close by lingering (RFC 9112 section 9.6).
  [[nodiscard]] bool must_linger() const { return must_linger_; }
  // Memory that the request being received takes.
  [[nodiscard]] size_t held_bytes() const { return body_ ? body_->head.capacity() + body_->decoded.capacity() : 0; }
  // Responses written so far.
  [[nodiscard]] uint64_t answered() const { return answered_; }

 private:
  friend class Reply;

  // A request whose body is arriving.
  struct Body {
    std::string head;  // its bytes: the owner's are gone by the time the handler wants views
    BodyDecoder decoder;
    std::string decoded;
    Limits limits;  // with the most that this body may have
  };

  size_t receive_head(std::string_view input, std::string& output);
  size_t receive_body(std::string_view input, std::string& output);
  // `nothing_arrived` is true when no byte of the body came with the head.
  size_t begin_body(std::string_view head_text, bool nothing_arrived, uint64_t bytes_max, std::string& output);
  [[nodiscard]] bool deserves_look(std::string_view input) const;
  void note_head(const RequestHead& head);
  void note_request_id(const RequestHead& head);
  void drop_incomplete();
  void handle(std::string_view body, std::string& output);
  void answer(const Response& response, std::string& output);
  void finish_refused(Refusal refusal, std::string& output);
  // `last` is true when the connection ends after this response.
  void write(const Response& response, bool last, std::string& output);

  ExchangeContext* context_;
  uint64_t key_;
  uint64_t answered_ = 0;
  std::unique_ptr<Body> body_;    // in Body only
  std::string given_request_id_;  // of the request, when it brought a well-formed one; else empty
  uint64_t made_request_id_ = 0;  // otherwise
  size_t looked_at_ = 0;          // bytes of an incomplete head that need no second look
  Phase phase_ = Phase::Head;
  uint8_t minor_version_ = 1;
  bool head_begun_ = false;  // true when more than empty lines has arrived of a request not yet answered
  bool is_head_method_ = false;
  bool keep_alive_ = true;  // true when the request lets the connection persist
  bool closing_ = false;    // true when the next answer must be the last
  bool batch_ended_ = false;
  bool must_linger_ = false;
  bool input_ended_ = false;  // true when the peer sends no more
  bool input_left_ = false;   // true when the latest receive() left input behind
};
static_assert(sizeof(Exchange) <= 128, "one a connection, and most are idle");

}  // namespace kiln::http
