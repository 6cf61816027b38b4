#include "model/flops.h"

#include "model/presets.h"

#include <gtest/gtest.h>

#include <set>

namespace taipan {
namespace {

ModelConfig Mamba2(int64_t width, int64_t layers, int64_t vocab) {
  ModelConfig c;
  c.vocab_size = vocab;
  c.hidden_size = width;
  c.layer_pattern.assign(static_cast<size_t>(layers), LayerKind::kMamba2);
  return c;
}

ModelConfig Llama190m() {
  ModelConfig c;
  c.vocab_size = 32000;
  c.hidden_size = 768;
  c.intermediate_size = 2048;
  c.num_attention_heads = c.num_key_value_heads = 12;
  c.layer_pattern.assign(18, LayerKind::kAttention);
  c.tie_word_embeddings = false;
  return c;
}

double MegaFlopsAToken(const ModelConfig& config, const Workload& w) {
  return TotalFlops(CostByOperation(config, w)) / static_cast<double>(TokensOf(w)) * 1e-6;
}

double BytesOf(const std::vector<OpCost>& costs, const std::string& op) {
  for (const OpCost& cost : costs) {
    if (cost.op == op) return cost.bytes;
  }
  ADD_FAILURE() << op;
  return 0;
}

double FlopsOf(const std::vector<OpCost>& costs, const std::string& op) {
  for (const OpCost& cost : costs) {
    if (cost.op == op) return cost.flops;
  }
  ADD_FAILURE() << op;
  return 0;
}

// Figures of the comparison with other tools, to their printed digit: both sides must count alike.
TEST(Flops, AgreeWithTheComparisonOfTools) {
  const Workload train{.phase = Phase::kTrain, .context = 1024};
  EXPECT_NEAR(MegaFlopsAToken(Mamba2(768, 24, 50288), train), 830.0, 0.05);
  EXPECT_NEAR(MegaFlopsAToken(Llama190m(), train), 996.8, 0.05);
  EXPECT_NEAR(MegaFlopsAToken(Mamba2(256, 6, 256), train), 21.8, 0.05);
  EXPECT_NEAR(MegaFlopsAToken(Llama190m(), {.phase = Phase::kTrain, .context = 4096}), 1251.6, 0.05);
  EXPECT_NEAR(MegaFlopsAToken(Mamba2(768, 24, 50288), {.phase = Phase::kPrefill, .context = 4096}), 199.4, 0.05);
  EXPECT_NEAR(MegaFlopsAToken(Llama190m(), {.phase = Phase::kPrefill, .context = 4096}), 368.1, 0.05);
  // They printed 276.7 and 308.4 for decoding 32 tokens after 64: every token reaches the head.
  const Workload decode{.phase = Phase::kDecode, .context = 64, .tokens = 32};
  EXPECT_NEAR(MegaFlopsAToken(Mamba2(768, 24, 50288), decode), 276.7, 0.05);
  EXPECT_NEAR(MegaFlopsAToken(Llama190m(), decode), 308.4, 0.05);
}

TEST(Flops, TrainingIsThreeForwardsInEveryOperation) {
  const ModelConfig config = FindPreset("taipan-30m").config;
  const auto train = CostByOperation(config, {.phase = Phase::kTrain, .context = 512, .selected_share = 0.15});
  std::set<std::string> names;
  for (const OpCost& cost : train) {
    EXPECT_TRUE(names.insert(cost.op).second) << cost.op << " stands twice";
    EXPECT_GT(cost.bytes, 0) << cost.op;
    if (cost.op.ends_with(" backward")) continue;
    if (cost.op == "optimizer" || cost.op == "head, loss" || cost.op == "embedding") continue;
    EXPECT_EQ(FlopsOf(train, cost.op + " backward"), 2 * cost.flops) << cost.op;
  }
  const auto scored = CostByOperation(config, {.phase = Phase::kDecode, .tokens = 512, .selected_share = 0.15});
  EXPECT_EQ(FlopsOf(train, "head, loss"), 3 * FlopsOf(scored, "head"));
}

TEST(Flops, OnlySelectedQueriesAndVisibleKeysCount) {
  ModelConfig config = FindPreset("taipan-30m").config;
  config.sliding_window = 256;
  auto attention = [&](int64_t context, double share) {
    const Workload w{.phase = Phase::kPrefill, .context = context, .selected_share = share};
    return FlopsOf(CostByOperation(config, w), "attention") / static_cast<double>(context);
  };
  EXPECT_DOUBLE_EQ(attention(4096, 0.25), attention(4096, 1.0) / 4);
  const double width = static_cast<double>(config.num_attention_heads * config.attention_head_dim);
  // Three layers; up to the window half of the positions are seen, from there on all 256.
  EXPECT_DOUBLE_EQ(attention(256, 1.0), 3 * 4 * width * 128);
  EXPECT_DOUBLE_EQ(attention(512, 1.0), 3 * 4 * width * 192);
}

TEST(Flops, WeightsAreReadOncePerForward) {
  const ModelConfig config = FindPreset("mamba2-1m").config;
  auto bytes = [&](int64_t forwards, int64_t element_bytes) {
    const Workload w{
        .phase = Phase::kDecode, .context = 0, .tokens = 8, .forwards = forwards, .element_bytes = element_bytes};
    return TotalBytes(CostByOperation(config, w));
  };
  double weights = static_cast<double>(config.vocab_size * config.hidden_size);  // the head
  const double rows = static_cast<double>(2 * config.d_inner() + 2 * config.state_size + config.ssm_heads());
  weights +=
      static_cast<double>(config.num_layers() * config.hidden_size) * (rows + static_cast<double>(config.d_inner()));
  EXPECT_DOUBLE_EQ(bytes(8, 2) - bytes(7, 2), 2 * weights);
  EXPECT_LT(bytes(8, 2), bytes(8, 4));
}

TEST(Flops, WeightsThatNoQueryNeedsAreNotRead) {
  const ModelConfig config = FindPreset("taipan-30m").config;
  auto bytes = [&](double share, int64_t sequences) {
    const Workload w{
        .phase = Phase::kDecode, .context = 0, .tokens = 1, .sequences = sequences, .selected_share = share};
    return BytesOf(CostByOperation(config, w), "q_proj");
  };
  EXPECT_EQ(bytes(0, 1), 0);
  EXPECT_DOUBLE_EQ(bytes(0.5, 1), bytes(1, 1) / 2);
  // Two sequences at a half: three of four forwards read the weight; activations are those of one query.
  const double width = static_cast<double>(config.hidden_size), weight = 3 * 4 * width * width;
  EXPECT_DOUBLE_EQ(bytes(0.5, 2) - bytes(0.5, 1), weight / 4 + 3 * 4 * width);
}

}  // namespace
}  // namespace taipan
