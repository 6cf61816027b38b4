#include "model/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/files.h"
#include "model/config_test_text.h"
#include "model/config_validate.h"
#include "model/hf_config.h"
#include "model/presets.h"

namespace taipan {
namespace {

using testing::HasSubstr;
using Object = nlohmann::ordered_json;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

Object Taipan() { return Object::parse(kTaipanText); }
Object Mamba2() { return Object::parse(kMamba2Text); }

std::string ErrorOf(const Object& object) {
  try {
    ParseModelConfig(object.dump(), "config.json");
  } catch (const UserError& e) {
    return e.what();
  }
  return "no error";
}

// The error of a config with one key changed.
std::string ErrorOf(Object object, const char* key, const Object& value) {
  object[key] = value;
  return ErrorOf(object);
}

TEST(ModelConfig, ReadsEveryKey) {
  const ModelConfig c = ParseModelConfig(kTaipanText, "config.json");
  EXPECT_EQ(c.vocab_size, 97);
  EXPECT_EQ(c.hidden_size, 48);
  EXPECT_EQ(c.intermediate_size, 72);
  EXPECT_EQ(c.num_layers(), 6);
  EXPECT_EQ(c.num_sals(), 2);
  EXPECT_EQ(c.layer_pattern[2], LayerKind::kMamba2);
  EXPECT_EQ(c.layer_pattern[3], LayerKind::kSelectiveAttention);
  EXPECT_EQ(c.expand, 2);
  EXPECT_EQ(c.head_dim, 12);
  EXPECT_EQ(c.state_size, 16);
  EXPECT_EQ(c.n_groups, 2);
  EXPECT_EQ(c.conv_kernel, 4);
  EXPECT_EQ(c.chunk_size, 16);
  EXPECT_EQ(c.time_step_limit, (std::array<double, 2>{0.0, 1.5}));
  EXPECT_EQ(c.num_attention_heads, 4);
  EXPECT_EQ(c.num_key_value_heads, 2);
  EXPECT_EQ(c.attention_head_dim, 12);
  EXPECT_EQ(c.sliding_window, 16);
  EXPECT_EQ(c.attention_budget, 0.25);
  EXPECT_EQ(c.budget_loss_weight, 0.5);
  EXPECT_EQ(c.gumbel_temperature, 0.7);
  EXPECT_FALSE(c.straight_through_all);
  EXPECT_TRUE(c.selection_threshold.empty());
  EXPECT_FALSE(c.rope_theta);
  EXPECT_EQ(c.rms_norm_eps, 1e-5);
  EXPECT_FALSE(c.tie_word_embeddings);
  EXPECT_EQ(c.bos_token_id, 1);
  EXPECT_EQ(c.eos_token_id, 2);
  EXPECT_EQ(c.d_inner(), 96);
  EXPECT_EQ(c.ssm_heads(), 8);
}

TEST(ModelConfig, WritesTheSameText) {
  EXPECT_EQ(ToJson(ParseModelConfig(kTaipanText, "a")), kTaipanText);
  EXPECT_EQ(ToJson(ParseModelConfig(kMamba2Text, "a")), kMamba2Text);
}

TEST(ModelConfig, RoundTripIsExact) {
  ModelConfig c = ParseModelConfig(kTaipanText, "a");
  c.time_step_limit = {1.0 / 3, kInfinity};
  c.attention_budget = 0.1 + 0.2;
  c.gumbel_temperature = 1e-6;
  c.selection_threshold = {-1.0 / 7, 1e300};
  c.straight_through_all = true;
  c.rope_theta = 500000;
  c.bos_token_id.reset();
  c.eos_token_id = 0;
  EXPECT_EQ(ParseModelConfig(ToJson(c), "a"), c);
  const Object written = Object::parse(ToJson(c));
  EXPECT_EQ(written["time_step_limit"][1], nullptr);
  EXPECT_EQ(written["straight_through"], "all");
  EXPECT_EQ(written["bos_token_id"], nullptr);
  EXPECT_EQ(written["rope_theta"].dump(), "500000.0");
}

TEST(ModelConfig, ThreeKeysAreEnough) {
  const ModelConfig c = ParseModelConfig(
      R"({"vocab_size": 256, "hidden_size": 64, "layer_pattern": ["mamba2", "mamba2"]})", "config.json");
  ModelConfig expected;
  expected.hidden_size = 64;
  expected.layer_pattern = {LayerKind::kMamba2, LayerKind::kMamba2};
  EXPECT_EQ(c, expected);
  EXPECT_EQ(c.time_step_limit[1], kInfinity);
  for (const char* key : {"vocab_size", "hidden_size", "layer_pattern"}) {
    Object object = Taipan();
    object.erase(key);
    EXPECT_THAT(ErrorOf(object), HasSubstr("config.json: key \"" + std::string(key) + "\" is missing"));
  }
}

TEST(ModelConfig, AcceptsWhatOtherProgramsAdd) {
  Object object = Taipan();
  object["dtype"] = object["torch_dtype"] = "float32";
  object["transformers_version"] = "5.23.0";
  object["time_step_limit"] = {0.0, {{"__float__", "Infinity"}}};
  EXPECT_EQ(ParseModelConfig(object.dump(), "a").time_step_limit[1], kInfinity);
  object.erase("model_type");
  EXPECT_EQ(ErrorOf(object), "no error");
}

TEST(ModelConfig, RefusesOtherModelTypesFirst) {
  EXPECT_EQ(ErrorOf(Object{{"model_type", "qwen3"}, {"mlp_bias", false}}),
            "config.json: model_type is not supported, expected \"taipan\", \"mamba2\", \"llama\", \"mistral\", "
            "\"bamba\", \"granite\", \"granitemoehybrid\", \"nemotron_h\", \"falcon_h1\", or a config of mamba_ssm, "
            "found the string \"qwen3\"");
  EXPECT_THAT(ErrorOf(Taipan(), "model_type", 3), HasSubstr("model_type is not supported"));
}

TEST(ModelConfig, RefusesUnknownKeysAndTypes) {
  EXPECT_EQ(ErrorOf(Taipan(), "atention_budget", 0.1),
            "config.json: unknown key \"atention_budget\" (did you mean \"attention_budget\"?)");
  EXPECT_EQ(ErrorOf(Taipan(), "hidden_size", 48.0),
            "config.json: hidden_size has the wrong type, expected an integer, found the number 48.0");
  EXPECT_THAT(ErrorOf(Taipan(), "hidden_size", true), HasSubstr("expected an integer, found true"));
  EXPECT_THAT(ErrorOf(Taipan(), "architectures", "TaipanForCausalLM"), HasSubstr("expected a list of strings"));
  EXPECT_THAT(ErrorOf(Taipan(), "straight_through", "some"), HasSubstr("expected \"selected\" or \"all\""));
  EXPECT_THAT(ErrorOf(Taipan(), "layer_pattern", {"mamba2", "mamba"}), HasSubstr("did you mean \"mamba2\"?"));
  EXPECT_THAT(ErrorOf(Taipan(), "num_hidden_layers", 5),
              HasSubstr("num_hidden_layers disagrees with layer_pattern, expected 6, found 5"));
}

struct BadValue {
  const char* key;
  Object value;
  const char* error;
};

TEST(ModelConfig, RefusesImpossibleValues) {
  const std::vector<BadValue> cases = {
      {"vocab_size", 0, "vocab_size is out of range, expected 1 to 2147483647, found 0"},
      {"vocab_size", 2147483648, "vocab_size is out of range"},
      {"hidden_size", 0, "hidden_size is out of range"},
      {"hidden_size", -48, "hidden_size is out of range"},
      {"intermediate_size", 0, "intermediate_size is out of range"},
      {"expand", 0, "expand is out of range"},
      {"expand", 2147483647, "expand * hidden_size is out of range"},
      {"head_dim", 0, "head_dim is out of range"},
      {"head_dim", 13, "head_dim must divide expand * hidden_size, expected a divisor of 96, found 13"},
      {"state_size", 0, "state_size is out of range"},
      {"state_size", 2147483647, "n_groups * state_size is out of range"},
      {"n_groups", 0, "n_groups is out of range"},
      {"n_groups", 3, "n_groups must divide the number of SSM heads"},
      {"conv_kernel", 1, "conv_kernel is out of range, expected 2 to 8, found 1"},
      {"conv_kernel", 9, "conv_kernel is out of range"},
      {"chunk_size", 0, "chunk_size is out of range"},
      {"time_step_limit", {-0.1, 1.0}, "time_step_limit[0] is out of range, expected at least 0, found -0.1"},
      {"time_step_limit", {nullptr, nullptr}, "time_step_limit[0] is out of range"},
      {"time_step_limit", {0.5, 0.4}, "time_step_limit is not ascending"},
      {"num_attention_heads", 0, "num_attention_heads is out of range"},
      {"num_attention_heads", 2147483646, "num_attention_heads * attention_head_dim is out of range"},
      {"num_key_value_heads", 0, "num_key_value_heads is out of range"},
      {"num_key_value_heads", 3,
       "num_key_value_heads must divide num_attention_heads, expected a divisor of 4, found 3"},
      {"num_key_value_heads", 8, "num_key_value_heads must divide num_attention_heads"},
      {"attention_head_dim", 0, "attention_head_dim is out of range"},
      {"sliding_window", 0, "sliding_window is out of range, expected 1 to 2147483647, found 0"},
      {"rope_theta", 0, "rope_theta is out of range, expected above 0"},
      {"attention_budget", 0, "attention_budget is out of range, expected above 0 and at most 1, found 0.0"},
      {"attention_budget", 1.01, "attention_budget is out of range"},
      {"budget_loss_weight", -1, "budget_loss_weight is out of range"},
      {"gumbel_temperature", 0, "gumbel_temperature is out of range"},
      {"gumbel_temperature", 1e-320, "gumbel_temperature is out of range"},  // 0 as a float
      {"selection_threshold", {0.5}, "one value for each selective_attention block, expected 2 values, found 1"},
      {"rms_norm_eps", 0, "rms_norm_eps is out of range"},
      {"initializer_range", -1, "initializer_range is out of range"},
      {"bos_token_id", 97, "bos_token_id is out of range, expected at least 0 and below 97, found 97"},
      {"eos_token_id", -1, "eos_token_id is out of range"},
  };
  for (const BadValue& c : cases) {
    EXPECT_THAT(ErrorOf(Taipan(), c.key, c.value), HasSubstr(c.error)) << c.key << " " << c.value.dump();
  }
}

TEST(ModelConfig, RefusesNoLayersOddRopeAndHugeModels) {
  Object object = Taipan();
  object["layer_pattern"] = Object::array();
  object["num_hidden_layers"] = 0;
  EXPECT_EQ(ErrorOf(object), "config.json: layer_pattern is empty, expected at least one block, found none");

  object = Taipan();
  object["attention_head_dim"] = 7;
  EXPECT_EQ(ErrorOf(object), "no error");
  object["rope_theta"] = 10000;
  EXPECT_THAT(ErrorOf(object), HasSubstr("attention_head_dim must be even where rope_theta is a number"));

  EXPECT_THAT(ErrorOf(Mamba2(), "hidden_size", 800000000), HasSubstr("the model has too many parameters"));
  object = Mamba2();
  object["hidden_size"] = object["head_dim"] = 1;
  object["expand"] = 1 << 20;
  object["state_size"] = 1 << 20;
  EXPECT_THAT(ErrorOf(object), HasSubstr("the states of a sequence are too large"));
}

TEST(ModelConfig, KeysThatThePatternDoesNotUseAreOnlyTypeChecked) {
  for (const char* key :
       {"intermediate_size", "num_attention_heads", "num_key_value_heads", "attention_head_dim", "sliding_window",
        "attention_budget", "budget_loss_weight", "gumbel_temperature", "rope_theta"}) {
    EXPECT_EQ(ErrorOf(Mamba2(), key, 0), "no error") << key;
    EXPECT_EQ(ErrorOf(Mamba2(), key, -3), "no error") << key;
    EXPECT_THAT(ErrorOf(Mamba2(), key, "x"), HasSubstr("wrong type")) << key;
  }
  EXPECT_EQ(ErrorOf(Mamba2(), "num_key_value_heads", 3), "no error");
  Object transformer = Taipan();
  transformer["layer_pattern"] = {"attention"};
  transformer["num_hidden_layers"] = 1;
  for (const char* key :
       {"expand", "head_dim", "state_size", "n_groups", "conv_kernel", "chunk_size", "sliding_window"}) {
    EXPECT_EQ(ErrorOf(transformer, key, 0), "no error") << key;
    EXPECT_EQ(ErrorOf(transformer, key, INT64_MAX), "no error") << key;
  }
  EXPECT_EQ(ErrorOf(transformer, "time_step_limit", {2, 1}), "no error");
  EXPECT_EQ(ErrorOf(transformer, "attention_budget", 2), "no error");
}

TEST(ModelConfig, ValidatesConfigsMadeInCode) {
  ModelConfig c = FindPreset("taipan-1m").config;
  c.attention_budget = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THROW(ValidateModelConfig(c, "--budget"), UserError);
  c = FindPreset("mamba2-1m").config;
  c.gumbel_temperature = kInfinity;
  EXPECT_THROW(ValidateModelConfig(c, "--gumbel-temperature"), UserError);
}

TEST(ModelConfig, NamesTheFile) {
  try {
    LoadModelConfig("no/such/config.json");
    FAIL();
  } catch (const UserError& e) {
    EXPECT_THAT(e.what(), HasSubstr("no/such/config.json"));
  }
}

// Every config of our own type under the golden folder, where there is one.
TEST(ModelConfig, ReadsTheGoldenModels) {
  const char* golden = std::getenv("TAIPAN_GOLDEN");
  const std::string models = std::string(golden ? golden : "tests/golden") + "/models";
  if (!PathExists(models)) GTEST_SKIP() << "no folder " << models;
  for (const std::string& name : ListDirectory(models)) {
    const std::string path = models + "/" + name + "/config.json";
    if (!PathExists(path)) continue;
    const std::string text = ReadFile(path);
    if (text.find("\"taipan\"") == std::string::npos) continue;
    SCOPED_TRACE(path);
    const ModelConfig c = LoadModelConfig(path);
    EXPECT_EQ(ParseModelConfig(ToJson(c), path), c);
    const Object original = Object::parse(text), written = Object::parse(ToJson(c));
    for (const auto& [key, value] : original.items()) {
      if (!written.contains(key)) continue;
      EXPECT_EQ(written[key], value) << key;
    }
  }
}

}  // namespace
}  // namespace taipan
