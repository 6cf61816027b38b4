#pragma once
// For tests: tiny models of every pattern, and token sequences.

#include <string>
#include <vector>

#include "base/rng.h"
#include "formats/ggml_quantize.h"
#include "model/model.h"
#include "model/presets.h"

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

inline const std::vector<std::string> kPatterns = {"taipan", "mamba2", "transformer", "jamba", "samba"};

// Of one of them, four layers.
inline LanguageModel TinyPatternModel(const std::string& pattern, uint64_t seed = 1) {
  ModelConfig config = TinyConfig(LayerKind::kAttention);
  config.rope_theta = 10000.0;
  config.layer_pattern = MakePattern(pattern, pattern == "transformer" ? 0 : 2, pattern == "mamba2" ? 0 : 2);
  return TinyModel(config, seed);
}

// How a model's weights are kept while it runs.
enum class Kept { kF32, kBF16, kQ8, kQ4 };
inline std::vector<Kept> AllKept() { return {Kept::kF32, Kept::kBF16, Kept::kQ8, Kept::kQ4}; }
inline const char* NameOf(Kept kept) { return std::vector{"f32", "bf16", "q8_0", "q4_0"}[static_cast<size_t>(kept)]; }

// Matrices whose rows hold whole blocks become quantized ones, as a file of them is bound.
inline void QuantizeMatrices(LanguageModel& model, GgmlType type = GgmlType::kQ8_0) {
  model.params().ForEach([&](Weight& weight) {
    if (!model.IsProduct(weight) || weight.spec.shape[1] % 32 != 0) return;
    const int64_t cols = weight.spec.shape[1];
    weight.quant = QuantMatrix(type, weight.spec.shape[0], cols);
    weight.quant.SetRows([&](int64_t row, int64_t count, uint8_t* to) {
      CHECK(Quantize(type, weight.F32() + row * cols, count * cols, to));
    });
    weight.f32 = weight.bf16 = Tensor();
  });
}

inline LanguageModel TinyPatternModel(const std::string& pattern, Kept kept) {
  LanguageModel model = TinyPatternModel(pattern);
  if (kept == Kept::kBF16) model.SetDType(DType::kBF16);
  if (kept == Kept::kQ8) QuantizeMatrices(model, GgmlType::kQ8_0);
  if (kept == Kept::kQ4) QuantizeMatrices(model, GgmlType::kQ4_0);
  return model;
}

inline std::vector<int32_t> RandomTokens(int64_t n, uint32_t stream = 0, int64_t vocab = 256) {
  std::vector<int32_t> tokens(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) {
    tokens[static_cast<size_t>(i)] = static_cast<int32_t>(
        RandomBelow({1, kTestStream + stream}, static_cast<uint64_t>(i), static_cast<uint64_t>(vocab)));
  }
  return tokens;
}

}  // namespace taipan
