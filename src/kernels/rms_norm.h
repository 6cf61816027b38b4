#pragma once
// RMSNorm(x) = x / sqrt(mean(x^2) + eps) * w, and Mamba-2's gated form (gate first, then norm within groups).
// Views are [T, d] with any row stride, f32 or bf16; arithmetic, weights and their gradients are f32. Sums over rows
// run in fixed tiles: thread counts do not matter.

#include "kernels/gemm/gemm.h"
#include "tensor/tensor.h"

namespace taipan {

// y = RMSNorm(x). inv_rms [T] (1 / sqrt(mean + eps)) is written where not null. y may be x. y is of x's type, or bf16
// of an f32 x.
void RmsNorm(ConstMatrixView x, const float* weight, float eps, MatrixView y, float* inv_rms);
// dx (written or added to, of x's type) and dweight (added to) from dy (of y's type), with inv_rms as the forward left
// it. dx may be dy with kWrite.
void RmsNormBackward(ConstMatrixView x, const float* weight, const float* inv_rms, ConstMatrixView dy, MatrixView dx,
                     Accumulate acc, float* dweight);

// out = RMSNorm over each of `groups` slices of d / groups channels of v = y * silu(z). inv_rms [T, groups] where not
// null. out may be y or z. All views are of one type; v is not rounded to it.
void GatedRmsNorm(ConstMatrixView y, ConstMatrixView z, const float* weight, float eps, int64_t groups, MatrixView out,
                  float* inv_rms, Arena& scratch);
// Writes dy, dz (which may be y, z or dout); adds to dweight. Recomputes v from y and z.
void GatedRmsNormBackward(ConstMatrixView y, ConstMatrixView z, const float* weight, const float* inv_rms,
                          int64_t groups, ConstMatrixView dout, MatrixView dy, MatrixView dz, float* dweight);

}  // namespace taipan
