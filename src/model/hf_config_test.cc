#include "model/hf_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "base/test_folder.h"
#include "kernels/rope.h"
#include "model/hf_config_test_text.h"
#include "model/presets.h"
#include "model/rope_scaling.h"

namespace taipan {
namespace {

using testing::HasSubstr;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

ModelConfig Parsed(const std::string& text) { return ParseCheckpointConfig(text, "config.json").config; }
std::string ErrorOf(const Json& json) {
  return UserErrorOf([&] { Parsed(json.dump()); });
}
std::string ErrorOf(const char* text, const char* key, const Json& value) {
  Json json = Json::parse(text);
  json[key] = value;
  return ErrorOf(json);
}

TEST(HfConfig, Mamba2) {
  const ModelConfig c = Parsed(kHfMamba2Text);
  EXPECT_EQ(c.layer_pattern, (std::vector<LayerKind>{LayerKind::kMamba2, LayerKind::kMamba2}));
  EXPECT_EQ(c.vocab_size, 97);
  EXPECT_EQ(c.hidden_size, 48);
  EXPECT_EQ(c.n_groups, 2);
  EXPECT_EQ(c.conv_kernel, 3);
  EXPECT_EQ(c.head_dim, 12);
  EXPECT_EQ(c.rms_norm_eps, 1e-5);
  EXPECT_EQ(c.bos_token_id, 0);
  EXPECT_FALSE(c.tie_word_embeddings);
  EXPECT_EQ(c.time_step_limit, (std::array<double, 2>{0.02, 0.4}));
  // What transformers takes where nothing is said.
  const ModelConfig d = Parsed(
      R"({"model_type": "mamba2", "vocab_size": 97, "hidden_size": 512, "num_hidden_layers": 1, "num_heads": 16})");
  EXPECT_EQ(d.n_groups, 8);
  EXPECT_EQ(d.state_size, 128);
  EXPECT_EQ(d.time_step_limit, (std::array<double, 2>{0.0, kInfinity}));
  EXPECT_FALSE(d.tie_word_embeddings);
}

TEST(HfConfig, InfinityHasThreeSpellings) {
  for (const char* spelling : {"{\"__float__\": \"Infinity\"}", "Infinity", "null"}) {
    std::string text = kHfMamba2Text;
    text.replace(text.find("0.4"), 3, spelling);
    EXPECT_EQ(Parsed(text).time_step_limit, (std::array<double, 2>{0.02, kInfinity})) << spelling;
  }
}

TEST(HfConfig, RefusesWhatMamba2BlocksHaveNot) {
  EXPECT_EQ(ErrorOf(kHfMamba2Text, "use_bias", true),
            "config.json: use_bias is not supported, expected false, found true");
  EXPECT_THAT(ErrorOf(kHfMamba2Text, "use_conv_bias", false), HasSubstr("use_conv_bias is not supported"));
  EXPECT_THAT(ErrorOf(kHfMamba2Text, "hidden_act", "gelu"), HasSubstr("hidden_act is not supported"));
  EXPECT_THAT(ErrorOf(kHfMamba2Text, "num_heads", 9),
              HasSubstr("num_heads disagrees with the other sizes, expected 8"));
  EXPECT_THAT(ErrorOf(kHfMamba2Text, "num_hidden_layers", 2000000000), HasSubstr("num_hidden_layers is out of range"));
  EXPECT_THAT(ErrorOf(kHfMamba2Text, "quantization_config", Json::object()), HasSubstr("quantization_config"));
  EXPECT_THAT(ErrorOf(kHfMamba2Text, "vocab_size", nullptr), HasSubstr("key \"vocab_size\" is missing"));
}

TEST(HfConfig, MambaSsm) {
  const Json bare = {{"d_model", 256},
                     {"n_layer", 3},
                     {"vocab_size", 50277},
                     {"ssm_cfg", {{"layer", "Mamba2"}}},
                     {"pad_vocab_size_multiple", 16}};
  const CheckpointConfig checkpoint = ParseCheckpointConfig(bare.dump(), "config.json");
  EXPECT_EQ(checkpoint.naming, Naming::kMambaSsm);
  const ModelConfig& c = checkpoint.config;
  EXPECT_EQ(c.vocab_size, 50288);
  EXPECT_EQ(c.num_layers(), 3);
  EXPECT_EQ(c.state_size, 128);
  EXPECT_EQ(c.conv_kernel, 4);
  EXPECT_EQ(c.expand, 2);
  EXPECT_EQ(c.head_dim, 64);
  EXPECT_EQ(c.n_groups, 1);
  EXPECT_EQ(c.chunk_size, 256);
  EXPECT_TRUE(c.tie_word_embeddings);
  const auto with = [&](const char* key, const Json& value) {
    Json json = bare;
    json[key] = value;
    return ErrorOf(json);
  };
  EXPECT_THAT(with("ssm_cfg", Json::object()), HasSubstr("layer is not supported, expected \"Mamba2\""));
  EXPECT_THAT(with("ssm_cfg", {{"layer", "Mamba2"}, {"d_sate", 3}}), HasSubstr("did you mean \"d_state\"?"));
  EXPECT_THAT(with("attn_layer_idx", {1, 2}), HasSubstr("attn_layer_idx is not supported"));
  EXPECT_THAT(with("d_intermediate", 64), HasSubstr("d_intermediate is not supported"));
}

TEST(HfConfig, Llama) {
  const ModelConfig c = Parsed(kHfLlamaText);
  EXPECT_EQ(c.layer_pattern, (std::vector<LayerKind>{LayerKind::kAttention, LayerKind::kAttention}));
  EXPECT_EQ(c.num_key_value_heads, 1);
  EXPECT_EQ(c.attention_head_dim, 16);
  EXPECT_EQ(c.rope_theta, 500000.0);
  EXPECT_EQ(c.rope_scaling, (RopeScaling{RopeScaling::Type::kLlama3, 8, 1, 4, 64}));
  EXPECT_EQ(c.eos_token_id, 2);
  EXPECT_EQ(c.max_position_embeddings, 2048);
  // The form of older files.
  Json old = Json::parse(kHfLlamaText);
  old["rope_scaling"] = old["rope_parameters"];
  old["rope_scaling"].erase("rope_theta");
  old.erase("rope_parameters");
  old["rope_theta"] = 500000.0;
  old["eos_token_id"] = {2, 3};
  old["head_dim"] = old["num_key_value_heads"] = nullptr;
  const ModelConfig same = Parsed(old.dump());
  EXPECT_EQ(same.rope_scaling, c.rope_scaling);
  EXPECT_EQ(same.rope_theta, c.rope_theta);
  EXPECT_EQ(same.eos_token_id, 2);
  EXPECT_EQ(same.num_key_value_heads, 2);
  EXPECT_EQ(same.attention_head_dim, 16);
}

TEST(HfConfig, RefusesWhatLlamaBlocksHaveNot) {
  EXPECT_THAT(ErrorOf(kHfLlamaText, "attention_bias", true), HasSubstr("attention_bias is not supported"));
  EXPECT_THAT(ErrorOf(kHfLlamaText, "mlp_bias", true), HasSubstr("mlp_bias is not supported"));
  EXPECT_EQ(
      ErrorOf(kHfLlamaText, "rope_parameters", {{"rope_type", "yarn"}, {"factor", 4.0}}),
      "config.json: this rope_type is not supported, expected default, linear or llama3, found the string \"yarn\"");
  EXPECT_THAT(ErrorOf(kHfLlamaText, "rope_parameters", {{"type", "dynamic"}, {"factor", 4.0}}), HasSubstr("dynamic"));
  EXPECT_THAT(ErrorOf(kHfLlamaText, "rope_parameters", {{"rope_type", "linear"}}), HasSubstr("no factor"));
  EXPECT_THAT(ErrorOf(kHfLlamaText, "model_type", "qwen2"), HasSubstr("model_type is not supported"));
}

TEST(HfConfig, MistralWindowsAreSliding) {
  Json json = Json::parse(kHfLlamaText);
  json["model_type"] = "mistral";
  EXPECT_EQ(Parsed(json.dump()).layer_pattern[0], LayerKind::kSlidingAttention);
  EXPECT_EQ(Parsed(json.dump()).sliding_window, 4096);
  json["sliding_window"] = nullptr;
  EXPECT_EQ(Parsed(json.dump()).layer_pattern[0], LayerKind::kAttention);
  json["sliding_window"] = 32;
  EXPECT_EQ(Parsed(json.dump()).layer_pattern[0], LayerKind::kSlidingAttention);
  EXPECT_EQ(Parsed(json.dump()).sliding_window, 32);
  json["model_type"] = "llama";  // whose code has no window
  EXPECT_EQ(Parsed(json.dump()).layer_pattern[0], LayerKind::kAttention);
}

TEST(HfConfig, Bamba) {
  const ModelConfig c = Parsed(kHfBambaText);
  EXPECT_EQ(c.layer_pattern,
            (std::vector<LayerKind>{LayerKind::kMamba2Mlp, LayerKind::kAttention, LayerKind::kMamba2Mlp}));
  EXPECT_EQ(c.rotary_dim(), 6);
  EXPECT_EQ(c.head_dim, 16);
  EXPECT_EQ(c.n_groups, 2);
  EXPECT_THAT(ErrorOf(kHfBambaText, "attn_layer_indices", {3}), HasSubstr("attn_layer_indices is out of range"));
  EXPECT_THAT(ErrorOf(kHfBambaText, "mamba_proj_bias", true), HasSubstr("mamba_proj_bias is not supported"));
}

TEST(HfConfig, WhatIsWrittenIsReadBack) {
  Json mistral = Json::parse(kHfLlamaText);
  mistral["model_type"] = "mistral";
  mistral["sliding_window"] = 40;
  for (const std::string& text :
       {std::string(kHfMamba2Text), std::string(kHfLlamaText), std::string(kHfBambaText), mistral.dump()}) {
    const CheckpointConfig read = ParseCheckpointConfig(text, "a");
    EXPECT_EQ(TransformersNaming(read.config, "a"), read.naming);
    const std::string written = ForeignConfigJson(read.config, read.naming, "float32", "a");
    EXPECT_EQ(Parsed(written), read.config) << written;
  }
  ModelConfig c = Parsed(kHfMamba2Text);
  EXPECT_EQ(Parsed(ForeignConfigJson(c, Naming::kMambaSsm, "", "a")).time_step_limit, c.time_step_limit);
  c.rms_norm_eps = 1e-6;
  EXPECT_THAT(UserErrorOf([&] { ForeignConfigJson(c, Naming::kMambaSsm, "", "a"); }), HasSubstr("epsilon"));
  const ModelConfig taipan = FindPreset("taipan-1m").config;
  EXPECT_THAT(UserErrorOf([&] { TransformersNaming(taipan, "a"); }), HasSubstr("selective_attention"));
}

// transformers' classes; tools/interchange/check_defaults.py compares every key with them.
TEST(HfConfig, MissingKeysAreTheClasses) {
  const ModelConfig mistral = Parsed(R"({"model_type": "mistral"})");
  EXPECT_EQ(mistral.layer_pattern, std::vector<LayerKind>(32, LayerKind::kSlidingAttention));
  EXPECT_EQ(mistral.sliding_window, 4096);
  EXPECT_EQ(mistral.num_attention_heads, 32);
  EXPECT_EQ(mistral.num_key_value_heads, 8);
  EXPECT_EQ(mistral.attention_head_dim, 128);
  EXPECT_EQ(mistral.intermediate_size, 14336);
  EXPECT_EQ(mistral.max_position_embeddings, 131072);
  const ModelConfig whole = Parsed(R"({"model_type": "mistral", "sliding_window": null, "num_key_value_heads": null})");
  EXPECT_EQ(whole.layer_pattern, std::vector<LayerKind>(32, LayerKind::kAttention));
  EXPECT_EQ(whole.num_key_value_heads, 32);
  const ModelConfig llama = Parsed(R"({"model_type": "llama", "num_attention_heads": 16})");
  EXPECT_EQ(llama.num_key_value_heads, 16);
  EXPECT_EQ(llama.attention_head_dim, 256);
  EXPECT_EQ(llama.rms_norm_eps, 1e-6);
  EXPECT_EQ(llama.rope_theta, 10000.0);
  EXPECT_EQ(llama.vocab_size, 32000);
  EXPECT_EQ(llama.bos_token_id, 1);
  const ModelConfig bamba = Parsed(R"({"model_type": "bamba"})");
  EXPECT_EQ(bamba.rms_norm_eps, 1e-5);
  EXPECT_EQ(bamba.num_key_value_heads, 8);
  EXPECT_EQ(bamba.partial_rotary_factor, 0.5);
  EXPECT_EQ(bamba.state_size, 256);
  EXPECT_EQ(bamba.head_dim, 64);
  EXPECT_EQ(CountBlocks(bamba, LayerKind::kMamba2Mlp), 32);
  const ModelConfig mamba2 = Parsed(R"({"model_type": "mamba2"})");
  EXPECT_EQ(mamba2.num_layers(), 64);
  EXPECT_EQ(mamba2.hidden_size, 4096);
  EXPECT_EQ(mamba2.initializer_range, 0.1);
  EXPECT_EQ(mamba2.eos_token_id, 2);
  const ModelConfig ssm = Parsed(R"({"d_model": 128, "ssm_cfg": {"layer": "Mamba2"}})");
  EXPECT_EQ(ssm.num_layers(), 64);
  EXPECT_EQ(ssm.vocab_size, 50280);
}

TEST(HfConfig, RotaryKeysAsTheClassesReadThem) {
  Json json = Json::parse(kHfLlamaText);
  json["rope_scaling"] = {{"type", "linear"},
                          {"factor", 2.0}};  // beside rope_parameters, of which nothing is read then
  EXPECT_EQ(Parsed(json.dump()).rope_scaling, RopeScaling{.factor = 2});
  EXPECT_EQ(Parsed(json.dump()).rope_theta, 10000.0);
  json["rope_scaling"] = Json::object();
  EXPECT_EQ(Parsed(json.dump()).rope_theta, 500000.0);
  EXPECT_EQ(Parsed(R"({"model_type": "llama", "partial_rotary_factor": 0.25})").partial_rotary_factor, 1);
  EXPECT_EQ(Parsed(R"({"model_type": "bamba", "partial_rotary_factor": 0.25})").partial_rotary_factor, 0.5);
  EXPECT_THAT(ErrorOf(kHfLlamaText, "partial_rotary_factor", 0.25),
              HasSubstr("partial_rotary_factor is not supported"));
}

TEST(HfConfig, NullIsNoMissingKey) {
  EXPECT_EQ(Parsed(R"({"model_type": "llama", "bos_token_id": null})").bos_token_id, std::nullopt);
  EXPECT_EQ(Parsed(R"({"model_type": "llama", "vocab_size": 2})").eos_token_id, std::nullopt);  // there is no 2
  const std::string error = UserErrorOf([] { Parsed(R"({"model_type": "llama", "eos_token_id": "x"})"); });
  EXPECT_NE(error.find("eos_token_id has the wrong type, expected an integer or a list of integers, found"),
            std::string::npos)
      << error;
  EXPECT_FALSE(Parsed(R"({"model_type": "llama", "tie_word_embeddings": null, "mlp_bias": null})").tie_word_embeddings);
  EXPECT_THAT(ErrorOf(kHfMamba2Text, "use_conv_bias", nullptr), HasSubstr("use_conv_bias is not supported"));
  EXPECT_THAT(ErrorOf(kHfLlamaText, "rms_norm_eps", nullptr),
              HasSubstr("rms_norm_eps has the wrong type, expected a number, found null"));
}

TEST(HfConfig, TokensOfGenerationConfig) {
  const TestFolder folder;
  Json json = Json::parse(kHfLlamaText);
  json.erase("eos_token_id");
  WriteFileAtomically(folder / "config.json", json.dump());
  WriteFileAtomically(folder / "generation_config.json", R"({"bos_token_id": 7, "eos_token_id": [5, 6]})");
  const ModelConfig c = LoadModelConfig(folder / "config.json");
  EXPECT_EQ(c.bos_token_id, 1);
  EXPECT_EQ(c.eos_token_id, 5);
  for (const char* odd :
       {R"({"eos_token_id": -1})", R"({"eos_token_id": "x"})", R"({"eos_token_id": 99999999})", "{"}) {
    WriteFileAtomically(folder / "generation_config.json", odd);
    EXPECT_EQ(LoadModelConfig(folder / "config.json").eos_token_id, 2) << odd;  // the class's
  }
  json["eos_token_id"] = {-1, 3};
  json["bos_token_id"] = -1;
  EXPECT_EQ(Parsed(json.dump()).eos_token_id, 3);
  EXPECT_EQ(Parsed(json.dump()).bos_token_id, std::nullopt);
}

TEST(RopeScaling, Frequencies) {
  ModelConfig c = Parsed(kHfLlamaText);
  const std::vector<double> plain = RopeInverseFrequencies(500000.0, 16);
  const std::vector<double> scaled = RopeFrequencies(c);
  ASSERT_EQ(scaled.size(), plain.size());
  for (size_t j = 0; j < plain.size(); ++j) {
    const double wavelength = 2 * std::acos(-1.0) / plain[j];
    if (wavelength < 16) {
      EXPECT_DOUBLE_EQ(scaled[j], plain[j]);
    } else if (wavelength > 64) {
      EXPECT_DOUBLE_EQ(scaled[j], plain[j] / 8);
    } else {
      const double t = (64 / wavelength - 1) / 3;
      EXPECT_NEAR(scaled[j], (1 - t) * plain[j] / 8 + t * plain[j], 1e-15);
    }
  }
  c.rope_scaling = RopeScaling{.factor = 4};
  c.partial_rotary_factor = 0.5;
  const std::vector<double> linear = RopeFrequencies(c), half = RopeInverseFrequencies(500000.0, 8);
  ASSERT_EQ(linear.size(), 4u);
  for (size_t j = 0; j < 4; ++j) EXPECT_DOUBLE_EQ(linear[j], half[j] / 4);
  EXPECT_EQ(ParseModelConfig(ToJson(c), "a"), c);
}

}  // namespace
}  // namespace taipan
