#pragma once
// A Transformer++ block: h += o_proj(attention(RMSNorm(h))), then the SwiGLU half. Full causal with window 0, else
// sliding.

#include "layers/attention_core.h"
#include "layers/swiglu_mlp.h"

namespace taipan {

struct AttentionBlockParams : BlockParams {
  explicit AttentionBlockParams(const AttentionDims& dims)
      : norm({dims.d_model}), attention(dims), mlp(dims.d_model, dims.ff) {}
  Tensor norm;  // [d]
  AttentionProjections attention;
  MlpParams mlp;
  void ForEach(const ParamVisitor& visit) override;
};

std::unique_ptr<Block> MakeAttentionBlock(const AttentionDims& dims);

}  // namespace taipan
