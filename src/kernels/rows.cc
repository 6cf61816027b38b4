#include "kernels/rows.h"

#include <cstring>

#include "base/parallel.h"
#include "kernels/gemm/tile_partials.h"

namespace taipan {
namespace {

size_t RowBytes(ConstMatrixView m) { return static_cast<size_t>(m.cols * SizeOf(m.dtype)); }

void CheckRows(ConstMatrixView picked, const int64_t* rows, ConstMatrixView all, bool ascending) {
  CHECK_EQ(picked.cols, all.cols);
  for (int64_t i = 0; i < picked.rows; ++i) {
    CHECK_GE(rows[i], ascending && i > 0 ? rows[i - 1] + 1 : 0);
    CHECK_LT(rows[i], all.rows);
  }
}

}  // namespace

void GatherRows(ConstMatrixView from, const int64_t* rows, MatrixView to) {
  CHECK(from.dtype == to.dtype);
  CheckRows(to, rows, from, /*ascending=*/false);
  ParallelForRanges(to.rows, RowGrain(to.cols), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) std::memcpy(to.Rows(i, 1).data, from.Rows(rows[i], 1).data, RowBytes(from));
  });
}

void ScatterRows(ConstMatrixView from, const int64_t* rows, MatrixView to) {
  CheckRows(from, rows, to, /*ascending=*/true);
  ZeroRows(to);
  ParallelForRanges(from.rows, RowGrain(from.cols), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) std::memcpy(to.F32(rows[i]), from.F32(i), RowBytes(from));
  });
}

void AddRows(ConstMatrixView from, const int64_t* rows, MatrixView to) {
  CheckRows(from, rows, to, /*ascending=*/true);
  ParallelForRanges(from.rows, RowGrain(from.cols), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      float* y = to.F32(rows[i]);
      const float* x = from.F32(i);
      for (int64_t c = 0; c < from.cols; ++c) y[c] += x[c];
    }
  });
}

void ZeroRows(MatrixView m) {
  ParallelForRanges(m.rows, RowGrain(m.cols), [&](int64_t begin, int64_t end) { m.Rows(begin, end - begin).Zero(); });
}

}  // namespace taipan
