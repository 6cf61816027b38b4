#pragma once
// The machine and this process: for reports of speed and memory.

#include <cstdint>
#include <string>

namespace taipan {

constexpr int kMostThreads = 4096;  // that one may ask for

std::string CpuModelName();  // as the system names it, "unknown CPU" where it does not
int LogicalCpus();           // online in the machine; DefaultNumThreads() says how many this process may use
bool CpuIsAmd();
std::string SimdTargetName();  // the best instruction set that our kernels have for this CPU, as Highway names it
int64_t L2CacheBytes();        // of one core; 0 where unknown
int64_t L3CacheBytes();        // of the one that the first core uses; 0 where unknown
int64_t MemoryBytes();         // RAM of the machine
// What this process may still take: free memory and caches that can be dropped, within the control group's limit
// and that of its address space; 0 where unknown.
int64_t AvailableMemoryBytes();

int64_t ResidentBytes();      // of this process now (VmRSS)
int64_t PeakResidentBytes();  // of this process so far (VmHWM)

// One line: model, CPUs, instruction set, caches, memory.
std::string MachineSummary();

}  // namespace taipan
