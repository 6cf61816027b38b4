#pragma once
// Matrices times a number: multipliers that a model has between its layers.

#include "tensor/tensor.h"

namespace taipan {

// to = s * from, of the same shape, each f32 or bf16; to may be from.
void Scale(ConstMatrixView from, float s, MatrixView to);
// y += s * x, both f32.
void AddScaled(ConstMatrixView x, float s, MatrixView y);
// y += share * (x - y), both f32: a moving average.
void MoveTowards(ConstMatrixView x, float share, MatrixView y);

}  // namespace taipan
