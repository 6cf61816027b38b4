#pragma once
// Between f32 and bf16, rounded to nearest, ties to even.

#include "tensor/tensor.h"

namespace taipan {

// to = from, of the same shape, each f32 or bf16 (of one type: a copy) with any row stride. They do not overlap.
void Convert(ConstMatrixView from, MatrixView to);

// x itself where it has that type, else a converted copy.
inline ConstMatrixView InDType(ConstMatrixView x, DType dtype, Arena& arena) {
  if (x.dtype == dtype) return x;
  const MatrixView copy = arena.Matrix(x.rows, x.cols, dtype);
  Convert(x, copy);
  return copy;
}

}  // namespace taipan
