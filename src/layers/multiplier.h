#pragma once
// The multipliers that some models have between their products. A multiplier of 1 changes no bit and costs nothing.

#include "layers/weight.h"

namespace taipan {

// y = or += multiplier * x W^T, y in f32.
void ScaledLinear(ConstMatrixView x, const Weight& w, float multiplier, MatrixView y, Accumulate acc, Arena& scratch);
// multiplier * dh in `dtype`: the gradient of what the branch added to the stream.
ConstMatrixView ScaledGradient(ConstMatrixView dh, float multiplier, DType dtype, Arena& arena);
// m *= multiplier.
void Multiply(MatrixView m, float multiplier);

}  // namespace taipan
