#include "base/parallel.h"

#include <hwy/cache_control.h>
#include <omp.h>
#include <sched.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "base/cpu.h"
#include "base/error.h"
#include "base/logging.h"
#include "base/memory.h"
#include "base/signals.h"

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

// Loops follow each other within microseconds in a training step, and waking a sleeper costs about as much.
constexpr std::chrono::microseconds kSpin{30};

// Spins until ready() or kSpin has passed; says whether it is ready.
template <class F>
bool SpinUntil(F&& ready) {
  const auto deadline = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < 32; ++i) {
      if (ready()) return true;
      hwy::Pause();
    }
  } while (std::chrono::steady_clock::now() < deadline);
  return ready();
}

thread_local bool inside_task = false;

// Threads that help the caller of a loop. The caller works through the tasks itself and waits only for helpers that
// took one: a helper that the system does not run delays nobody. OpenMP's barrier waits for every thread of the team,
// which on a machine with other work made a step of small loops twenty times slower. After fork() the child has no
// helpers and does everything itself.
class Pool {
 public:
  void SetThreads(int n) { threads_ = n; }
  int threads() const { return threads_; }

  // Indices are dealt out in order, or in `streams` (0: as many as threads): runs of equal length, of which each thread
  // works through its own before it helps with the next ones.
  void Run(int64_t n, int streams, void (*task)(void*, int64_t, int), void* context) {
    std::unique_lock<std::mutex> mine(running_, std::try_to_lock);
    if (!mine.owns_lock()) return Serial(n, task, context);  // another thread's loop has the helpers
    while (helpers_ + 1 < threads_ && StartHelper(helpers_ + 1)) ++helpers_;
    task_ = task;
    context_ = context;
    Deal(n, streams > 0 ? streams : threads());
    const uint32_t opened = ((gate_.load(std::memory_order_relaxed) & kEpochs) + kEpoch) | kOpen;
    gate_.store(opened);
    if (sleepers_.load() > 0) gate_.notify_all();
    Work(0);
    gate_.fetch_and(~kOpen);
    const auto empty = [&] { return (gate_.load(std::memory_order_acquire) & kActive) == 0; };
    while (!SpinUntil(empty)) {
      const uint32_t now = gate_.load();
      if ((now & kActive) != 0) gate_.wait(now);
    }
    if (first_) std::rethrow_exception(std::exchange(first_, nullptr));
  }

  static void Serial(int64_t n, void (*task)(void*, int64_t, int), void* context) {
    for (int64_t i = 0; i < n; ++i) task(context, i, 0);
  }

 private:
  // gate_: is the loop open to helpers, how many are in it, and which loop it is.
  static constexpr uint32_t kOpen = 1, kHelper = 2, kActive = 0xfffe, kEpoch = 0x10000, kEpochs = 0xffff0000;

  struct alignas(64) Stream {
    std::atomic<int64_t> next{0};
    int64_t end = 0;
  };

  void Deal(int64_t n, int count) {
    if (std::ssize(streams_) < count) streams_ = std::vector<Stream>(static_cast<size_t>(count));
    stream_count_ = static_cast<size_t>(count);
    for (int64_t s = 0; s < count; ++s) {
      Stream& stream = streams_[static_cast<size_t>(s)];
      stream.next.store(s * n / count, std::memory_order_relaxed);
      stream.end = (s + 1) * n / count;
    }
  }

  void Work(int thread) {
    inside_task = true;
    for (size_t s = 0; s < stream_count_; ++s)
      WorkThrough(streams_[(static_cast<size_t>(thread) + s) % stream_count_], thread);
    inside_task = false;
  }

  void WorkThrough(Stream& stream, int thread) {
    for (;;) {
      const int64_t i = stream.next.fetch_add(1, std::memory_order_relaxed);
      if (i >= stream.end) return;
      try {
        task_(context_, i, thread);
      } catch (...) {
        const std::lock_guard<std::mutex> lock(exception_);
        if (!first_) first_ = std::current_exception();
      }
    }
  }

  bool Enter(int index, uint32_t done) {
    uint32_t g = gate_.load(std::memory_order_acquire);
    while ((g & kOpen) != 0 && (g & kEpochs) != done && index < threads_) {
      if (gate_.compare_exchange_weak(g, g + kHelper, std::memory_order_acq_rel)) return true;
    }
    return false;
  }

  // False where the system allows no more threads: those that there are do the work.
  bool StartHelper(int index) {
    constexpr int64_t kRoom = int64_t{32} << 20;  // a stack, and something left for what the thread does
    std::string reason;
    try {
      RequireRoom(kRoom);
      std::thread([this, index] { Help(index); }).detach();
      return true;
    } catch (const std::bad_alloc&) {
      reason = "out of memory";
    } catch (const std::system_error& error) {
      reason = error.what();
    }
    LogWarning("{} threads instead of {}: {}", index, threads_.load(), reason);
    threads_ = index;
    return false;
  }

  [[noreturn]] void Help(int index) {
    TakeNoSignals();
    uint32_t done = 0;  // the loop last helped in
    for (;;) {
      const auto call = [&] {
        const uint32_t g = gate_.load(std::memory_order_relaxed);
        return (g & kOpen) != 0 && (g & kEpochs) != done && index < threads_;
      };
      if (!SpinUntil(call)) {
        sleepers_.fetch_add(1);
        const uint32_t g = gate_.load();
        if ((g & kOpen) == 0 || (g & kEpochs) == done || index >= threads_) gate_.wait(g);
        sleepers_.fetch_sub(1);
      }
      if (!Enter(index, done)) continue;
      done = gate_.load(std::memory_order_relaxed) & kEpochs;
      Work(index);
      const uint32_t left = gate_.fetch_sub(kHelper, std::memory_order_acq_rel) - kHelper;
      if ((left & (kOpen | kActive)) == 0) gate_.notify_all();
    }
  }

  std::atomic<int> threads_{DefaultNumThreads()};
  int helpers_ = 0;
  std::mutex running_, exception_;
  std::atomic<uint32_t> gate_{0};
  std::atomic<int> sleepers_{0};
  std::vector<Stream> streams_;
  size_t stream_count_ = 0;
  void (*task_)(void*, int64_t, int) = nullptr;
  void* context_ = nullptr;
  std::exception_ptr first_;
};

// Never destroyed: helpers sleep in it until the process ends.
Pool& ThePool() {
  static Pool* pool = new Pool;
  return *pool;
}

}  // namespace

void SetNumThreads(int n) {
  CHECK_GE(n, 1);
  ThePool().SetThreads(n);
}

int NumThreads() { return ThePool().threads(); }

int DefaultNumThreads() {
  if (const char* env = std::getenv("OMP_NUM_THREADS"); env != nullptr) {
    const long wanted = std::strtol(env, nullptr, 10);
    if (wanted > 0 && wanted <= kMostThreads) return static_cast<int>(wanted);
  }
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

void ParallelForImpl(int64_t n, int streams, void (*task)(void*, int64_t, int), void* context) {
  if (n <= 0) return;
  if (n == 1 || inside_task || NumThreads() == 1) return Pool::Serial(n, task, context);
  ThePool().Run(n, streams, task, context);
}

}  // namespace internal
}  // namespace taipan
