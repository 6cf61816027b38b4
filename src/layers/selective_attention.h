#pragma once
// The Selective Attention Layer (Taipan, sections 3.1-3.2): a gate picks tokens; for those, sliding-window attention
// over the keys of every token refines h <- (1 - alpha) h + alpha o; the others keep h; then the SwiGLU half for all.

#include "layers/attention_core.h"
#include "layers/swiglu_mlp.h"

namespace taipan {

struct SelectiveAttentionParams : BlockParams {
  explicit SelectiveAttentionParams(const AttentionDims& dims)
      : norm({dims.d_model}),
        gate_weight({2, dims.d_model}),
        gate_bias({2}),
        attention(dims),
        mlp(dims.d_model, dims.ff) {}
  Tensor norm;                    // [d]
  Tensor gate_weight, gate_bias;  // [2, d], [2]
  AttentionProjections attention;
  MlpParams mlp;
  void ForEach(const ParamVisitor& visit) override;
};

// budget: expected share of selected tokens, for Cost only.
std::unique_ptr<Block> MakeSelectiveAttention(const AttentionDims& dims, double budget);

}  // namespace taipan
