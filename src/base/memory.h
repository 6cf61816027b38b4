#pragma once
// Memory that the system does not give: one line that says so, wherever it is noticed.

#include <cstdint>
#include <new>
#include <string>

namespace taipan {

// A bad_alloc that knows how much was asked for.
class OutOfMemory : public std::bad_alloc {
 public:
  explicit OutOfMemory(int64_t bytes);
  const char* what() const noexcept override { return message_; }

 private:
  char message_[96];
};

// "out of memory: 1.5 GiB more were asked for (... allowed ..., ... in use; a smaller model ... )", for any bad_alloc.
std::string OutOfMemoryMessage(const std::bad_alloc& error);

// Throws OutOfMemory where so much could not be mapped now. Before code that does not look whether it got its memory.
void RequireRoom(int64_t bytes);

// What ulimit -v or the system leaves this process, as a hint.
std::string MemoryLimits();

}  // namespace taipan
