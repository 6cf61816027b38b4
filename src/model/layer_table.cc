#include "model/layer_table.h"

#include <algorithm>

#include "layers/attention.h"
#include "layers/mamba2_attention.h"
#include "layers/mlp.h"
#include "layers/relu2_mlp.h"
#include "layers/selective_attention.h"
#include "model/config_validate.h"
#include "model/rope_scaling.h"

namespace taipan {
namespace {

std::unique_ptr<Branch> Mamba2Of(const ModelConfig& c) { return MakeMamba2(Mamba2DimsOf(c)); }
MlpDims MlpDimsOf(const ModelConfig& c) {
  return {.d_model = c.hidden_size,
          .ff = c.intermediate_size,
          .eps = static_cast<float>(c.rms_norm_eps),
          .gate_multiplier = static_cast<float>(c.mlp_gate_multiplier),
          .out_multiplier = static_cast<float>(c.mlp_out_multiplier)};
}
std::unique_ptr<Branch> MlpOf(const ModelConfig& c) { return MakeSwigluMlp(MlpDimsOf(c)); }

template <class... B>
Branches ListOf(B... branches) {
  Branches list;
  (list.push_back(std::move(branches)), ...);
  return list;
}

std::vector<Layer> LayersOf(const ModelConfig& config, const std::vector<double>& rope) {
  std::vector<Layer> layers;
  for (const LayerKind kind : config.layer_pattern) layers.push_back({kind, RowOf(kind).branches(config, rope)});
  return layers;
}

}  // namespace

const std::vector<LayerRow>& LayerTable() {
  using Config = ModelConfig;
  using Rope = std::vector<double>;
  static const std::vector<LayerRow> table = {
      {LayerKind::kMamba2,
       "mamba2",
       [](const Config& c, const Rope&) { return ListOf(Mamba2Of(c)); },
       {ValidateMamba2}},
      {LayerKind::kSelectiveAttention,
       "selective_attention",
       [](const Config& c, const Rope& rope) {
         return ListOf(MakeSelectiveAttention(AttentionDimsOf(c, c.sliding_window, rope), c.refinement), MlpOf(c));
       },
       {ValidateAttention, ValidateWindow, ValidateSelection, ValidateMlp}},
      {LayerKind::kAttention,
       "attention",
       [](const Config& c, const Rope& rope) { return ListOf(MakeAttention(AttentionDimsOf(c, 0, rope)), MlpOf(c)); },
       {ValidateAttention, ValidateMlp}},
      {LayerKind::kSlidingAttention,
       "sliding_attention",
       [](const Config& c, const Rope& rope) {
         return ListOf(MakeAttention(AttentionDimsOf(c, c.sliding_window, rope)), MlpOf(c));
       },
       {ValidateAttention, ValidateWindow, ValidateMlp}},
      {LayerKind::kMamba2Mlp,
       "mamba2_mlp",
       [](const Config& c, const Rope&) { return ListOf(Mamba2Of(c), MlpOf(c)); },
       {ValidateMamba2, ValidateMlp}},
      {LayerKind::kAttentionOnly,
       "attention_only",
       [](const Config& c, const Rope& rope) { return ListOf(MakeAttention(AttentionDimsOf(c, 0, rope))); },
       {ValidateAttention}},
      {LayerKind::kRelu2Mlp,
       "relu2_mlp",
       [](const Config& c, const Rope&) { return ListOf(MakeRelu2Mlp(MlpDimsOf(c))); },
       {ValidateMlp}},
      {LayerKind::kMamba2Attention,
       "mamba2_attention",
       [](const Config& c, const Rope& rope) {
         return ListOf(MakeMamba2Attention(Mamba2DimsOf(c), AttentionDimsOf(c, 0, rope)), MlpOf(c));
       },
       {ValidateMamba2, ValidateAttention, ValidateMlp}},
  };
  return table;
}

const LayerRow& RowOf(LayerKind kind) {
  for (const LayerRow& row : LayerTable()) {
    if (row.kind == kind) return row;
  }
  CheckFailed(__FILE__, __LINE__, "a layer kind without a row");
}

std::vector<Layer> MakeLayers(const ModelConfig& config) { return LayersOf(config, RopeFrequencies(config)); }

std::vector<Layer> DeclaredLayers(const ModelConfig& config) { return LayersOf(config, {}); }

bool AnyBranch(const ModelConfig& config, const std::function<bool(const Branch&)>& is) {
  for (const Layer& layer : DeclaredLayers(config)) {
    for (const auto& branch : layer.branches) {
      if (is(*branch)) return true;
    }
  }
  return false;
}

Mamba2Dims Mamba2DimsOf(const ModelConfig& c) {
  Mamba2Dims dims;
  dims.d_model = c.hidden_size;
  dims.ssd = {c.ssm_heads(), c.head_dim, c.state_size, c.n_groups, SsdChunk(c.chunk_size)};
  dims.conv_width = c.conv_kernel;
  dims.dt_min = static_cast<float>(c.time_step_limit[0]);
  dims.dt_max = static_cast<float>(c.time_step_limit[1]);
  dims.eps = static_cast<float>(c.rms_norm_eps);
  dims.gated_norm = c.gated_norm;
  std::transform(c.ssm_multipliers.begin(), c.ssm_multipliers.end(), dims.multipliers.begin(),
                 [](double m) { return static_cast<float>(m); });
  dims.out_multiplier = static_cast<float>(c.ssm_out_multiplier);
  return dims;
}

AttentionDims AttentionDimsOf(const ModelConfig& c, int64_t window, const std::vector<double>& rope) {
  AttentionDims dims;
  dims.d_model = c.hidden_size;
  dims.shape = {c.num_attention_heads, c.num_key_value_heads, c.attention_head_dim, window,
                static_cast<float>(c.attention_multiplier.value_or(0))};
  dims.rope = rope;
  dims.eps = static_cast<float>(c.rms_norm_eps);
  dims.out_multiplier = static_cast<float>(c.attention_out_multiplier);
  return dims;
}

int64_t SsdChunk(int64_t chunk_size) {
  int64_t chunk = std::min<int64_t>(chunk_size, 64);
  while (chunk_size % chunk != 0) --chunk;
  return chunk >= 16 ? chunk : chunk_size;
}

}  // namespace taipan
