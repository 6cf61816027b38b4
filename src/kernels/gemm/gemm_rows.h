#pragma once
// Products of a few rows with a bf16 weight, as decoding needs them: bound by reading the weight once.

#include "tensor/tensor.h"

namespace taipan {

constexpr int64_t kFewRows = 8;  // above, packing the weight for a tile pays

// y[T, N] = x[T, K] W^T, or += with add, made for T <= kFewRows; x and w [N, K] (rows adjacent) in bf16, y f32 or
// bf16. A row's bits depend on it and the weight alone.
void FewRowsProduct(ConstMatrixView x, ConstMatrixView w, MatrixView y, bool add);

}  // namespace taipan
