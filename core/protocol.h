// What speaks over a loop's connections. The loop knows no more of it than this.
#pragma once

#include <cstddef>
#include <string_view>

#include "core/engine.h"

namespace kiln::core {

class Connection;

// All calls come on the loop's thread, and none comes from inside a call of the protocol into the connection.
class Protocol {
 public:
  virtual ~Protocol() = default;

  // A turn of the loop begins; for what is kept per second, such as a formatted date.
  virtual void turn_began(TimePoint now) = 0;

  virtual void opened(Connection& connection) = 0;

  // In place of opened(): Loop::connect() has come to nothing, for that errno. Nothing else follows.
  virtual void connect_failed(int /*error*/) {}

  // Bytes to work on. Answers go to connection.output(). Returns how many bytes it is done with; the rest is kept and
  // offered again, in front of what arrives, and when what was written has been sent. `input` dies on return, and may
  // be empty. Not called while an earlier answer is still being sent: one batch of answers in memory, not more.
  virtual size_t receive(Connection& connection, std::string_view input) = 0;

  // The peer has sent its last byte. Input that receive() has not taken so far is still offered again.
  virtual void input_ended(Connection& connection) = 0;

  // The deadline that the protocol set has passed.
  virtual void expired(Connection& connection) = 0;

  // How much memory the protocol keeps for the connection at the moment, beside input and output. Cheap: asked often.
  virtual size_t held_bytes(const Connection& connection) const = 0;

  // All connections together hold more than they may, and this one has held for longest. Called only when nothing of it
  // is being sent; it answers shortly and finishes, or aborts. Whoever still holds as much then is closed.
  virtual void shed(Connection& connection) = 0;

  // The connection is of no use any more, and this the last call for it. Its id never comes back; its slot does.
  virtual void closed(Connection& connection) = 0;
};

}  // namespace kiln::core
