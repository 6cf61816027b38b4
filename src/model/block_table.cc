#include "model/block_table.h"

#include <algorithm>

#include "layers/attention_block.h"
#include "layers/mamba2_block.h"
#include "layers/mamba2_mlp_block.h"
#include "layers/selective_attention.h"

namespace taipan {
namespace {

Mamba2Dims Mamba2DimsOf(const ModelConfig& c) {
  Mamba2Dims dims;
  dims.d_model = c.hidden_size;
  dims.ssd = {c.ssm_heads(), c.head_dim, c.state_size, c.n_groups, SsdChunk(c.chunk_size)};
  dims.conv_width = c.conv_kernel;
  dims.dt_min = static_cast<float>(c.time_step_limit[0]);
  dims.dt_max = static_cast<float>(c.time_step_limit[1]);
  dims.eps = static_cast<float>(c.rms_norm_eps);
  return dims;
}

AttentionDims AttentionDimsOf(const ModelConfig& c, int64_t window) {
  AttentionDims dims;
  dims.d_model = c.hidden_size;
  dims.ff = c.intermediate_size;
  dims.shape = {c.num_attention_heads, c.num_key_value_heads, c.attention_head_dim, window};
  dims.rope = RopeFrequencies(c);
  dims.eps = static_cast<float>(c.rms_norm_eps);
  return dims;
}

}  // namespace

int64_t SsdChunk(int64_t chunk_size) {
  int64_t chunk = std::min<int64_t>(chunk_size, 64);
  while (chunk_size % chunk != 0) --chunk;
  return chunk >= 16 ? chunk : chunk_size;
}

std::unique_ptr<Block> MakeBlock(LayerKind kind, const ModelConfig& c) {
  switch (kind) {
    case LayerKind::kMamba2:
      return MakeMamba2Block(Mamba2DimsOf(c));
    case LayerKind::kMamba2Mlp:
      return MakeMamba2MlpBlock(Mamba2DimsOf(c), c.intermediate_size);
    case LayerKind::kAttention:
      return MakeAttentionBlock(AttentionDimsOf(c, 0));
    case LayerKind::kSlidingAttention:
      return MakeAttentionBlock(AttentionDimsOf(c, c.sliding_window));
    case LayerKind::kSelectiveAttention:
      return MakeSelectiveAttention(AttentionDimsOf(c, c.sliding_window), c.attention_budget);
  }
  CHECK(false);
  return nullptr;
}

}  // namespace taipan
