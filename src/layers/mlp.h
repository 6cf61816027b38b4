#pragma once
// The feed-forward branch: h += down(silu(gate n) * up n) with n = RMSNorm(h).

#include "layers/branch.h"

namespace taipan {

std::unique_ptr<Branch> MakeSwigluMlp(int64_t d_model, int64_t ff, float eps);

}  // namespace taipan
