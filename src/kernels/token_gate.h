#pragma once
// The gate that selects tokens (Taipan, section 3.1): s = W u + b in R^2, alpha = softmax(s)[1] always without noise,
// selected where (s1 + g1) - (s0 + g0) > delta, and the straight-through surrogate m_soft, the sigmoid of
// ((s1 + g1) - (s0 + g0) - delta) / tau.

#include <cstdint>

#include "tensor/tensor.h"

namespace taipan {

struct GateValues {
  float* margin = nullptr;      // [T] s1 - s0, without noise
  float* alpha = nullptr;       // [T]
  float* m_soft = nullptr;      // [T], null at inference
  uint8_t* selected = nullptr;  // [T]
};

// u [T, d] normalised hidden rows (f32 or bf16; all else is f32), weight [2, d], bias [2];
// noise [T, 2] Gumbel values or null; delta: threshold.
void TokenGate(ConstMatrixView u, const float* weight, const float* bias, const float* noise, float tau, float delta,
               const GateValues& out);
// From dm (d total / d m) and dalpha [T]: du (added to), dweight [2, d] and dbias [2] (added to).
void TokenGateBackward(ConstMatrixView u, const float* weight, const GateValues& saved, float tau, const float* dm,
                       const float* dalpha, MatrixView du, float* dweight, float* dbias);

}  // namespace taipan
