// Giving memory back to the system.
#pragma once

namespace kiln::app {

// What the calling thread's heap keeps free. Whoever measures the pod's memory shall not see for hours what a flood
// once needed.
void return_free_memory();

}  // namespace kiln::app
