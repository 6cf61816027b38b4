// Configs of the hybrids of transformers: what becomes of them, and what is refused.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "model/hf_config.h"
#include "model/hf_config_test_text.h"

namespace taipan {
namespace {

using testing::AllOf;
using testing::HasSubstr;

ModelConfig With(const char* text, const Json& changes) {
  const CheckpointConfig read = ParseCheckpointConfig(text, "a");  // also of what JSON has no word for
  Json json = Json::parse(ForeignConfigJson(read.config, read.naming, "float32", "a"));
  json.update(changes);
  return ParseModelConfig(json.dump(), "a.json");
}

std::string ErrorOf(const char* text, const Json& changes) {
  try {
    With(text, changes);
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

TEST(HfHybrids, Granite) {
  const CheckpointConfig read = ParseCheckpointConfig(kHfGraniteText, "a");
  EXPECT_EQ(read.format, "Granite");
  const ModelConfig& c = read.config;
  EXPECT_EQ(c.layer_pattern, (std::vector<LayerKind>(2, LayerKind::kAttention)));
  EXPECT_EQ(c.embedding_multiplier, 12);
  EXPECT_EQ(c.attention_multiplier, 0.0078125);
  EXPECT_EQ(c.attention_out_multiplier, 0.22);
  EXPECT_EQ(c.mlp_out_multiplier, 0.22);
  EXPECT_EQ(c.logits_scaling, 16);
  EXPECT_EQ(c.rope_theta, 1e7);
  EXPECT_EQ(c.attention_head_dim, 8);
}

TEST(HfHybrids, GraniteHybrid) {
  const ModelConfig c = ParseModelConfig(kHfGraniteHybridText, "a");
  EXPECT_EQ(c.layer_pattern,
            (std::vector<LayerKind>{LayerKind::kMamba2Mlp, LayerKind::kAttention, LayerKind::kMamba2Mlp}));
  EXPECT_EQ(c.ssm_out_multiplier, 0.246);
  EXPECT_EQ(c.intermediate_size, 64);
  EXPECT_EQ(c.ssm_heads(), 8);
  EXPECT_FALSE(c.rope_theta);
  EXPECT_EQ(With(kHfGraniteHybridText, {{"position_embedding_type", "rope"}}).rope_theta, 10000);
  const Json words = {"linear_attention", "full_attention", "linear_attention"};  // of newer files
  EXPECT_EQ(With(kHfGraniteHybridText, {{"layer_types", words}}), With(kHfGraniteHybridText, Json::object()));
}

TEST(HfHybrids, NemotronH) {
  const ModelConfig c = ParseModelConfig(kHfNemotronHText, "a");
  EXPECT_EQ(c.layer_pattern,
            (std::vector<LayerKind>{LayerKind::kMamba2, LayerKind::kRelu2Mlp, LayerKind::kAttentionOnly,
                                    LayerKind::kMamba2, LayerKind::kRelu2Mlp}));
  EXPECT_EQ(c.d_inner(), 48);
  EXPECT_EQ(c.ssm_heads(), 6);
  EXPECT_EQ(c.time_step_limit, (std::array{0.001, std::numeric_limits<double>::infinity()}));
  EXPECT_FALSE(c.rope_theta);
  // The list says the same as the string, in both of its vocabularies, and goes first.
  for (const Json& list : {Json{"mamba", "mlp", "attention", "mamba", "mlp"},
                           Json{"linear_attention", "mlp", "full_attention", "linear_attention", "mlp"}}) {
    EXPECT_EQ(With(kHfNemotronHText, {{"layers_block_type", list}, {"hybrid_override_pattern", "M"}}), c);
  }
  EXPECT_EQ(With(kHfNemotronHText, {{"mamba_d_conv", 3}}).conv_kernel, 3);  // an older name
}

TEST(HfHybrids, FalconH1) {
  const ModelConfig c = ParseModelConfig(kHfFalconH1Text, "a");
  EXPECT_EQ(c.layer_pattern, (std::vector<LayerKind>(2, LayerKind::kMamba2Attention)));
  EXPECT_EQ(c.d_inner(), 48);
  EXPECT_EQ(c.gated_norm, GatedNorm::kNone);
  EXPECT_EQ(c.embedding_multiplier, 5.65);
  EXPECT_EQ(c.logits_scaling, 16);
  EXPECT_EQ(c.attention_multiplier, 0.5 * 4 / 4);  // key, twice what goes in, 1 / sqrt(16)
  EXPECT_EQ(c.attention_out_multiplier, 1.5);
  EXPECT_EQ(c.ssm_multipliers[0], 0.375 * 1.25);
  EXPECT_EQ(c.ssm_out_multiplier, 0.25);
  EXPECT_EQ(c.mlp_gate_multiplier, 0.875);
  EXPECT_EQ(c.mlp_out_multiplier, 0.3125);
  EXPECT_EQ(With(kHfFalconH1Text, {{"mamba_rms_norm", true}}).gated_norm, GatedNorm::kGateFirst);
  EXPECT_EQ(With(kHfFalconH1Text, {{"mamba_rms_norm", true}, {"mamba_norm_before_gate", true}}).gated_norm,
            GatedNorm::kNormFirst);
}

TEST(HfHybrids, OurOwnConfigKeepsEverything) {
  for (const char* text : {kHfGraniteText, kHfGraniteHybridText, kHfNemotronHText, kHfFalconH1Text}) {
    const ModelConfig c = ParseModelConfig(text, "a");
    EXPECT_EQ(ParseModelConfig(ToJson(c), "b"), c) << ToJson(c);
  }
}

TEST(HfHybrids, MixturesOfExpertsAreRefusedByName) {
  EXPECT_THAT(ErrorOf(kHfGraniteHybridText, {{"num_local_experts", 8}}),
              AllOf(HasSubstr("a.json: num_local_experts is not supported"), HasSubstr("mixture of experts")));
  EXPECT_THAT(ErrorOf(kHfNemotronHText, {{"hybrid_override_pattern", "ME*M-"}}),
              AllOf(HasSubstr("hybrid_override_pattern is not supported"), HasSubstr("mixture of experts")));
  EXPECT_THAT(ErrorOf(kHfNemotronHText, {{"layers_block_type", {"mamba", "moe"}}}),
              AllOf(HasSubstr("layers_block_type is not supported"), HasSubstr("mixture of experts")));
}

TEST(HfHybrids, WhatChangesTheComputationIsRefusedByName) {
  const struct {
    const char* text;
    Json change;
    const char* named;
  } cases[] = {
      {kHfGraniteText, {{"attention_bias", true}}, "attention_bias"},
      {kHfGraniteText, {{"mlp_bias", true}}, "mlp_bias"},
      {kHfGraniteText, {{"attention_multiplier", 0}}, "attention_multiplier"},
      {kHfGraniteText, {{"logits_scaling", 0}}, "logits_scaling"},
      {kHfGraniteHybridText, {{"mamba_proj_bias", true}}, "mamba_proj_bias"},
      {kHfGraniteHybridText, {{"mamba_conv_bias", false}}, "mamba_conv_bias"},
      {kHfGraniteHybridText, {{"mamba_n_heads", 7}}, "mamba_n_heads"},
      {kHfGraniteHybridText, {{"layer_types", {"mamba"}}}, "layer_types"},
      {kHfGraniteHybridText, {{"layer_types", {"mamba", "conv", "mamba"}}}, "\"conv\""},
      {kHfGraniteHybridText, {{"layer_types", "mamba"}}, "layer_types"},
      {kHfNemotronHText, {{"use_bias", true}}, "use_bias"},
      {kHfNemotronHText, {{"use_conv_bias", false}}, "use_conv_bias"},
      {kHfNemotronHText, {{"mlp_bias", true}}, "mlp_bias"},
      {kHfNemotronHText, {{"mlp_hidden_act", "silu"}}, "mlp_hidden_act"},
      {kHfNemotronHText, {{"hybrid_override_pattern", "M?"}}, "\"?\""},
      {kHfNemotronHText, {{"hybrid_override_pattern", ""}}, "layer_pattern"},
      {kHfNemotronHText, {{"hybrid_override_pattern", nullptr}}, "layers_block_type"},
      {kHfNemotronHText, {{"n_groups", 4}}, "n_groups"},
      {kHfFalconH1Text, {{"projectors_bias", true}}, "projectors_bias"},
      {kHfFalconH1Text, {{"mamba_d_ssm", 50}}, "mamba_n_heads"},
      {kHfFalconH1Text, {{"ssm_multipliers", {1, 2}}}, "ssm_multipliers"},
      {kHfFalconH1Text, {{"mlp_multipliers", {1, "2"}}}, "mlp_multipliers"},
      {kHfFalconH1Text, {{"lm_head_multiplier", 0}}, "lm_head_multiplier"},
  };
  for (const auto& c : cases) EXPECT_THAT(ErrorOf(c.text, c.change), HasSubstr(c.named)) << c.change;
}

// What a format has no key for is said, not left out.
TEST(HfHybrids, WritersRefuseWhatTheFormatCannotSay) {
  const auto error = [](const char* text, const std::function<void(ModelConfig&)>& change) {
    ModelConfig c = ParseModelConfig(text, "a");
    change(c);
    try {
      ForeignConfigJson(c, TransformersNaming(c, "the model"), "float32", "the model");
    } catch (const UserError& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  EXPECT_THAT(error(kHfGraniteText, [](ModelConfig& c) { c.mlp_gate_multiplier = 2; }), HasSubstr("no such arch"));
  EXPECT_THAT(error(kHfGraniteHybridText, [](ModelConfig& c) { c.ssm_num_heads = 3; }), HasSubstr("no such arch"));
  EXPECT_THAT(error(kHfNemotronHText, [](ModelConfig& c) { c.rope_theta = 1e4; }), HasSubstr("does not rotate"));
  EXPECT_THAT(error(kHfNemotronHText, [](ModelConfig& c) { c.mlp_out_multiplier = 2; }), HasSubstr("no such arch"));
  EXPECT_THAT(error(kHfFalconH1Text, [](ModelConfig& c) { c.rope_theta.reset(); }), HasSubstr("always rotates"));
}

}  // namespace
}  // namespace taipan
