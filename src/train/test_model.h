#pragma once
// For tests: a model and data small enough to train in milliseconds.

#include <memory>

#include "base/parallel.h"
#include "base/rng.h"
#include "train/trainer.h"

namespace taipan {

inline ModelConfig TestConfig(int64_t vocab_size = 97) {
  ModelConfig config;
  config.vocab_size = vocab_size;
  config.hidden_size = 32;
  config.intermediate_size = 64;
  config.layer_pattern = {LayerKind::kMamba2, LayerKind::kMamba2, LayerKind::kSelectiveAttention};
  config.head_dim = 16;
  config.state_size = 8;
  config.chunk_size = 16;
  config.num_attention_heads = config.num_key_value_heads = 2;
  config.attention_head_dim = 16;
  config.sliding_window = 16;
  return config;
}

inline LanguageModel TestModel(const ModelConfig& config = TestConfig()) {
  SetNumThreads(1);  // threads cost more than they bring at this size
  LanguageModel model(config);
  model.Initialise(/*seed=*/5, /*gate_bias=*/1);
  return model;
}

// A sequence that can be learnt: each id follows from the one before but for some noise.
inline std::vector<int32_t> TestTokens(int64_t n, int64_t vocab_size = 97) {
  std::vector<int32_t> tokens(static_cast<size_t>(n));
  int64_t id = 0;
  for (int64_t i = 0; i < n; ++i) {
    const uint64_t jump = RandomBelow({.seed = 1, .stream = kTestStream}, static_cast<uint64_t>(i), 4);
    id = (id * 5 + 1 + static_cast<int64_t>(jump)) % vocab_size;
    tokens[static_cast<size_t>(i)] = static_cast<int32_t>(id);
  }
  return tokens;
}

inline TrainSettings TestSettings() {
  TrainSettings s;
  s.context = 24;
  s.batch_size = 4;
  s.steps = 10;
  s.warmup_steps = 2;
  s.learning_rate = 1e-2;
  s.budget_loss_weight = 1.0;
  s.budget_loss_weight_start = 0.0;
  s.budget_ramp = "2:8";
  return s;
}

// A corpus and a trainer on it.
struct TestTraining {
  explicit TestTraining(const TrainSettings& settings, const ModelConfig& config = TestConfig())
      : corpus(TestTokens(2000, config.vocab_size), config.vocab_size, "test tokens"),
        trainer(TestModel(config), settings,
                std::make_shared<CorpusSource>(
                    WindowLoader(corpus, settings.context, settings.batch_size, WindowOrder::kShuffled, 3))) {}
  Corpus corpus;
  ModelTrainer trainer;
};

// All weights, one after the other.
inline std::vector<float> Weights(ModelTrainer& trainer) {
  std::vector<float> all;
  trainer.model().params().ForEach(
      [&](Weight& weight) { all.insert(all.end(), weight.F32(), weight.F32() + weight.f32.size()); });
  return all;
}

}  // namespace taipan
