// How much to burn in a tick so that a share of CPU is held: feedback on what was really spent, over a short window
// that forgets. Time that a neighbour or a stop took is gone; making up for it would make the pod look hotter than
// asked. Pure arithmetic with its clocks as arguments.
#pragma once

#include <chrono>

namespace kiln::burn {

class HoldControl {
 public:
  using Duration = std::chrono::nanoseconds;

  static constexpr Duration kTick = std::chrono::milliseconds(10);
  // What a late tick may make up for, the tick itself included.
  static constexpr Duration kLateMax = std::chrono::milliseconds(25);
  // Longer than any stall that a quota causes in its period: starved or stopped, so nothing is owed but a tick.
  static constexpr Duration kStall = std::chrono::milliseconds(100);
  // How much of others' overspending is remembered.
  static constexpr Duration kAheadMax = std::chrono::seconds(1);

  // From `wall` on; `others` is what has been spent inside the hold, but not by it, so far.
  void begin(Duration wall, Duration others);

  // A tick at `wall`, for `cores` of CPU. Returns the CPU time to burn now.
  [[nodiscard]] Duration due(Duration wall, double cores, Duration others);

  // That much has been burned since.
  void burned(Duration cpu) { owed_ -= cpu; }

 private:
  Duration wall_{};
  Duration others_{};
  Duration owed_{};
};

}  // namespace kiln::burn
