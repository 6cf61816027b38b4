#include "base/parallel.h"

#include <omp.h>
#include <sched.h>

#include <cstdlib>
#include <exception>
#include <fstream>
#include <string>

#include "base/error.h"

namespace taipan {
namespace {

// The control group's CPU quota (v2, then v1), 0 where there is none.
int CgroupCpus() {
  long long quota = -1, period = 0;
  if (std::ifstream v2("/sys/fs/cgroup/cpu.max"); v2) {
    std::string first;
    v2 >> first >> period;
    if (first != "max") quota = std::atoll(first.c_str());
  } else {
    std::ifstream("/sys/fs/cgroup/cpu/cpu.cfs_quota_us") >> quota;
    std::ifstream("/sys/fs/cgroup/cpu/cpu.cfs_period_us") >> period;
  }
  if (quota <= 0 || period <= 0) return 0;
  return static_cast<int>((quota + period - 1) / period);
}

}  // namespace

void SetNumThreads(int n) {
  CHECK_GE(n, 1);
  omp_set_dynamic(0);
  omp_set_num_threads(n);
}

int NumThreads() { return omp_get_max_threads(); }

int DefaultNumThreads() {
  if (const char* env = std::getenv("OMP_NUM_THREADS"); env != nullptr && std::atoi(env) > 0) return std::atoi(env);
  cpu_set_t mask;
  int cpus = 1;
  if (sched_getaffinity(0, sizeof mask, &mask) == 0) cpus = CPU_COUNT(&mask);
  const int quota = CgroupCpus();
  return quota > 0 && quota < cpus ? quota : cpus;
}

OneThread::OneThread() : before_(omp_get_max_threads()) {
  if (before_ != 1) omp_set_num_threads(1);
}

OneThread::~OneThread() {
  if (before_ != 1) omp_set_num_threads(before_);
}

namespace internal {

void ParallelForImpl(int64_t n, void (*task)(void*, int64_t, int), void* context) {
  if (n <= 0) return;
  if (n == 1 || omp_in_parallel() || NumThreads() == 1) {
    for (int64_t i = 0; i < n; ++i) task(context, i, 0);
    return;
  }
  std::exception_ptr first;
#pragma omp parallel for schedule(dynamic, 1)
  for (int64_t i = 0; i < n; ++i) {
    try {
      task(context, i, omp_get_thread_num());
    } catch (...) {
#pragma omp critical(taipan_first_exception)
      if (!first) first = std::current_exception();
    }
  }
  if (first) std::rethrow_exception(first);
}

}  // namespace internal
}  // namespace taipan
