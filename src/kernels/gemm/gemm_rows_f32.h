#pragma once
// Products of a few rows with an f32 weight, as decoding needs them: bound by reading the weight once, with the bits of
// oneDNN's product of many rows.
//
// oneDNN sums an element over RowRule::chain columns by one chain of fused multiply-adds, and gemm.cc adds the sums of
// such blocks in order. That is found by trying; a trial at the first product shows whether it holds with this CPU and
// this version.

#include "tensor/tensor.h"

namespace taipan {

// Whether a trial gave the same bits and weights of so many rows are among those that it stands for.
bool FewRowsMatchInF32(int64_t weight_rows);

// y[T, N] = x[T, K] W^T, or += with add, all f32, rows of w [N, K] adjacent. Made for fewer rows than RowRule's least.
void FewRowsProductF32(ConstMatrixView x, ConstMatrixView w, MatrixView y, bool add);

}  // namespace taipan
