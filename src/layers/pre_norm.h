#pragma once
// The norm that every branch begins with: u = RMSNorm(h), and its way back.

#include "layers/branch.h"

namespace taipan {

struct PreNormSaved {
  MatrixView h;              // [T, d] on entry; only where kept
  float* inv_rms = nullptr;  // [T]
  MatrixView u;              // [T, d] normalised, in the call's type
};

WeightSpec PreNormSpec(const char* name, const char* group, int64_t d_model);

void PreNorm(const Weight& norm, float eps, const ForwardCall& call, ConstMatrixView h, PreNormSaved& saved);
// dh [T, d] += gradient through the norm; du may be f32 or of the forward's type.
void PreNormBackward(const Weight& norm, const PreNormSaved& saved, ConstMatrixView du, MatrixView dh, Weight& grad);

}  // namespace taipan
