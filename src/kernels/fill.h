#pragma once
// A tensor's elements as a function of their index, in parallel.

#include "base/parallel.h"
#include "tensor/tensor.h"

namespace taipan {

// t[i] = value(i), rounded to f32.
template <class F>
void FillByIndex(Tensor& t, F&& value) {
  float* data = t.F32();
  constexpr int64_t kGrain = 1 << 14;  // elements of a task: about a millisecond of Box-Muller
  ParallelForRanges(t.size(), kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) data[i] = static_cast<float>(value(static_cast<uint64_t>(i)));
  });
}

}  // namespace taipan
