#pragma once
// For tests: what writing meets. A full or slow disk, a folder that takes nothing, the death of the process.

#include <functional>
#include <string>

namespace taipan {

enum class WriteStage { kMakeFolder, kWrite, kSync, kRename };

// Called before each such operation of files.h and of files that are appended to. Returns an errno that the operation
// then fails with, 0: none. It may wait, or end the process. Several threads may call it at once.
using WriteFault = std::function<int(WriteStage stage, const std::string& path)>;

// While it lives; one at a time.
class WriteFaults {
 public:
  explicit WriteFaults(WriteFault fault);
  ~WriteFaults();
  WriteFaults(const WriteFaults&) = delete;
  WriteFaults& operator=(const WriteFaults&) = delete;
};

namespace internal {
int WriteFaultAt(WriteStage stage, const std::string& path);
}

}  // namespace taipan
