#pragma once
// RMSNorm(x) = x / sqrt(mean(x^2) + eps) * w, and Mamba-2's gated form (gate first, then norm within groups).
// All f32. Views are [T, d] with any row stride. Sums over rows run in fixed tiles: thread counts do not matter.

#include "kernels/gemm.h"
#include "tensor/tensor.h"

namespace taipan {

// y = RMSNorm(x). inv_rms [T] (1 / sqrt(mean + eps)) is written where not null. y may be x.
void RmsNorm(ConstMatrixView x, const float* weight, float eps, MatrixView y, float* inv_rms);
// dx (written or added to) and dweight (added to) from dy, with inv_rms as the forward left it. dx may be dy with
// kWrite.
void RmsNormBackward(ConstMatrixView x, const float* weight, const float* inv_rms, ConstMatrixView dy, MatrixView dx,
                     Accumulate acc, float* dweight);

// out = RMSNorm over each of `groups` slices of d / groups channels of v = y * silu(z). inv_rms [T, groups] where not
// null. out may be y or z.
void GatedRmsNorm(ConstMatrixView y, ConstMatrixView z, const float* weight, float eps, int64_t groups, MatrixView out,
                  float* inv_rms);
// Writes dy, dz (which may be y, z or dout); adds to dweight. Recomputes v from y and z.
void GatedRmsNormBackward(ConstMatrixView y, ConstMatrixView z, const float* weight, const float* inv_rms,
                          int64_t groups, ConstMatrixView dout, MatrixView dy, MatrixView dz, float* dweight);

}  // namespace taipan
