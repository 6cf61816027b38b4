#pragma once
// Depthwise causal convolution of width W with bias, then SiLU (Mamba-2's conv over [x|B|C]):
// y_t = silu(b + sum_{k<W} w[:, k] * x_{t-W+1+k}), tap W-1 being the current token. x, y and their gradients are all
// f32 or all bf16; arithmetic, states, weights and their gradients are f32.

#include <span>

#include "tensor/tensor.h"

namespace taipan {

// Rows [begin, begin + length) of x are one run of consecutive tokens. What came before it is state_in [W-1, C], the
// last W-1 inputs, oldest first (null: zeros). state_out [W-1, C] (null: not wanted) gets the last W-1 inputs after
// the run; it may be state_in. In backward, dstate_out (null: zero) is dL/d state_out, dstate_in (null: dropped) is
// written and is not dstate_out.
struct ConvSegment {
  int64_t begin = 0, length = 0;
  const float* state_in = nullptr;
  float* state_out = nullptr;
  const float* dstate_out = nullptr;
  float* dstate_in = nullptr;
};

struct ConvInputs {
  ConstMatrixView x;              // [T, C]
  const float* weight = nullptr;  // [C, W]
  const float* bias = nullptr;    // [C]
  int64_t width = 4;              // W, 2 to 8
  std::span<const ConvSegment> segments;
};

struct ConvGradients {
  ConstMatrixView dy;        // [T, C]
  MatrixView dx;             // [T, C], written; neither x nor dy
  float* dweight = nullptr;  // [C, W], added to
  float* dbias = nullptr;    // [C], added to
};

// y [T, C] is not x. Its rows in no segment are left alone.
void CausalConv1dSilu(const ConvInputs& in, MatrixView y);
// The pre-activation is recomputed: segments[i].state_in must hold the values of the forward.
void CausalConv1dSiluBackward(const ConvInputs& in, const ConvGradients& out);

}  // namespace taipan
