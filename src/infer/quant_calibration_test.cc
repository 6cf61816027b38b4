#include "infer/quant_calibration.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "base/parallel.h"
#include "formats/ggml_quantize.h"
#include "infer/divergence.h"
#include "infer/test_model.h"
#include "model/quantize.h"

namespace taipan {
namespace {

using testing::HasSubstr;

ModelConfig Config(LayerKind kind, bool tied = true) {
  ModelConfig config = TinyConfig(kind);
  config.tie_word_embeddings = tied;
  config.intermediate_size = 64;  // whole blocks of 32
  return config;
}

// Each token follows from the one before, with some freedom: inputs have directions of their own.
std::vector<int32_t> ChainTokens(int64_t n, uint32_t stream) {
  std::vector<int32_t> tokens = RandomTokens(n, stream, 4);
  for (size_t i = 1; i < tokens.size(); ++i) tokens[i] = (tokens[i - 1] * 5 + tokens[i] * 3) % 61;
  return tokens;
}

TypeOfTensor Types(const ModelConfig& config) {
  return QuantTypes(config, GgmlType::kQ4_0, {{"lm_head", GgmlType::kQ4_0}});
}

LanguageModel Nearest(const ModelConfig& config) {
  LanguageModel model = TinyModel(config);
  const TypeOfTensor types = Types(config);
  model.params().ForEach([&](Weight& w) {
    if (w.spec.role != Role::kLinear) return;
    const GgmlType type = types({.name = w.spec.name, .shape = w.spec.shape, .parameter = w.spec.name});
    std::vector<uint8_t> blocks(static_cast<size_t>(w.f32.size() / BlockElements(type) * BlockBytes(type)));
    ASSERT_TRUE(Quantize(type, w.F32(), w.f32.size(), blocks.data()));
    Dequantize(type, blocks.data(), w.f32.size(), w.F32());
  });
  return model;
}

// On another text of the kind; every kind of layer.
TEST(QuantCalibration, PredictionsChangeLessThanWithTheNearestValues) {
  const std::vector<int32_t> tokens = ChainTokens(1024, 1), other = ChainTokens(256, 2);
  double calibrated = 0, nearest = 0;
  for (const LayerKind kind : AllKinds()) {
    const ModelConfig config = Config(kind);
    const LanguageModel before = TinyModel(config);
    LanguageModel model = TinyModel(config);
    const RoundedBlocks rounded = CalibrateBlocks(model, Types(config), {.tokens = tokens, .context = 64});
    model.SetDType(DType::kF32);
    calibrated += CompareModels(before, model, other, 64).mean_kl;
    nearest += CompareModels(before, Nearest(config), other, 64).mean_kl;
    model.params().ForEach([&](Weight& w) {
      EXPECT_EQ(rounded.count(w.spec.name), w.spec.role == Role::kLinear ? 1u : 0u) << w.spec.name;
    });
  }
  EXPECT_LE(calibrated, 0.85 * nearest);
}

TEST(QuantCalibration, AnEmbeddingThatIsNoHeadIsLeftToTheWriter) {
  const ModelConfig config = Config(LayerKind::kMamba2, /*tied=*/false);
  LanguageModel model = TinyModel(config);
  const std::vector<int32_t> tokens = ChainTokens(1024, 1);
  const RoundedBlocks rounded = CalibrateBlocks(model, Types(config), {.tokens = tokens, .context = 64});
  EXPECT_EQ(rounded.count("model.embeddings.weight"), 0u);
  EXPECT_EQ(rounded.count("lm_head.weight"), 1u);
}

TEST(QuantCalibration, ThreadsChangeNoBit) {
  const ModelConfig config = Config(LayerKind::kSelectiveAttention);
  const std::vector<int32_t> tokens = ChainTokens(1500, 1);
  const int threads = NumThreads();
  std::vector<RoundedBlocks> results;
  for (const int n : {1, 3}) {
    SetNumThreads(n);
    LanguageModel model = TinyModel(config);
    results.push_back(CalibrateBlocks(model, Types(config), {.tokens = tokens, .context = 100}));
  }
  SetNumThreads(threads);
  for (const auto& [name, blocks] : results[0]) {
    const Tensor& other = results[1].at(name);
    EXPECT_EQ(std::memcmp(blocks.data(), other.data(), static_cast<size_t>(blocks.bytes())), 0) << name;
  }
}

TEST(QuantCalibration, LongTextsAreReadInEvenDistances) {
  const ModelConfig config = Config(LayerKind::kMamba2);
  LanguageModel model = TinyModel(config);
  std::vector<int32_t> tokens = ChainTokens(5000, 1);
  int64_t steps = 0, all = 0;
  QuantCalibration calibration = {.tokens = tokens, .context = 128, .most_tokens = 1100};
  calibration.on_progress = [&](int64_t done, int64_t of) {
    EXPECT_EQ(done, ++steps);
    all = of;
  };
  CalibrateBlocks(model, Types(config), calibration);
  EXPECT_EQ(steps, all);
  EXPECT_EQ(all, 5);  // four branches and the head read eight windows in one batch
}

TEST(QuantCalibration, WhatCannotBeIsRefused) {
  const ModelConfig config = Config(LayerKind::kMamba2, /*tied=*/false);
  LanguageModel model = TinyModel(config);
  std::vector<int32_t> tokens = ChainTokens(1024, 1);
  const auto complaint = [&]() -> std::string {
    try {
      CalibrateBlocks(model, Types(config), {.tokens = tokens, .context = 64, .where = "a.txt"});
    } catch (const UserError& e) {
      return e.what();
    }
    return "";
  };
  tokens.back() = 256;
  EXPECT_THAT(complaint(), HasSubstr("a.txt"));
  tokens.pop_back();
  EXPECT_THAT(complaint(), HasSubstr("a.txt: too short to calibrate with, expected at least 1024 tokens, found 1023"));
  tokens.push_back(0);
  model.params().head().F32()[7] = 1e15f;
  EXPECT_THAT(complaint(), HasSubstr("lm_head.weight: cannot be stored as Q4_0"));
  model.params().embedding.F32()[0] = NAN;
  EXPECT_THAT(complaint(), HasSubstr("a.txt: the inputs of model.layers.0.mixer.in_proj.weight are not finite"));
}

}  // namespace
}  // namespace taipan
