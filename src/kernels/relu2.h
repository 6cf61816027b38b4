#pragma once
// The squared rectifier y = max(x, 0)^2. [T, F] views, all f32 or all bf16; arithmetic in f32.

#include "tensor/tensor.h"

namespace taipan {

void Relu2(ConstMatrixView x, MatrixView y);
// Writes dx = 2 max(x, 0) dy (which may be x or dy).
void Relu2Backward(ConstMatrixView x, ConstMatrixView dy, MatrixView dx);

}  // namespace taipan
