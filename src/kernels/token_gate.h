#pragma once
// The gate that selects tokens (Taipan, section 3.1): s = W u + b in R^2, alpha = softmax(s)[1] always without noise,
// selected where (s1 + g1) - (s0 + g0) > delta, and the straight-through surrogate m_soft, the sigmoid of
// ((s1 + g1) - (s0 + g0) - delta) / tau.

#include <cstdint>

#include "tensor/tensor.h"

namespace taipan {

struct GateInputs {
  ConstMatrixView u;              // [T, d] normalised hidden rows, f32 or bf16; all else is f32
  const float* weight = nullptr;  // [2, d]
  const float* bias = nullptr;    // [2], forward
  const float* noise = nullptr;   // [T, 2] Gumbel values, forward; null: none
  float tau = 1;
  float delta = 0;  // threshold, forward
};

struct GateValues {
  float* margin = nullptr;      // [T] s1 - s0, without noise
  float* alpha = nullptr;       // [T]
  float* m_soft = nullptr;      // [T], null at inference
  uint8_t* selected = nullptr;  // [T]
};

struct GateGradients {
  const float* dm = nullptr;      // [T] d total / d m
  const float* dalpha = nullptr;  // [T]
  MatrixView du;                  // [T, d], added to
  float* dweight = nullptr;       // [2, d], added to
  float* dbias = nullptr;         // [2], added to
};

void TokenGate(const GateInputs& in, const GateValues& out);
void TokenGateBackward(const GateInputs& in, const GateValues& saved, const GateGradients& out);

}  // namespace taipan
