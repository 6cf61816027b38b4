#pragma once
// The one parallel loop. Work is cut into tasks whose boundaries and whose order of summation do not depend on
// the number of threads, so results do not either; which thread runs a task is left open.

#include <cstdint>
#include <type_traits>

namespace taipan {

// Threads that ParallelFor uses from now on in this process. n >= 1.
void SetNumThreads(int n);
int NumThreads();
// OMP_NUM_THREADS if set, else the CPUs that the affinity mask and the control group's quota allow.
int DefaultNumThreads();

namespace internal {
void ParallelForImpl(int64_t n, int streams, void (*task)(void* context, int64_t index, int thread), void* context);

template <class F>
void ParallelForStreams(int64_t n, int streams, F&& f) {
  auto call = [](void* context, int64_t index, int thread) {
    auto& fn = *static_cast<std::remove_reference_t<F>*>(context);
    if constexpr (std::is_invocable_v<F&, int64_t, int>) {
      fn(index, thread);
    } else {
      fn(index);
    }
  };
  ParallelForImpl(n, streams, call, const_cast<void*>(static_cast<const void*>(&f)));
}
}  // namespace internal

// Calls f(index, thread) or f(index) for each index in [0, n); thread is in [0, NumThreads()). Not nested: inside a
// task it runs serially on thread 0 of its own count. The first exception of a task is rethrown to the caller. Tasks
// begin in the order of their indices.
template <class F>
void ParallelFor(int64_t n, F&& f) {
  internal::ParallelForStreams(n, 1, f);
}

// The same for tasks that read memory one after the other: each thread goes through a run of its own before it helps
// with others'. Two threads that take turns get two thirds of the bandwidth (Zen 4, tasks of 64 KiB).
template <class F>
void ParallelForRuns(int64_t n, F&& f) {
  internal::ParallelForStreams(n, 0, f);
}

// While it lives, libraries that use OpenMP on their own run on the calling thread alone. Restores the number of
// threads.
class OneThread {
 public:
  OneThread();
  ~OneThread();
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int before_;
};

// f(begin, end, thread) or f(begin, end) over [0, n) in ranges of `grain` (the last shorter), as ParallelForRuns.
template <class F>
void ParallelForRanges(int64_t n, int64_t grain, F&& f) {
  ParallelForRuns((n + grain - 1) / grain, [&](int64_t task, int thread) {
    const int64_t begin = task * grain, end = begin + grain < n ? begin + grain : n;
    if constexpr (std::is_invocable_v<F&, int64_t, int64_t, int>) {
      f(begin, end, thread);
    } else {
      f(begin, end);
    }
  });
}

}  // namespace taipan
