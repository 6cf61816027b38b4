#pragma once
// Dense matrix products, through oneDNN (kernels/gemm*.cc are the only files that use it).
//
// In f32 a result row depends on its input row and the weight alone: never on the number of rows or threads. Tiles are
// a function of the shapes, each is computed by one thread, and row counts at which oneDNN would sum in another order
// are padded with zero rows or multiplied in its order by a kernel of our own; gemm_test.cc asserts it bit for bit. In
// bf16 products are exact, sums are f32; the same holds from 16 rows on, fewer go through a kernel of our own that
// sums in another order. Quantized weights are read as they are stored by up to 8 rows; for more their tiles become
// what the activations are, as if they had been so before.

#include "kernels/gemm/quant_matrix.h"
#include "tensor/tensor.h"

namespace taipan {

enum class Accumulate { kWrite, kAdd };

// A linear layer's weight [N, K] (N outputs, K inputs) as products read it: a view of what is in memory.
struct LinearWeight {
  ConstMatrixView f32;
  ConstMatrixView bf16 = {};   // for products with bf16 activations
  QuantMatrixView quant = {};  // alone: for products with either, forward

  int64_t outputs() const { return quant ? quant.rows : f32 ? f32.rows : bf16.rows; }
  int64_t inputs() const { return quant ? quant.cols : f32 ? f32.cols : bf16.cols; }
};

// While one that is on lives, Linear on this thread gives each row the bits that it has alone, however many there are:
// in bf16 and with quantized weights, kernels of a few rows and of many sum in another order.
class RowsAlone {
 public:
  explicit RowsAlone(bool on);
  ~RowsAlone();
  RowsAlone(const RowsAlone&) = delete;
  RowsAlone& operator=(const RowsAlone&) = delete;

 private:
  const bool before_;
};

// The element type of x (dy) chooses the arithmetic: f32, or bf16 with sums in f32 and the weight in bf16. Results
// are f32 or bf16 (f32 alone with kAdd).
//
// y[T, N] = x[T, K] W^T, or += with kAdd.
void Linear(ConstMatrixView x, const LinearWeight& w, MatrixView y, Accumulate acc = Accumulate::kWrite);
// The same for the rows [row_begin, row_begin + y.cols) of W: a slice of the vocabulary.
void LinearSlice(ConstMatrixView x, const LinearWeight& w, int64_t row_begin, MatrixView y);
// dx[T, K] = dy[T, N] W.
void LinearBackwardInput(ConstMatrixView dy, const LinearWeight& w, MatrixView dx, Accumulate acc = Accumulate::kWrite);
// dW[N, K] += dy[T, N]^T x[T, K], dW in f32.
void LinearBackwardWeight(ConstMatrixView dy, ConstMatrixView x, MatrixView dw);

// C[M, N] = A B, A B^T or A^T B for `taipan bench roof` and tests: f32 or bf16 (C f32 or bf16), or u8 by i8 with C i32
// (for CPUs with HasInt8Products of gemm_tile.h); no padding.
void MatMul(ConstMatrixView a, bool transpose_a, ConstMatrixView b, bool transpose_b, MatrixView c, Accumulate acc);

}  // namespace taipan
