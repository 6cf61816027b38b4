#include "base/write_faults.h"

#include <atomic>
#include <memory>
#include <utility>

namespace taipan {
namespace {

std::atomic<std::shared_ptr<const WriteFault>> set_fault;
std::atomic<bool> active{false};  // all that a program without tests ever looks at

}  // namespace

WriteFaults::WriteFaults(WriteFault fault) {
  set_fault = std::make_shared<const WriteFault>(std::move(fault));
  active = true;
}

WriteFaults::~WriteFaults() {
  active = false;
  set_fault = std::shared_ptr<const WriteFault>();
}

int internal::WriteFaultAt(WriteStage stage, const std::string& path) {
  if (!active.load(std::memory_order_relaxed)) return 0;
  const std::shared_ptr<const WriteFault> fault = set_fault;
  return fault ? (*fault)(stage, path) : 0;
}

}  // namespace taipan
