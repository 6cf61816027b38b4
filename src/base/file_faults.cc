#include "base/file_faults.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstring>

namespace taipan {
namespace {

// Read by a signal handler in the middle of anything: fixed places, no lock. A mapping that finds no place is not
// named.
struct Mapping {
  std::atomic<const char*> data = nullptr;  // null: free
  std::atomic<int64_t> size = 0;
  std::atomic<const char*> path = nullptr;
};
Mapping mappings[4096];
struct sigaction action_before;
int64_t page_bytes = 4096;  // the last page of a file is mapped as a whole

void Say(const char* text) {
  // An error that cannot be written is nobody's to handle here.
  if (::write(STDERR_FILENO, text, std::strlen(text)) < 0) return;
}

void OnBusError(int, siginfo_t* info, void*) {
  const char* const at = static_cast<const char*>(info->si_addr);
  for (const Mapping& m : mappings) {
    const char* const data = m.data;
    const int64_t mapped = (m.size + page_bytes - 1) / page_bytes * page_bytes;
    if (info->si_code <= 0 || data == nullptr || at < data || at >= data + mapped) continue;
    const char* const path = m.path;
    if (path == nullptr) continue;
    Say("taipan: error: ");
    Say(path);
    Say(": the file was cut, or its disk failed, while it was read\n");
    ::_exit(1);
  }
  sigaction(SIGBUS, &action_before, nullptr);  // the access is tried again,
  if (info->si_code <= 0) ::raise(SIGBUS);     // or it was somebody's signal
}

}  // namespace

void ReportFileFaults() {
  page_bytes = ::sysconf(_SC_PAGESIZE);
  struct sigaction action = {};
  action.sa_sigaction = OnBusError;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  sigaction(SIGBUS, &action, &action_before);
}

void RememberMapping(const char* data, int64_t size, const char* path) {
  for (Mapping& m : mappings) {
    const char* free = nullptr;
    if (!m.data.compare_exchange_strong(free, data)) continue;
    m.size = size;
    m.path = path;
    return;
  }
}

void ForgetMapping(const char* data) {
  for (Mapping& m : mappings) {
    if (m.data != data) continue;
    m.path = nullptr;
    m.data = nullptr;
    return;
  }
}

}  // namespace taipan
