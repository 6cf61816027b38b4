#include "model/parameters.h"

#include <gtest/gtest.h>

#include "model/model.h"
#include "model/tensor_names.h"

namespace taipan {
namespace {

ModelConfig AllKinds() {
  ModelConfig c;
  c.vocab_size = 61;
  c.hidden_size = 24;
  c.intermediate_size = 20;
  c.layer_pattern = {LayerKind::kMamba2, LayerKind::kSelectiveAttention, LayerKind::kMamba2Mlp, LayerKind::kAttention,
                     LayerKind::kSlidingAttention};
  c.head_dim = 12;
  c.state_size = 6;
  c.n_groups = 2;
  c.conv_kernel = 3;
  c.num_attention_heads = 4;
  c.num_key_value_heads = 2;
  c.attention_head_dim = 10;
  c.tie_word_embeddings = false;
  return c;
}

TEST(Parameters, DeclarationsTakeNoMemoryAndAreThoseOfTheModel) {
  for (const bool tied : {true, false}) {
    ModelConfig c = AllKinds();
    c.tie_word_embeddings = tied;
    LanguageModel model(c);
    model.params().ForEach([](Weight& w) { EXPECT_FALSE(w.bound()) << w.spec.name; });
    model.Initialise(1, 3);
    const std::vector<WeightSpec> specs = WeightSpecs(c);
    size_t next = 0;
    double elements = 0;
    model.params().ForEach([&](Weight& w) {
      ASSERT_LT(next, specs.size());
      EXPECT_EQ(specs[next].name, w.spec.name);
      EXPECT_EQ(specs[next].shape, w.f32.shape()) << w.spec.name;
      EXPECT_EQ(specs[next].count(), static_cast<double>(w.f32.size()));
      elements += static_cast<double>(w.f32.size());
      ++next;
    });
    EXPECT_EQ(next, specs.size());
    EXPECT_EQ(elements, static_cast<double>(CountParameters(c)));
  }
}

TEST(Parameters, FilesHaveTheConvolutionsMiddleDimension) {
  for (const WeightSpec& spec : WeightSpecs(AllKinds())) {
    if (spec.name == "model.layers.0.mixer.conv1d.weight") {
      EXPECT_EQ(spec.stored_shape(), (Shape{72, 1, 3}));
      EXPECT_EQ(spec.shape, (Shape{72, 3}));
    }
  }
}

TEST(Parameters, WhatNeedsMastersSaysSo) {
  LanguageModel model(AllKinds());
  EXPECT_THROW(model.RequireMasters("saving"), UserError);
  model.Initialise(1, 3);
  model.RequireMasters("saving");
  model.params().norm.f32 = Tensor();
  EXPECT_THROW(model.RequireMasters("saving"), UserError);
}

TEST(TensorNames, OfOtherPrograms) {
  const ModelConfig c = AllKinds();
  const auto name_of = [&](Naming naming, const std::string& ours) -> std::string {
    for (const ForeignTensor& t : ForeignTensors(c, naming)) {
      if (t.parameter == ours) return t.name + " " + ShapeString(t.shape);
    }
    return "none";
  };
  EXPECT_EQ(name_of(Naming::kTaipan, "model.layers.0.mixer.D"), "model.layers.0.mixer.D [4]");
  EXPECT_EQ(name_of(Naming::kMamba2, "model.layers.0.mixer.norm.weight"), "backbone.layers.0.mixer.norm.weight [48]");
  EXPECT_EQ(name_of(Naming::kMamba2, "model.embeddings.weight"), "backbone.embeddings.weight [61, 24]");
  EXPECT_EQ(name_of(Naming::kMambaSsm, "model.embeddings.weight"), "backbone.embedding.weight [61, 24]");
  EXPECT_EQ(name_of(Naming::kLlama, "model.layers.3.mlp_norm.weight"),
            "model.layers.3.post_attention_layernorm.weight [24]");
  EXPECT_EQ(name_of(Naming::kLlama, "model.layers.3.attention.o_proj.weight"),
            "model.layers.3.self_attn.o_proj.weight [24, 40]");
  EXPECT_EQ(name_of(Naming::kBamba, "model.layers.2.mlp.up_proj.weight"),
            "model.layers.2.feed_forward.up_proj.weight [20, 24]");
  EXPECT_EQ(name_of(Naming::kBamba, "model.layers.2.mlp_norm.weight"), "model.layers.2.pre_ff_layernorm.weight [24]");
  EXPECT_EQ(name_of(Naming::kBamba, "model.layers.2.norm.weight"), "model.layers.2.input_layernorm.weight [24]");
  EXPECT_EQ(name_of(Naming::kBamba, "model.layers.2.mixer.D"), "model.layers.2.mamba.D [4]");
  EXPECT_EQ(name_of(Naming::kBamba, "model.norm.weight"), "model.final_layernorm.weight [24]");
  EXPECT_EQ(name_of(Naming::kGguf, "lm_head.weight"), "output.weight [61, 24]");
  EXPECT_EQ(name_of(Naming::kGguf, "model.layers.2.mixer.A_log"), "blk.2.ssm_a [4, 1]");
  EXPECT_EQ(name_of(Naming::kGguf, "model.layers.2.mixer.norm.weight"), "blk.2.ssm_norm.weight [2, 24]");
  EXPECT_EQ(name_of(Naming::kGguf, "model.layers.2.mixer.conv1d.weight"), "blk.2.ssm_conv1d.weight [72, 3]");
}

// Row 2 j + i of a head is our row i half + j.
TEST(TensorNames, RopePairsStandSideBySide) {
  ForeignTensor t{"", {12, 1}, "", Layout::kRopePairs, 2};
  Tensor values({12, 1});
  for (int i = 0; i < 12; ++i) values.F32()[i] = static_cast<float>(i);
  ToLayout(t, values);
  const std::vector<float> expected = {0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11};
  EXPECT_EQ(std::vector<float>(values.F32(), values.F32() + 12), expected);
  FromLayout(t, values);
  for (int i = 0; i < 12; ++i) EXPECT_EQ(values.F32()[i], static_cast<float>(i));
}

}  // namespace
}  // namespace taipan
