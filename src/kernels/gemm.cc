#include "kernels/gemm.h"

#include <dnnl.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/parallel.h"

namespace taipan {
namespace {

// oneDNN's f32 kernel changes its order of summation over K below 16 rows (seen in 2.6.3 on AVX-512).
constexpr int64_t kLeastRows = 16;
constexpr int64_t kRowTile = 256;
constexpr int64_t kColTile = 512;

struct Operand {
  const float* data;
  int64_t stride;
  bool transposed;
};

// Row-major C[m, n] = op(A) op(B), + C with add. One thread: callers parallelise over tiles.
void Sgemm(int64_t m, int64_t n, int64_t k, Operand a, Operand b, float* c, int64_t ldc, bool add) {
  const dnnl_status_t status = dnnl_sgemm(a.transposed ? 'T' : 'N', b.transposed ? 'T' : 'N', m, n, k, 1.0f, a.data,
                                          std::max<int64_t>(a.stride, 1), b.data, std::max<int64_t>(b.stride, 1),
                                          add ? 1.0f : 0.0f, c, ldc);
  if (status != dnnl_success) {
    CheckFailed(__FILE__, __LINE__, fmt::format("dnnl_sgemm failed with status {} (m {}, n {}, k {})",
                                                static_cast<int>(status), m, n, k));
  }
}

// Number of tiles so that none is shorter than kLeastRows and, where there is enough, each thread gets two.
int64_t Tiles(int64_t n, int64_t tile, int64_t least) {
  return std::max<int64_t>(1, std::min(n / least, (n + tile - 1) / tile));
}

// C = op(A) op(B) for m >= kLeastRows, in tiles that run one a thread. Bits do not depend on the tiles.
void TiledSgemm(int64_t m, int64_t n, int64_t k, Operand a, Operand b, MatrixView c, bool add) {
  int64_t row_tiles = Tiles(m, kRowTile, kLeastRows);
  int64_t col_tiles = 1;
  if (row_tiles < 2 * NumThreads()) col_tiles = Tiles(n, kColTile, 64);
  if (row_tiles * col_tiles == 1 && m * n * k > (int64_t{1} << 18)) row_tiles = Tiles(m, (m + 1) / 2, kLeastRows);
  ParallelFor(row_tiles * col_tiles, [&](int64_t task) {
    const int64_t r = task / col_tiles, s = task % col_tiles;
    const int64_t r0 = m * r / row_tiles, r1 = m * (r + 1) / row_tiles;
    const int64_t c0 = n * s / col_tiles, c1 = n * (s + 1) / col_tiles;
    const Operand at{a.data + (a.transposed ? r0 : r0 * a.stride), a.stride, a.transposed};
    const Operand bt{b.data + (b.transposed ? c0 * b.stride : c0), b.stride, b.transposed};
    Sgemm(r1 - r0, c1 - c0, k, at, bt, c.F32(r0) + c0, c.stride, add);
  });
}

// A zero-padded copy of fewer than kLeastRows rows; a column tile of the padded result. Both are scratch of the thread.
struct PadBuffers {
  std::vector<float> x, y;
};
PadBuffers& ThreadBuffers() {
  thread_local PadBuffers buffers;
  return buffers;
}

void PaddedSgemm(ConstMatrixView x, int64_t n, Operand b, MatrixView y, bool add) {
  std::vector<float>& padded = ThreadBuffers().x;
  const int64_t k = x.cols;
  if (static_cast<int64_t>(padded.size()) < kLeastRows * k) padded.resize(static_cast<size_t>(kLeastRows * k));
  for (int64_t r = 0; r < kLeastRows; ++r) {
    if (r < x.rows) {
      std::memcpy(padded.data() + r * k, x.F32(r), static_cast<size_t>(k) * 4);
    } else {
      std::memset(padded.data() + r * k, 0, static_cast<size_t>(k) * 4);
    }
  }
  const float* rows = padded.data();
  const int64_t tiles = Tiles(n, kColTile, 64);
  ParallelFor(tiles, [&](int64_t s) {
    const int64_t c0 = n * s / tiles, c1 = n * (s + 1) / tiles, width = c1 - c0;
    std::vector<float>& out = ThreadBuffers().y;
    if (static_cast<int64_t>(out.size()) < kLeastRows * width) out.resize(static_cast<size_t>(kLeastRows * width));
    for (int64_t r = 0; add && r < y.rows; ++r) {
      std::memcpy(out.data() + r * width, y.F32(r) + c0, static_cast<size_t>(width) * 4);
    }
    const Operand bt{b.data + (b.transposed ? c0 * b.stride : c0), b.stride, b.transposed};
    Sgemm(kLeastRows, width, k, {rows, k, false}, bt, out.data(), width, add);
    for (int64_t r = 0; r < y.rows; ++r) {
      std::memcpy(y.F32(r) + c0, out.data() + r * width, static_cast<size_t>(width) * 4);
    }
  });
}

void RowProduct(ConstMatrixView x, int64_t n, Operand b, MatrixView y, Accumulate acc) {
  CHECK_EQ(x.rows, y.rows);
  if (x.rows == 0 || n == 0) return;
  const bool add = acc == Accumulate::kAdd;
  if (x.rows < kLeastRows) {
    PaddedSgemm(x, n, b, y, add);
  } else {
    TiledSgemm(x.rows, n, x.cols, {x.F32(), x.stride, false}, b, y, add);
  }
}

}  // namespace

void Linear(ConstMatrixView x, const LinearWeight& w, MatrixView y, Accumulate acc) {
  CHECK_EQ(x.cols, w.inputs());
  CHECK_EQ(y.cols, w.outputs());
  RowProduct(x, w.outputs(), {w.master.F32(), w.inputs(), true}, y, acc);
}

void LinearSlice(ConstMatrixView x, const LinearWeight& w, int64_t row_begin, MatrixView y) {
  CHECK_EQ(x.cols, w.inputs());
  CHECK_LE(row_begin + y.cols, w.outputs());
  RowProduct(x, y.cols, {w.master.F32() + row_begin * w.inputs(), w.inputs(), true}, y, Accumulate::kWrite);
}

void LinearBackwardInput(ConstMatrixView dy, const LinearWeight& w, MatrixView dx, Accumulate acc) {
  CHECK_EQ(dy.cols, w.outputs());
  CHECK_EQ(dx.cols, w.inputs());
  RowProduct(dy, w.inputs(), {w.master.F32(), w.inputs(), false}, dx, acc);
}

void LinearBackwardWeight(ConstMatrixView dy, ConstMatrixView x, MatrixView dw) {
  CHECK_EQ(dy.rows, x.rows);
  CHECK_EQ(dw.rows, dy.cols);
  CHECK_EQ(dw.cols, x.cols);
  if (dy.rows == 0) return;
  MatMul(dy, true, x, false, dw, Accumulate::kAdd);
}

void MatMul(ConstMatrixView a, bool transpose_a, ConstMatrixView b, bool transpose_b, MatrixView c, Accumulate acc) {
  const int64_t k = transpose_a ? a.rows : a.cols;
  CHECK_EQ(transpose_a ? a.cols : a.rows, c.rows);
  CHECK_EQ(transpose_b ? b.rows : b.cols, c.cols);
  CHECK_EQ(transpose_b ? b.cols : b.rows, k);
  TiledSgemm(c.rows, c.cols, k, {a.F32(), a.stride, transpose_a}, {b.F32(), b.stride, transpose_b}, c,
             acc == Accumulate::kAdd);
}

}  // namespace taipan
