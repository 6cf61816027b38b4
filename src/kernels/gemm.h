#pragma once
// Dense matrix products, through oneDNN (the only file that uses it is gemm.cc).
//
// A result row depends on its input row and the weight alone: never on the number of rows or threads. Tiles are a
// function of the shapes, each is computed by one thread, and row counts at which oneDNN would sum in another order are
// padded with zero rows. gemm_test.cc asserts it bit for bit.

#include "tensor/tensor.h"

namespace taipan {

enum class Accumulate { kWrite, kAdd };

// A linear layer's weight [N, K] (N outputs, K inputs). In training `master` is f32; at most one compute copy (bf16
// blocked, int8, int4) joins it here later. Weights are const while running.
struct LinearWeight {
  Tensor master;  // [N, K] f32

  int64_t outputs() const { return master.shape()[0]; }
  int64_t inputs() const { return master.shape()[1]; }
};

// y[T, N] = x[T, K] W^T, or += with kAdd.
void Linear(ConstMatrixView x, const LinearWeight& w, MatrixView y, Accumulate acc = Accumulate::kWrite);
// The same for the rows [row_begin, row_begin + y.cols) of W: a slice of the vocabulary.
void LinearSlice(ConstMatrixView x, const LinearWeight& w, int64_t row_begin, MatrixView y);
// dx[T, K] = dy[T, N] W.
void LinearBackwardInput(ConstMatrixView dy, const LinearWeight& w, MatrixView dx, Accumulate acc = Accumulate::kWrite);
// dW[N, K] += dy[T, N]^T x[T, K].
void LinearBackwardWeight(ConstMatrixView dy, ConstMatrixView x, MatrixView dw);

// C[M, N] = A B, A B^T or A^T B for `taipan bench roof` and tests: plain f32, no padding.
void MatMul(ConstMatrixView a, bool transpose_a, ConstMatrixView b, bool transpose_b, MatrixView c, Accumulate acc);

}  // namespace taipan
