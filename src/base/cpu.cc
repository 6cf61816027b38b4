#include "base/cpu.h"

#include <fmt/format.h>
#include <hwy/highway.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <string_view>

#include "base/progress.h"

namespace taipan {
namespace {

// What follows the first "NAME:" (spaces and tabs dropped) in a file of lines such as those of /proc; "" without one.
std::string FieldOf(const char* path, std::string_view name) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(':');
    if (colon == line.npos || !line.starts_with(name)) continue;
    if (line.find_first_not_of(" \t", name.size()) != colon) continue;
    const size_t value = line.find_first_not_of(" \t", colon + 1);
    return value == line.npos ? "" : line.substr(value);
  }
  return "";
}

// "VmRSS:   1234 kB" and the like.
int64_t KilobytesField(const char* path, std::string_view name) {
  const std::string text = FieldOf(path, name);
  return text.empty() ? 0 : std::atoll(text.c_str()) * 1024;
}

// The data or unified cache of a level as the kernel describes it, else as the C library does.
int64_t CacheBytes(int level, int sysconf_name) {
  for (int index = 0; index < 8; ++index) {
    const std::string folder = fmt::format("/sys/devices/system/cpu/cpu0/cache/index{}/", index);
    int found_level = 0;
    std::string type;
    int64_t size = 0;
    char unit = ' ';
    std::ifstream(folder + "level") >> found_level;
    std::ifstream(folder + "type") >> type;
    std::ifstream(folder + "size") >> size >> unit;
    if (found_level != level || type == "Instruction" || size <= 0) continue;
    return unit == 'K' ? size << 10 : unit == 'M' ? size << 20 : unit == 'G' ? size << 30 : size;
  }
  return std::max<int64_t>(::sysconf(sysconf_name), 0);
}

}  // namespace

bool CpuIsAmd() {
#if defined(__x86_64__) && defined(__GNUC__)
  return __builtin_cpu_is("amd");
#else
  return false;
#endif
}

std::string CpuModelName() {
  for (const char* field : {"model name", "Model", "Hardware"}) {
    const std::string name = FieldOf("/proc/cpuinfo", field);
    if (!name.empty()) return name;
  }
  return "unknown CPU";
}

int LogicalCpus() { return static_cast<int>(std::max<long>(::sysconf(_SC_NPROCESSORS_ONLN), 1)); }

std::string SimdTargetName() {
  const int64_t targets = hwy::SupportedTargets() & (HWY_TARGETS);
  return hwy::TargetName(targets & -targets);  // a better target has a lower bit
}

int64_t L2CacheBytes() { return CacheBytes(2, _SC_LEVEL2_CACHE_SIZE); }
int64_t L3CacheBytes() { return CacheBytes(3, _SC_LEVEL3_CACHE_SIZE); }
int64_t MemoryBytes() { return KilobytesField("/proc/meminfo", "MemTotal"); }
int64_t AvailableMemoryBytes() {
  int64_t available = KilobytesField("/proc/meminfo", "MemAvailable");
  const std::pair<const char*, const char*> groups[] = {
      {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"},
      {"/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"}};
  for (const auto& [limit_file, used_file] : groups) {
    int64_t limit = 0, used = 0;  // "max" does not parse: no limit
    if (std::ifstream(limit_file) >> limit && std::ifstream(used_file) >> used && limit > used) {
      available = std::min(available, limit - used);
    }
  }
  rlimit space;  // ulimit -v
  if (::getrlimit(RLIMIT_AS, &space) == 0 && space.rlim_cur != RLIM_INFINITY) {
    const int64_t left = static_cast<int64_t>(space.rlim_cur) - KilobytesField("/proc/self/status", "VmSize");
    available = std::min(available, std::max<int64_t>(left, 1));
  }
  return available;
}

int64_t ResidentBytes() { return KilobytesField("/proc/self/status", "VmRSS"); }
int64_t PeakResidentBytes() { return KilobytesField("/proc/self/status", "VmHWM"); }

std::string MachineSummary() {
  const int cpus = LogicalCpus();
  std::string line = fmt::format("{}, {} CPU{}, {}", CpuModelName(), cpus, cpus == 1 ? "" : "s", SimdTargetName());
  if (const int64_t l2 = L2CacheBytes(); l2 > 0) line += ", L2 " + FormatBytes(l2);
  if (const int64_t l3 = L3CacheBytes(); l3 > 0) line += ", L3 " + FormatBytes(l3);
  return line + ", " + FormatBytes(MemoryBytes()) + " of memory";
}

}  // namespace taipan
