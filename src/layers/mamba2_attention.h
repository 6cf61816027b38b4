#pragma once
// Mamba-2 and attention side by side: h += mixer(n) + attention(n) with n = RMSNorm(h).

#include "layers/attention_core.h"
#include "layers/mamba2_core.h"

namespace taipan {

std::unique_ptr<Branch> MakeMamba2Attention(const Mamba2Dims& mamba2, const AttentionDims& attention);

}  // namespace taipan
