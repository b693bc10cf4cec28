// The errors of single burns do not average out: the last look at the clock always comes late; and serving a request
// costs CPU of its own. Both are carried into the next burn, so that the sum of what was spent follows what was asked.
//
//   budget = asked - spent on serving since the last burn + carry        what to burn now
//   carry += asked - spent - burned                                      once it is burned
//
// One running sum and no prediction: whatever a request costs after its burn has begun, such as sending its answer,
// lands in the next burn. Pure arithmetic; owned by the burner's thread.
#pragma once

#include <chrono>

namespace kiln::burn {

class Ledger {
 public:
  using Duration = std::chrono::nanoseconds;

  // The carry stays within twice the recent mean burn, but at least 0.5 ms and never as much as 20 ms: a tighter bound
  // loses errors that the next burns could make up for, a wider one lets later, larger burns pay for them.
  static constexpr Duration kBoundMin = std::chrono::microseconds(500);
  static constexpr Duration kBoundMax = std::chrono::milliseconds(19);

  // Begins a burn of `asked`, after `spent` on serving since the last one began. Returns what it has to burn; nothing
  // when that is paid for already.
  [[nodiscard]] Duration begin(Duration asked, Duration spent);

  // The burn has burned `burned`. Cancelled burns are not settled: nobody waits for the rest of them.
  void settle(Duration asked, Duration burned);

  [[nodiscard]] Duration carry() const { return carry_; }

 private:
  Duration carry_{};  // still to be burned when positive, burned too much when negative
  Duration mean_{};   // of recent burns, as asked
};

}  // namespace kiln::burn
