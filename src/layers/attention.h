#pragma once
// The attention branch of a Transformer++: h += o_proj(attention(RMSNorm(h))). Full causal with window 0, else sliding.

#include "layers/attention_core.h"

namespace taipan {

std::unique_ptr<Branch> MakeAttention(const AttentionDims& dims);

}  // namespace taipan
