#pragma once
// Sums of few rows by the CPU's own bf16 instructions: those of gemm_rows.cc, but for their order and rounding.

#include "tensor/tensor.h"

namespace taipan {

// sums [T, N] = x[T, K] w[N, K]^T, T <= kFewRows. Where bf16_instructions allows them.
void FewRowsSumsAvx512BF16(ConstMatrixView x, ConstMatrixView w, float* sums);

}  // namespace taipan
