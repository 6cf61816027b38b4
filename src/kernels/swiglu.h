#pragma once
// SwiGLU's elementwise part: y = silu(gate) * up. [T, F] views, all f32 or all bf16; arithmetic in f32.

#include "tensor/tensor.h"

namespace taipan {

void Swiglu(ConstMatrixView gate, ConstMatrixView up, MatrixView y);
// Writes dgate and dup (which may be gate and up themselves).
void SwigluBackward(ConstMatrixView gate, ConstMatrixView up, ConstMatrixView dy, MatrixView dgate, MatrixView dup);

}  // namespace taipan
