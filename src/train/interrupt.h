#pragma once
// Ctrl-C and SIGTERM: the first asks the run to save and stop, the second ends the process at once.

#include <string>

namespace taipan {

// Handles SIGINT and SIGTERM while it lives, and ignores SIGXFSZ, so that a file-size limit is an error of the write
// and not the end of the process. One at a time.
class InterruptGuard {
 public:
  InterruptGuard();
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;
};

// Whether a signal came since the guard began.
bool Interrupted();
// "SIGTERM", of the first one; "" where none came.
std::string InterruptSignal();

}  // namespace taipan
