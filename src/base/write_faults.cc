#include "base/write_faults.h"

#include <atomic>
#include <memory>
#include <utility>

namespace taipan {
namespace {

std::atomic<std::shared_ptr<const WriteFault>> current;
std::atomic<bool> active{false};  // all that a program without tests ever looks at

}  // namespace

WriteFaults::WriteFaults(WriteFault fault) {
  current = std::make_shared<const WriteFault>(std::move(fault));
  active = true;
}

WriteFaults::~WriteFaults() {
  active = false;
  current = std::shared_ptr<const WriteFault>();
}

int internal::WriteFaultAt(WriteStage stage, const std::string& path) {
  if (!active.load(std::memory_order_relaxed)) return 0;
  const std::shared_ptr<const WriteFault> fault = current;
  return fault ? (*fault)(stage, path) : 0;
}

}  // namespace taipan
