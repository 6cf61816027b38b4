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

// x, y [T, C], weight [C, W], bias [C]. y is not x. 2 <= W <= 8. Rows of y in no segment are left alone.
void CausalConv1dSilu(ConstMatrixView x, const float* weight, const float* bias, int64_t width,
                      std::span<const ConvSegment> segments, MatrixView y);
// Writes dx, which is neither x nor dy; adds to dweight [C, W] and dbias [C]. The pre-activation is recomputed.
// segments[i].state_in must hold the values of the forward.
void CausalConv1dSiluBackward(ConstMatrixView x, const float* weight, const float* bias, int64_t width,
                              std::span<const ConvSegment> segments, ConstMatrixView dy, MatrixView dx, float* dweight,
                              float* dbias);

}  // namespace taipan
