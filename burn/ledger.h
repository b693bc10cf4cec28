// The errors of single burns do not average out: the last look at the clock always comes late. So each is carried into
// the next burn, and the sum of what was burned follows the sum of what was asked.
//
//   budget = asked + carry        what to burn now
//   carry += asked - burned       once it is burned
//
// Pure arithmetic; owned by the burner's thread.
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

  // What a burn of `asked` has to burn; nothing when the carry has paid for it already.
  [[nodiscard]] Duration budget(Duration asked) const;

  // A burn of `asked` has burned `burned`. Cancelled burns are not settled: nobody waits for the rest of them.
  void settle(Duration asked, Duration burned);

  [[nodiscard]] Duration carry() const { return carry_; }

 private:
  Duration carry_{};  // still to be burned when positive, burned too much when negative
  Duration mean_{};   // of recent burns, as asked
};

}  // namespace kiln::burn
