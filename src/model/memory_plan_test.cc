#include "model/memory_plan.h"

#include "model/config_validate.h"
#include "model/parameters.h"
#include "model/presets.h"
#include "model/training_memory.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "model/flops.h"
#include "model/model.h"

namespace taipan {
namespace {

// d 8, d_inner 16, H 4 of P 4, N 6, G 2, W 3, Q 4; attention Ha 4, Hkv 2, dh 2, window 10; ff 12; V 11.
ModelConfig Small(std::vector<LayerKind> pattern) {
  ModelConfig c;
  c.vocab_size = 11;
  c.hidden_size = 8;
  c.intermediate_size = 12;
  c.layer_pattern = std::move(pattern);
  c.head_dim = 4;
  c.state_size = 6;
  c.n_groups = 2;
  c.conv_kernel = 3;
  c.chunk_size = 4;
  c.num_attention_heads = 4;
  c.num_key_value_heads = 2;
  c.attention_head_dim = 2;
  c.sliding_window = 10;
  c.attention_budget = 0.25;
  ValidateModelConfig(c, "test");
  return c;
}

int64_t CountOf(const MemoryPlan& plan, const std::string& group) {
  for (const ParameterCount& p : plan.parameters) {
    if (p.group == group) return p.count;
  }
  return 0;
}

TEST(MemoryPlan, CountsParametersByGroup) {
  ModelConfig c =
      Small({LayerKind::kMamba2, LayerKind::kSelectiveAttention, LayerKind::kMamba2, LayerKind::kAttention});
  c.tie_word_embeddings = false;
  const MemoryPlan plan = PlanMemory(c);
  EXPECT_EQ(CountOf(plan, "embedding"), 11 * 8);
  EXPECT_EQ(CountOf(plan, "mamba2 in_proj"), 2 * (16 + 16 + 12 + 12 + 4) * 8);
  EXPECT_EQ(CountOf(plan, "mamba2 conv"), 2 * (40 * 3 + 40));
  EXPECT_EQ(CountOf(plan, "mamba2 ssm scalars"), 2 * 3 * 4);
  EXPECT_EQ(CountOf(plan, "mamba2 norms"), 2 * (8 + 16));
  EXPECT_EQ(CountOf(plan, "mamba2 out_proj"), 2 * 16 * 8);
  EXPECT_EQ(CountOf(plan, "attention q"), 2 * 8 * 8);
  EXPECT_EQ(CountOf(plan, "attention k"), 2 * 4 * 8);
  EXPECT_EQ(CountOf(plan, "attention v"), 2 * 4 * 8);
  EXPECT_EQ(CountOf(plan, "attention o"), 2 * 8 * 8);
  EXPECT_EQ(CountOf(plan, "gate"), 2 * 8 + 2);
  EXPECT_EQ(CountOf(plan, "attention norms"), 2 * 8);
  EXPECT_EQ(CountOf(plan, "mlp norms"), 2 * 8);
  EXPECT_EQ(CountOf(plan, "mlp"), 2 * 3 * 8 * 12);
  EXPECT_EQ(CountOf(plan, "final norm"), 8);
  EXPECT_EQ(CountOf(plan, "head"), 11 * 8);
  EXPECT_EQ(plan.parameters.size(), 16u);
  // 88 + 960 + 320 + 24 + 48 + 256 + 128 + 64 + 64 + 128 + 18 + 32 + 576 + 8 + 88
  EXPECT_EQ(plan.parameter_count, 2802);
  EXPECT_EQ(CountParameters(c), 2802);
  const TrainingMemory train = PlanTraining(c, {});
  EXPECT_EQ(train.weights, 4 * 2802);
  EXPECT_EQ(train.gradients, 4 * 2802);
  EXPECT_EQ(train.moments, 8 * 2802);
}

TEST(MemoryPlan, LeavesOutGroupsThatThePatternLacks) {
  const MemoryPlan mamba = PlanMemory(Small({LayerKind::kMamba2}));
  EXPECT_EQ(mamba.parameters.size(), 7u);
  EXPECT_EQ(CountOf(mamba, "mlp"), 0);
  EXPECT_EQ(CountOf(mamba, "head"), 0);
  const MemoryPlan transformer = PlanMemory(Small({LayerKind::kAttention}));
  EXPECT_EQ(transformer.parameters.size(), 9u);
  EXPECT_EQ(CountOf(transformer, "gate"), 0);
}

TEST(MemoryPlan, StateOfEveryKind) {
  const ModelConfig c = Small(
      {LayerKind::kMamba2Mlp, LayerKind::kSelectiveAttention, LayerKind::kSlidingAttention, LayerKind::kAttention});
  const MemoryPlan plan = PlanMemory(c, {4, 100});
  ASSERT_EQ(plan.run.size(), 2u);
  for (const RunCost& run : plan.run) {
    EXPECT_EQ(run.fixed_state_bytes, 4 * (4 * 4 * 6 + 2 * 40));
    EXPECT_EQ(run.weight_bytes, 4 * CountParameters(c));
    EXPECT_EQ(run.total_bytes(), run.weight_bytes + run.fixed_state_bytes + run.window_bytes + run.full_bytes);
  }
  EXPECT_EQ(plan.run[0].window_bytes, 4 * 2 * (2 * 4 * 4));  // two windowed blocks, k and v of 4 floats, 4 tokens
  EXPECT_EQ(plan.run[1].window_bytes, 4 * 2 * (2 * 4 * 10));
  EXPECT_EQ(plan.run[0].full_bytes, 4 * (2 * 4 * 4));
  EXPECT_EQ(plan.run[1].full_bytes, 4 * (2 * 4 * 100));
}

// The one counter of FLOPs (flops.h): the scan as recurrence, half of its own key for a query.
TEST(MemoryPlan, FlopsOfEveryKind) {
  const double head = 2 * 11 * 8;
  const auto flops = [](LayerKind kind, int64_t context) {
    return PlanMemory(Small({kind}), {context}).run[0].flops_per_token;
  };
  // in_proj 60*8, out_proj 16*8, conv 40*3; the recurrence 2 * 96.
  EXPECT_DOUBLE_EQ(flops(LayerKind::kMamba2, 7), head + 2 * (480 + 128 + 120 + 192));
  EXPECT_DOUBLE_EQ(flops(LayerKind::kMamba2Mlp, 7), head + 2 * (480 + 128 + 120 + 192 + 288));
  // Full attention over 100 tokens: 50 keys; k, v 64; q, o 128; scores and values 16 * 50; mlp 288.
  EXPECT_DOUBLE_EQ(flops(LayerKind::kAttention, 100), head + 2 * (64 + 128 + 800 + 288));
  // Window 10 over 100 tokens: (50 + 90 * 10) / 100 = 9.5 keys.
  EXPECT_DOUBLE_EQ(flops(LayerKind::kSlidingAttention, 100), head + 2 * (64 + 128 + 16 * 9.5 + 288));
  // A quarter of the queries, and the gate's 2 * 8.
  EXPECT_DOUBLE_EQ(flops(LayerKind::kSelectiveAttention, 100), head + 2 * (64 + (128 + 16 * 9.5) / 4 + 288 + 16));
  // Shorter than the window: 4 / 2 keys.
  EXPECT_DOUBLE_EQ(flops(LayerKind::kSlidingAttention, 4), head + 2 * (64 + 128 + 16 * 2.0 + 288));
  // What `bench` divides its measured rate by is the same number.
  const ModelConfig c = Small({LayerKind::kMamba2, LayerKind::kAttention});
  EXPECT_DOUBLE_EQ(PlanMemory(c, {100}).run[0].flops_per_token * 100,
                   TotalFlops(CostByOperation(c, {.phase = Phase::kScore, .context = 100})));
}

TEST(MemoryPlan, CountsWhatARunKeeps) {
  const ModelConfig config = Small({LayerKind::kMamba2, LayerKind::kAttention});
  const RunCost f32 = PlanMemory(config, {100}).run[0];
  const RunCost bf16 = PlanMemory(config, {100}, {.weight_bytes = 12345, .kv_dtype = DType::kBF16}).run[0];
  EXPECT_EQ(bf16.weight_bytes, 12345);
  EXPECT_EQ(bf16.fixed_state_bytes, f32.fixed_state_bytes);
  EXPECT_EQ(2 * bf16.full_bytes, f32.full_bytes);
  LanguageModel model(config);
  model.Initialise(1, 0.0);
  for (const DType kv : {DType::kF32, DType::kBF16, DType::kI8}) {
    model.SetKvDType(kv);
    SequenceState state;
    Batch batch;
    batch.tokens.assign(128, 1);  // a page
    batch.segments = {{.length = 128, .state_in = nullptr, .state_out = &state}};
    ForwardContext context;
    model.Forward(batch, {}, false, context);
    EXPECT_EQ(PlanMemory(config, {128}, {.kv_dtype = kv}).run[0].state_bytes(), state.bytes()) << NameOf(kv);
    EXPECT_GE(ScratchToRun(config, DType::kF32, 128), context.peak_bytes() / 2);
    EXPECT_LE(ScratchToRun(config, DType::kF32, 128), context.peak_bytes() * 4);
  }
  EXPECT_TRUE(KeepsAllKeys(config));
  EXPECT_FALSE(KeepsAllKeys(Small({LayerKind::kMamba2, LayerKind::kSlidingAttention})));
}

TEST(MemoryPlan, StandardContextsAndBounds) {
  EXPECT_EQ(StandardContexts(), (std::vector<int64_t>{4096, 131072, 1048576}));
  EXPECT_THROW(PlanMemory(Small({LayerKind::kAttention}), {0}), InternalError);
  // State of taipan does not grow past its window; a transformer's does.
  const MemoryPlan taipan = PlanMemory(FindPreset("taipan-190m").config);
  EXPECT_EQ(taipan.run[0].state_bytes(), taipan.run[2].state_bytes());
  // 18 blocks of (1536 * 128 + 3 * 1792) floats and 3 windows of 2048 tokens with 2 * 768 floats.
  EXPECT_EQ(taipan.run[2].state_bytes(), 4 * (18 * (196608 + 5376) + 3 * 2048 * 1536));
  const MemoryPlan transformer = PlanMemory(FindPreset("transformer-190m").config);
  EXPECT_EQ(transformer.run[2].state_bytes(), 256 * transformer.run[0].state_bytes());
  // The largest config that validates does not overflow.
  ModelConfig huge = Small({LayerKind::kAttention});
  huge.hidden_size = 1;
  huge.num_attention_heads = huge.num_key_value_heads = 1;
  huge.attention_head_dim = 2147483647;
  ValidateModelConfig(huge, "huge");
  EXPECT_EQ(PlanMemory(huge, {int64_t{1} << 30}).run[0].full_bytes, int64_t{1} << 62);
}

}  // namespace
}  // namespace taipan
