#include "base/memory.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "base/cpu.h"
#include "base/progress.h"

namespace taipan {

OutOfMemory::OutOfMemory(int64_t bytes) {
  const auto end = fmt::format_to_n(message_, sizeof message_ - 1, "{} more were asked for", FormatBytes(bytes));
  *end.out = '\0';
}

void RequireRoom(int64_t bytes) {
  const auto size = static_cast<size_t>(bytes);
  void* const room = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (room == MAP_FAILED) throw OutOfMemory(bytes);
  ::munmap(room, size);
}

std::string OutOfMemoryMessage(const std::bad_alloc& error) {
  const bool known = dynamic_cast<const OutOfMemory*>(&error) != nullptr;
  return fmt::format("out of memory{}{} ({}; a smaller model, context or batch size takes less)", known ? ": " : "",
                     known ? error.what() : "", MemoryLimits());
}

std::string MemoryLimits() {
  std::string text = FormatBytes(AvailableMemoryBytes()) + " are free";
  for (const auto& [resource, flag] : {std::pair(RLIMIT_AS, "-v"), std::pair(RLIMIT_DATA, "-d")}) {
    rlimit limit;
    if (::getrlimit(resource, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) continue;
    text += fmt::format(", ulimit {} allows this process {}", flag, FormatBytes(static_cast<int64_t>(limit.rlim_cur)));
  }
  return text;
}

}  // namespace taipan
