#pragma once
// Initial values of parameters.

#include "base/rng.h"
#include "layers/weight.h"

namespace taipan {

// Fills the bound f32 values as spec.init says (layers/spec.h), normal weights with standard deviation `range`. Element
// i depends on (key, i) alone: give every weight its own stream. residual_branches: of the whole model, for
// kNormalResidual. gate_bias: initial s_1 - s_0, for kGateBias.
void InitialiseWeight(Weight& weight, const RandomKey& key, double range, int residual_branches, double gate_bias);

}  // namespace taipan
