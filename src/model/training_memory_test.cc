#include "model/training_memory.h"

#include <gtest/gtest.h>

#include <utility>

#include "model/config.h"
#include "model/presets.h"

namespace taipan {
namespace {

// jamba-1m with the layers of another hybrid.
ModelConfig Hybrid(std::vector<LayerKind> layers) {
  ModelConfig c = FindPreset("jamba-1m").config;
  c.layer_pattern = std::move(layers);
  return c;
}

ModelConfig Config(const std::string& name) {
  using enum LayerKind;
  ModelConfig c = name == "bamba"        ? Hybrid({kMamba2Mlp, kMamba2Mlp, kAttention, kMamba2Mlp})
                  : name == "nemotron-h" ? Hybrid({kMamba2, kRelu2Mlp, kAttentionOnly, kRelu2Mlp, kMamba2, kRelu2Mlp})
                  : name == "falcon-h1"  ? Hybrid({kMamba2Attention, kMamba2Attention, kMamba2Attention})
                                         : FindPreset(name).config;
  c.vocab_size = 2000;
  return c;
}

// One forward and backward of random tokens, every token selected where there are gates.
int64_t MeasuredBytes(const ModelConfig& c, const TrainingShape& shape) {
  LanguageModel model(c);
  model.Initialise(1, 3);
  model.SetDType(shape.dtype);
  ModelParams gradients = model.NewGradients();
  ForwardContext context;
  context.SetRecompute(shape.recompute);
  Batch batch;
  for (int64_t i = 0; i < shape.tokens(); ++i) {
    batch.tokens.push_back(static_cast<int32_t>(i * 7 % c.vocab_size));
    batch.targets.push_back(static_cast<int32_t>(i * 11 % c.vocab_size));
  }
  for (int64_t r = 0; r < shape.rows; ++r) batch.segments.push_back({r * shape.context, shape.context, r, 0});
  GateOptions gate;
  gate.rule = SelectionRule::kRandom;
  gate.share = 1;
  model.Forward(batch, gate, true, context);
  BudgetSums sums;
  const StepTotals totals = TotalsOf({&batch, 1});
  AddBudgetSums(context, shape.rows, sums);
  model.Backward(context, totals, sums, {}, gradients);
  return context.peak_bytes();
}

#ifdef __SANITIZE_ADDRESS__
constexpr bool kSlow = true;
#else
constexpr bool kSlow = false;
#endif

TEST(TrainingMemory, PredictsTheArenasOfAStep) {
  for (const char* name : {"taipan-1m", "mamba2-1m", "transformer-1m", "bamba", "nemotron-h", "falcon-h1"}) {
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      for (const Recompute recompute : {Recompute::kNone, Recompute::kMixer, Recompute::kBlock}) {
        if (kSlow && recompute != (dtype == DType::kF32 ? Recompute::kNone : Recompute::kBlock)) continue;
        const ModelConfig c = Config(name);
        const TrainingShape shape{1, 512, dtype, recompute};
        const TrainingMemory plan = PlanTraining(c, shape);
        const double measured = static_cast<double>(MeasuredBytes(c, shape));
        const double ratio = static_cast<double>(plan.kept + plan.scratch) / measured;
        // Threads' buffers and rounding to cache lines are left out; attention's reach beyond the estimate is small.
        EXPECT_GT(ratio, 0.85) << name << " " << static_cast<int>(dtype) << " " << static_cast<int>(recompute);
        EXPECT_LT(ratio, 1.25) << name << " " << static_cast<int>(dtype) << " " << static_cast<int>(recompute);
      }
    }
  }
}

TEST(TrainingMemory, RecomputationAndBF16SaveMemory) {
  const ModelConfig c = Config("taipan-190m");
  const auto total = [&](DType dtype, Recompute r) { return PlanTraining(c, {1, 4096, dtype, r}).total(); };
  EXPECT_LT(total(DType::kBF16, Recompute::kNone), total(DType::kF32, Recompute::kNone));
  EXPECT_LT(total(DType::kBF16, Recompute::kMixer), total(DType::kBF16, Recompute::kNone));
  EXPECT_LT(total(DType::kBF16, Recompute::kBlock), total(DType::kBF16, Recompute::kMixer));
}

}  // namespace
}  // namespace taipan
