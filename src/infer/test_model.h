#pragma once
// For tests: tiny models of every pattern, and token sequences.

#include <vector>

#include "base/rng.h"
#include "model/model.h"

namespace taipan {

// Blocks of `kind` between Mamba-2 blocks; pure where kind is kMamba2. The window of 24 and the chunk of 16 are passed
// several times within a hundred tokens.
inline ModelConfig TinyConfig(LayerKind kind) {
  ModelConfig config;
  config.vocab_size = 256;
  config.hidden_size = 32;
  config.intermediate_size = 48;
  config.layer_pattern = {LayerKind::kMamba2, kind, LayerKind::kMamba2, kind};
  config.head_dim = 16;
  config.state_size = 8;
  config.chunk_size = 16;
  config.num_attention_heads = 4;
  config.num_key_value_heads = 2;
  config.attention_head_dim = 8;
  config.sliding_window = 24;
  return config;
}

inline std::vector<LayerKind> AllKinds() {
  std::vector<LayerKind> kinds;
  for (const LayerRow& row : LayerTable()) kinds.push_back(row.kind);
  return kinds;
}

// A gate bias of 0 selects about half of the tokens. Larger embeddings than the usual initialisation's make the tokens
// matter to each other, so that a lost state shows.
inline LanguageModel TinyModel(const ModelConfig& config, uint64_t seed = 1) {
  LanguageModel model(config);
  model.Initialise(seed, /*gate_bias=*/0.0);
  model.params().ForEach([](Weight& weight) {
    if (weight.spec.init != Init::kNormal && weight.spec.init != Init::kNormalResidual) return;
    for (int64_t i = 0; i < weight.f32.size(); ++i) weight.F32()[i] *= 8.0f;
  });
  return model;
}

inline LanguageModel TinyModel(LayerKind kind, uint64_t seed = 1) { return TinyModel(TinyConfig(kind), seed); }

inline std::vector<int32_t> RandomTokens(int64_t n, uint32_t stream = 0, int64_t vocab = 256) {
  std::vector<int32_t> tokens(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) {
    tokens[static_cast<size_t>(i)] = static_cast<int32_t>(
        RandomBelow({1, kTestStream + stream}, static_cast<uint64_t>(i), static_cast<uint64_t>(vocab)));
  }
  return tokens;
}

}  // namespace taipan
