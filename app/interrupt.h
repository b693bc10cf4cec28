// SIGINT, SIGTERM and SIGHUP for the verbs that end with a report of what was done by then.
#pragma once

namespace kiln::app {

// The first of them is noted, the second ends the process, whichever they are. Once, before other threads are made.
void notice_interrupts();

// The number of the signal that was noted; 0: none. Any thread.
int interrupted_by();

}  // namespace kiln::app
