#pragma once
// A feed-forward branch without a gate: h += out_multiplier * down(max(up n, 0)^2) with n = RMSNorm(h).

#include "layers/mlp.h"

namespace taipan {

std::unique_ptr<Branch> MakeRelu2Mlp(const MlpDims& dims);

}  // namespace taipan
