#include "kernels/gemm.h"

#include <dnnl.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/parallel.h"

namespace taipan {
namespace {

// Which row counts of one call give a row the same bits as any other count (oneDNN 2.6.3, found by trying all of them;
// gemm_test.cc repeats the trial). With AVX-512: 16 and more. With AVX2: multiples of 6 up to 96.
struct RowRule {
  int64_t tile;      // rows of a full tile
  int64_t least;     // fewer are padded with zero rows
  int64_t multiple;  // other counts are padded up to one
};
RowRule Rule() {
  return dnnl_get_effective_cpu_isa() >= dnnl_cpu_isa_avx512_core ? RowRule{256, 16, 1} : RowRule{96, 18, 6};
}

constexpr int64_t kColTile = 512;

int64_t RoundUp(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// Columns of a tile: about kColTile, full cache lines and vectors, a function of n alone.
int64_t ColTile(int64_t n) {
  const int64_t tiles = (n + kColTile - 1) / kColTile;
  return std::min(n, RoundUp((n + tiles - 1) / tiles, 64));
}

struct Operand {
  const float* data;
  int64_t stride;
  bool transposed;
};

// Row-major C[m, n] = op(A) op(B), + C with add. One thread: callers parallelise over tiles.
void Sgemm(int64_t m, int64_t n, int64_t k, Operand a, Operand b, float* c, int64_t ldc, bool add) {
  const OneThread one;  // with threads of its own oneDNN cuts K and changes the sums
  const dnnl_status_t status =
      dnnl_sgemm(a.transposed ? 'T' : 'N', b.transposed ? 'T' : 'N', m, n, k, 1.0f, a.data,
                 std::max<int64_t>(a.stride, 1), b.data, std::max<int64_t>(b.stride, 1), add ? 1.0f : 0.0f, c, ldc);
  if (status != dnnl_success) {
    CheckFailed(__FILE__, __LINE__,
                fmt::format("dnnl_sgemm failed with status {} (m {}, n {}, k {})", static_cast<int>(status), m, n, k));
  }
}

Operand Columns(Operand b, int64_t from) {
  return {b.data + (b.transposed ? from * b.stride : from), b.stride, b.transposed};
}

// Scratch of a thread: zero-padded input rows, and their results.
struct PadBuffers {
  std::vector<float> x, y;

  static float* Grown(std::vector<float>& v, int64_t floats) {
    if (static_cast<int64_t>(v.size()) < floats) v.resize(static_cast<size_t>(floats));
    return v.data();
  }
};
PadBuffers& ThreadBuffers() {
  thread_local PadBuffers buffers;
  return buffers;
}

// A tile whose row count would change the bits, as a tile of `rows` rows of which the last ones are zero.
void PaddedTile(ConstMatrixView x, int64_t rows, Operand b, MatrixView y, bool add) {
  PadBuffers& buffers = ThreadBuffers();
  const int64_t k = x.cols, n = y.cols;
  float* in = PadBuffers::Grown(buffers.x, rows * k);
  float* out = PadBuffers::Grown(buffers.y, rows * n);
  CopyMatrix(x, MatrixView(in, x.rows, k));
  std::memset(in + x.rows * k, 0, static_cast<size_t>((rows - x.rows) * k) * sizeof(float));
  if (add) CopyMatrix(y, MatrixView(out, y.rows, n));
  if (add) std::memset(out + y.rows * n, 0, static_cast<size_t>((rows - y.rows) * n) * sizeof(float));
  Sgemm(rows, n, k, {in, k, false}, b, out, n, add);
  CopyMatrix(MatrixView(out, y.rows, n), y);
}

// y[T, n] = x op(B), or +=, in tiles that are a function of the shapes alone.
void RowProduct(ConstMatrixView x, int64_t n, Operand b, MatrixView y, Accumulate acc) {
  CHECK_EQ(x.rows, y.rows);
  if (x.rows == 0 || n == 0) return;
  const bool add = acc == Accumulate::kAdd;
  const RowRule rule = Rule();
  const int64_t row_tiles = (x.rows + rule.tile - 1) / rule.tile, width = ColTile(n),
                col_tiles = (n + width - 1) / width;
  ParallelFor(row_tiles * col_tiles, [&](int64_t task) {
    const int64_t r0 = task / col_tiles * rule.tile, c0 = task % col_tiles * width;
    const int64_t rows = std::min(rule.tile, x.rows - r0), cols = std::min(width, n - c0);
    const int64_t padded = RoundUp(std::max(rows, rule.least), rule.multiple);
    const MatrixView out = y.Rows(r0, rows).Cols(c0, cols);
    if (padded == rows) {
      Sgemm(rows, cols, x.cols, {x.F32(r0), x.stride, false}, Columns(b, c0), out.F32(), out.stride, add);
    } else {
      PaddedTile(x.Rows(r0, rows), padded, Columns(b, c0), out, add);
    }
  });
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
  const int64_t m = c.rows, n = c.cols;
  if (m == 0 || n == 0) return;
  const int64_t height = std::min<int64_t>(256, RoundUp((m + 1) / 2, 16)), row_tiles = (m + height - 1) / height;
  const int64_t width = ColTile(n), col_tiles = (n + width - 1) / width;
  ParallelFor(row_tiles * col_tiles, [&](int64_t task) {
    const int64_t r0 = task / col_tiles * height, c0 = task % col_tiles * width;
    const int64_t rows = std::min(height, m - r0), cols = std::min(width, n - c0);
    const Operand rows_of_a{a.F32() + (transpose_a ? r0 : r0 * a.stride), a.stride, transpose_a};
    Sgemm(rows, cols, k, rows_of_a, Columns({b.F32(), b.stride, transpose_b}, c0), c.F32(r0) + c0, c.stride,
          acc == Accumulate::kAdd);
  });
}

}  // namespace taipan
