#include "kernels/gemm/gemm.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/parallel.h"
#include "kernels/gemm/gemm_rows.h"
#include "kernels/gemm/gemm_rows_f32.h"
#include "kernels/gemm/gemm_tile.h"
#include "kernels/gemm/input_watch.h"
#include "kernels/gemm/quant_rows.h"

namespace taipan {
namespace {

int64_t RoundUp(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// Columns of a tile: about `most`, full cache lines and vectors, a function of n alone.
int64_t ColTile(int64_t n, int64_t most) {
  const int64_t tiles = (n + most - 1) / most;
  return std::min(n, RoundUp((n + tiles - 1) / tiles, 64));
}

// Scratch of a thread: zero-padded input rows, their results, decoded rows of a weight.
struct PadBuffers {
  std::vector<uint8_t> x, y, w;

  static void* Grown(std::vector<uint8_t>& v, int64_t bytes) {
    if (static_cast<int64_t>(v.size()) < bytes) v.resize(static_cast<size_t>(bytes));
    return v.data();
  }
  static MatrixView Matrix(std::vector<uint8_t>& v, int64_t rows, int64_t cols, DType dtype) {
    return {Grown(v, rows * cols * SizeOf(dtype)), dtype, rows, cols, cols};
  }
};
PadBuffers& ThreadBuffers() {
  thread_local PadBuffers buffers;
  return buffers;
}

TileOperand RowsOf(ConstMatrixView x) { return {x.data, x.stride, false}; }

// A tile whose row count would change the bits, as a tile of `rows` rows of which the last ones are zero.
void PaddedTile(ConstMatrixView x, int64_t rows, TileOperand b, MatrixView y, bool add) {
  PadBuffers& buffers = ThreadBuffers();
  const MatrixView in = PadBuffers::Matrix(buffers.x, rows, x.cols, x.dtype);
  const MatrixView out = PadBuffers::Matrix(buffers.y, rows, y.cols, y.dtype);
  CopyMatrix(x, in.Rows(0, x.rows));
  in.Rows(x.rows, rows - x.rows).Zero();
  if (add) CopyMatrix(y, out.Rows(0, y.rows));
  if (add) out.Rows(y.rows, rows - y.rows).Zero();
  TileProduct(x.cols, x.dtype, RowsOf(in), b, out, add);
  CopyMatrix(out.Rows(0, y.rows), y);
}

void PaddedIfNeeded(ConstMatrixView x, TileOperand b, MatrixView y, bool add, const RowRule& rule) {
  const int64_t padded = RoundUp(std::max(x.rows, rule.least), rule.multiple);
  if (padded == x.rows) {
    TileProduct(x.cols, x.dtype, RowsOf(x), b, y, add);
  } else {
    PaddedTile(x, padded, b, y, add);
  }
}

void RowTile(ConstMatrixView x, TileOperand b, MatrixView y, bool add) {
  const RowRule rule = RowRuleOf(x.dtype);
  // Up to two chains, and whole ones, are what every kernel makes of K by itself.
  if (x.dtype != DType::kF32 || x.cols < 2 * rule.chain || x.cols % rule.chain == 0) {
    return PaddedIfNeeded(x, b, y, add, rule);
  }
  for (int64_t k = 0; k < x.cols;) {
    const int64_t count = ChainColumns(x.cols - k, rule.chain);
    PaddedIfNeeded(x.Cols(k, count), TileRows(b, x.dtype, k), y, add || k > 0, rule);
    k += count;
  }
}

// y[T, n] = x op(B), or +=, in tiles that are a function of the shapes alone.
void RowProduct(ConstMatrixView x, int64_t n, TileOperand b, MatrixView y, Accumulate acc) {
  CHECK_EQ(x.rows, y.rows);
  if (x.rows == 0 || n == 0) return;
  const bool add = acc == Accumulate::kAdd;
  const RowRule rule = RowRuleOf(x.dtype);
  const int64_t row_tiles = (x.rows + rule.tile - 1) / rule.tile, width = ColTile(n, rule.columns),
                col_tiles = (n + width - 1) / width;
  ParallelFor(row_tiles * col_tiles, [&](int64_t task) {
    const int64_t r0 = task / col_tiles * rule.tile, c0 = task % col_tiles * width;
    const int64_t rows = std::min(rule.tile, x.rows - r0), cols = std::min(width, n - c0);
    RowTile(x.Rows(r0, rows), TileColumns(b, x.dtype, c0), y.Rows(r0, rows).Cols(c0, cols), add);
  });
}

// y[T, n] = x W^T, or +=, with rows [row, row + n) of a quantized weight: tiles of it are decoded, each once for
// kQuantTaskTiles tiles of rows, and multiplied as RowProduct does.
constexpr int64_t kQuantTaskTiles = 4;
void QuantProduct(ConstMatrixView x, const QuantMatrixView& w, int64_t row, MatrixView y, Accumulate acc) {
  CHECK_EQ(x.rows, y.rows);
  const int64_t n = y.cols;
  if (x.rows == 0 || n == 0) return;
  const bool add = acc == Accumulate::kAdd;
  const RowRule rule = RowRuleOf(x.dtype);
  const int64_t tile = rule.tile, height = kQuantTaskTiles * tile, width = ColTile(n, rule.columns);
  const int64_t row_tasks = (x.rows + height - 1) / height, col_tiles = (n + width - 1) / width;
  ParallelFor(row_tasks * col_tiles, [&](int64_t task) {
    const int64_t begin = task / col_tiles * height, end = std::min(begin + height, x.rows);
    const int64_t c0 = task % col_tiles * width, cols = std::min(width, n - c0);
    const MatrixView decoded = PadBuffers::Matrix(ThreadBuffers().w, cols, w.cols, x.dtype);
    DecodeRows(w, row + c0, cols, decoded);
    for (int64_t r0 = begin; r0 < end; r0 += tile) {
      const int64_t rows = std::min(tile, end - r0);
      RowTile(x.Rows(r0, rows), {decoded.data, decoded.stride, true}, y.Rows(r0, rows).Cols(c0, cols), add);
    }
  });
}

// The weight in the type of the activations, from row `row` on.
TileOperand Weight(const LinearWeight& w, DType dtype, int64_t row, bool transposed) {
  const ConstMatrixView& m = dtype == DType::kBF16 ? w.bf16 : w.f32;
  CHECK(m && m.dtype == dtype);
  return {m.Rows(row, m.rows - row).data, m.stride, transposed};
}

thread_local bool rows_alone = false;
thread_local const InputWatch::Show* watching = nullptr;

}  // namespace

RowsAlone::RowsAlone(bool on) : before_(rows_alone) { rows_alone |= on; }
RowsAlone::~RowsAlone() { rows_alone = before_; }

InputWatch::InputWatch(Show show) : show_(std::move(show)), before_(watching) { watching = &show_; }
InputWatch::~InputWatch() { watching = before_; }

void Linear(ConstMatrixView x, const LinearWeight& w, MatrixView y, Accumulate acc) {
  CHECK_EQ(x.cols, w.inputs());
  CHECK_EQ(y.cols, w.outputs());
  if (watching != nullptr) (*watching)(w, x);
  if (w.quant) {
    if (x.rows > kFewQuantRows && !rows_alone) return QuantProduct(x, w.quant, 0, y, acc);
    return QuantRowsProduct(x, w.quant, y, acc == Accumulate::kAdd);
  }
  if (x.dtype == DType::kBF16 && (x.rows <= kFewRows || rows_alone)) {
    FewRowsProduct(x, w.bf16, y, acc == Accumulate::kAdd);
    return;
  }
  if (x.dtype == DType::kF32 && x.rows < RowRuleOf(DType::kF32).least && FewRowsMatchInF32(y.cols)) {
    FewRowsProductF32(x, w.f32, y, acc == Accumulate::kAdd);
    return;
  }
  RowProduct(x, w.outputs(), Weight(w, x.dtype, 0, true), y, acc);
}

void LinearSlice(ConstMatrixView x, const LinearWeight& w, int64_t row_begin, MatrixView y) {
  CHECK_EQ(x.cols, w.inputs());
  CHECK_LE(row_begin + y.cols, w.outputs());
  if (w.quant) return QuantProduct(x, w.quant, row_begin, y, Accumulate::kWrite);
  RowProduct(x, y.cols, Weight(w, x.dtype, row_begin, true), y, Accumulate::kWrite);
}

void LinearBackwardInput(ConstMatrixView dy, const LinearWeight& w, MatrixView dx, Accumulate acc) {
  CHECK_EQ(dy.cols, w.outputs());
  CHECK_EQ(dx.cols, w.inputs());
  RowProduct(dy, w.inputs(), Weight(w, dy.dtype, 0, false), dx, acc);
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
  CHECK(a.dtype == b.dtype || (a.dtype == DType::kU8 && b.dtype == DType::kI8));
  const int64_t m = c.rows, n = c.cols;
  if (m == 0 || n == 0) return;
  const int64_t most = a.dtype == DType::kBF16 ? std::max<int64_t>(256, RowRuleOf(a.dtype).tile) : 256;
  const int64_t height = std::min(most, RoundUp((m + 1) / 2, 16)), row_tiles = (m + height - 1) / height;
  const int64_t width = ColTile(n, 512), col_tiles = (n + width - 1) / width;
  ParallelFor(row_tiles * col_tiles, [&](int64_t task) {
    const int64_t r0 = task / col_tiles * height, c0 = task % col_tiles * width;
    const int64_t rows = std::min(height, m - r0), cols = std::min(width, n - c0);
    const ConstMatrixView rows_of_a = transpose_a ? a.Cols(r0, rows) : a.Rows(r0, rows);
    TileProduct(k, a.dtype, {rows_of_a.data, a.stride, transpose_a},
                TileColumns({b.data, b.stride, transpose_b}, b.dtype, c0), c.Rows(r0, rows).Cols(c0, cols),
                acc == Accumulate::kAdd);
  });
}

}  // namespace taipan
