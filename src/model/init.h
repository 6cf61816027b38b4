#pragma once
// Initial values of parameters.

#include "base/rng.h"
#include "layers/block.h"
#include "tensor/tensor.h"

namespace taipan {

// Fills the f32 tensor as info.init says (layers/block.h), normal weights with standard deviation `range`. Element i
// depends on (key, i) alone: give every parameter its own stream. residual_branches: of the whole model, for
// kNormalResidual. gate_bias: initial s_1 - s_0, for kGateBias.
void InitialiseParameter(const ParamInfo& info, Tensor& t, const RandomKey& key, double range, int residual_branches,
                         double gate_bias);

}  // namespace taipan
