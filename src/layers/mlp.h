#pragma once
// The feed-forward branch: h += out_multiplier * down(silu(gate_multiplier * gate n) * up n) with n = RMSNorm(h).

#include "layers/branch.h"

namespace taipan {

struct MlpDims {
  int64_t d_model = 0, ff = 0;
  float eps = 1e-5f;
  float gate_multiplier = 1, out_multiplier = 1;
};

std::unique_ptr<Branch> MakeSwigluMlp(const MlpDims& dims);

}  // namespace taipan
