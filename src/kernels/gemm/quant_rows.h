#pragma once
// Products of a few rows with quantized weights, as decoding needs them: bound by reading the weight once.
//
// A row is rounded to 15 bits and a sign, relative to the largest of 32 numbers (bf16 has 8 bits): far below what the
// weight was rounded by. Sums over 32 columns are exact, in integers; those of the runs are added in order, in f32.

#include "kernels/gemm/quant_matrix.h"

namespace taipan {

constexpr int64_t kFewQuantRows = 8;

// 32 numbers of a row: scale * (128 high + low). NaN for the scale where one of them is not finite.
struct alignas(16) ActivationRun {
  int8_t high[32], low[32];
  float scale;
  int32_t sum[2];  // of 128 high + low, of each half
};

// y[T, N] = x[T, K] W^T, or += with add, made for T <= kFewQuantRows; x and y f32 or bf16 (y f32 with add). A row's
// bits depend on it and the weight alone.
void QuantRowsProduct(ConstMatrixView x, const QuantMatrixView& w, MatrixView y, bool add);

// to [count, K] (f32 or bf16) = rows of the weight, as DecodeRow gives them.
void DecodeRows(const QuantMatrixView& w, int64_t first, int64_t count, MatrixView to);

// Whether the product runs AVX512-VNNI; without it, or forbidden (tests), in 16-bit products.
bool UsesVnni();
void AllowVnni(bool allowed);

}  // namespace taipan
