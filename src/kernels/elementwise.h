#pragma once
// The loop over rows that elementwise kernels have in common.

#include "base/parallel.h"
#include "kernels/element_type.h"
#include "kernels/gemm/tile_partials.h"

namespace taipan {

inline void CheckSameShape(ConstMatrixView a, ConstMatrixView b) {
  CHECK_EQ(a.rows, b.rows);
  CHECK_EQ(a.cols, b.cols);
}

// f(row, T()) for every row of x, T its element type, in parallel.
template <class F>
void ForRows(ConstMatrixView x, const F& f) {
  WithElementType(x.dtype, [&](auto t) {
    ParallelForRanges(x.rows, RowGrain(x.cols), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) f(r, t);
    });
  });
}

}  // namespace taipan
