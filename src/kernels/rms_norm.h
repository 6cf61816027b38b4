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
struct RmsNormGradients {
  ConstMatrixView dy;  // of y's type
  MatrixView dx;       // of x's type; may be dy with kWrite
  Accumulate acc = Accumulate::kWrite;
  float* dweight = nullptr;  // [d], added to
};
// inv_rms as the forward left it.
void RmsNormBackward(ConstMatrixView x, const float* weight, const float* inv_rms, const RmsNormGradients& out);

// The gated form: all views are of one type; v = y * silu(z) is not rounded to it.
struct GatedNormInputs {
  ConstMatrixView y, z;
  const float* weight = nullptr;  // [d]
  int64_t groups = 1;             // of d / groups channels
  float eps = 0;                  // forward
};
struct GatedNormGradients {
  ConstMatrixView dout;
  MatrixView dy, dz;         // written; may be y, z or dout
  float* dweight = nullptr;  // [d], added to
};

// out = RMSNorm of each group of v; it may be y or z. inv_rms [T, groups] where not null.
void GatedRmsNorm(const GatedNormInputs& in, MatrixView out, float* inv_rms, Arena& scratch);
// v is recomputed.
void GatedRmsNormBackward(const GatedNormInputs& in, const float* inv_rms, const GatedNormGradients& out);

}  // namespace taipan
