#include "model/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>

#include "base/test_folder.h"
#include "formats/safetensors.h"
#include "model/export.h"
#include "model/gguf_config.h"
#include "model/hf_config.h"
#include "model/hf_config_test_text.h"
#include "model/model_files.h"
#include "model/rope_scaling.h"

namespace taipan {
namespace {

using testing::HasSubstr;

// Weights that every type holds but none holds exactly.
LanguageModel RandomModel(const ModelConfig& config) {
  LanguageModel model(config);
  model.Initialise(3, 0.0);
  return model;
}

LanguageModel OfText(const char* text) { return RandomModel(ParseModelConfig(text, "a")); }

std::vector<float> Weights(LanguageModel& model) {
  std::vector<float> all;
  model.params().ForEach(
      [&](Weight& weight) { all.insert(all.end(), weight.F32(), weight.F32() + weight.f32.size()); });
  return all;
}

// The largest error relative to the largest weight of the tensor.
double Distance(LanguageModel& a, LanguageModel& b) {
  double worst = 0;
  std::vector<std::vector<float>> tensors;
  a.params().ForEach([&](Weight& weight) { tensors.emplace_back(weight.F32(), weight.F32() + weight.f32.size()); });
  size_t next = 0;
  b.params().ForEach([&](Weight& weight) {
    const std::vector<float>& x = tensors.at(next++);
    float largest = 1e-30f, difference = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      largest = std::max(largest, std::fabs(x[i]));
      difference = std::max(difference, std::fabs(x[i] - weight.F32()[i]));
    }
    worst = std::max(worst, static_cast<double>(difference / largest));
  });
  return worst;
}

TEST(Export, FoldersRoundTripBitForBit) {
  for (const char* text : {kHfMamba2Text, kHfLlamaText, kHfBambaText, kHfGraniteText, kHfGraniteHybridText,
                           kHfNemotronHText, kHfFalconH1Text}) {
    LanguageModel model = OfText(text);
    const Naming naming = TransformersNaming(model.config(), "a");
    const TestFolder folder;
    ExportFolder(model, naming, GgmlType::kF32, folder.path(), "a");
    LanguageModel read = LoadModel(folder.path());
    EXPECT_EQ(read.config(), model.config());
    EXPECT_EQ(Weights(read), Weights(model));
    EXPECT_EQ(OpenCheckpoint(folder.path()).naming, naming);
  }
}

// A rounded model is written without loss, and read as what was written.
TEST(Export, NarrowTypesRoundOnce) {
  for (const GgmlType type : {GgmlType::kF16, GgmlType::kBF16}) {
    LanguageModel model = OfText(kHfMamba2Text);
    const TestFolder first, second;
    ExportFolder(model, Naming::kMamba2, type, first.path(), "a");
    EXPECT_EQ(OpenCheckpoint(first.path()).ElementTypes(), (std::map<std::string, int64_t>{{NameOf(type), 21}}));
    LanguageModel rounded = LoadModel(first.path());
    EXPECT_LT(Distance(model, rounded), 1.0 / 256);
    EXPECT_GT(Distance(model, rounded), 0);
    ExportFolder(rounded, Naming::kMamba2, type, second.path(), "a");
    EXPECT_EQ(ReadFile(first / "model.safetensors"), ReadFile(second / "model.safetensors"));
  }
}

TEST(Export, MambaSsmHoldsATiedHead) {
  LanguageModel model = OfText(kMambaSsmText);
  const TestFolder folder;
  ExportFolder(model, Naming::kMambaSsm, GgmlType::kF32, folder.path(), "a");
  EXPECT_TRUE(SafetensorsFile(folder / "model.safetensors").Has("lm_head.weight"));
  LanguageModel read = LoadModel(folder.path());
  EXPECT_EQ(read.config(), model.config());
  EXPECT_EQ(Weights(read), Weights(model));
}

TEST(Export, GgufRoundTrip) {
  for (const char* text : {kMambaSsmText, kHfLlamaText}) {
    ModelConfig given = ParseModelConfig(text, "a");
    if (given.intermediate_size > 0) given.intermediate_size = 64;  // q8_0 has blocks of 32
    LanguageModel model = RandomModel(given);
    const TestFolder folder;
    for (const auto& [type, bound] : {std::pair(GgmlType::kF32, 2e-7), std::pair(GgmlType::kF16, 1e-3),
                                      std::pair(GgmlType::kBF16, 4e-3), std::pair(GgmlType::kQ8_0, 8e-3)}) {
      const std::string path = folder / (NameOf(type) + ".gguf");
      ExportGguf(model, type, {}, path, "a");
      LanguageModel read = LoadModel(path);
      ModelConfig config = read.config();
      config.chunk_size = model.config().chunk_size;  // not in the file
      config.initializer_range = model.config().initializer_range;
      config.max_position_embeddings = model.config().max_position_embeddings;  // mamba2: any
      EXPECT_EQ(config, model.config());
      EXPECT_LE(Distance(model, read), bound) << NameOf(type);
    }
  }
}

// What only one of the two can be, is refused by what it is.
TEST(Export, RefusesWhatAFormatCannotHold) {
  const TestFolder folder;
  const auto gguf_error = [&](const ModelConfig& config) {
    LanguageModel model(config);
    return UserErrorOf([&] { ExportGguf(model, GgmlType::kF32, {}, folder / "x.gguf", "the model"); });
  };
  EXPECT_THAT(gguf_error(ParseModelConfig(kHfMamba2Text, "a")),
              HasSubstr("the model: GGUF cannot hold this model: llama.cpp does not limit time steps"));
  EXPECT_THAT(gguf_error(ParseModelConfig(kHfBambaText, "a")), HasSubstr("no such architecture"));
  ModelConfig llama = ParseModelConfig(kHfLlamaText, "a");
  llama.rope_theta.reset();
  EXPECT_THAT(gguf_error(llama), HasSubstr("always rotates"));
  EXPECT_TRUE(ListDirectory(folder.path()).empty());
  LanguageModel model = OfText(kHfMamba2Text);
  EXPECT_THAT(UserErrorOf([&] { ExportFolder(model, Naming::kMamba2, GgmlType::kQ8_0, folder.path(), "a"); }),
              HasSubstr("q8_0"));
  model.params().layers[0][0]->ForEach([](Weight& weight) { weight.F32()[0] = 1e30f; });
  EXPECT_THAT(UserErrorOf([&] { ExportFolder(model, Naming::kMamba2, GgmlType::kF16, folder.path(), "a"); }),
              HasSubstr("has values beyond f16"));
}

// llama3 scaling survives as divisors, whatever its parameters.
TEST(Gguf, RecoversLlama3Scaling) {
  for (const RopeScaling& scaling :
       {RopeScaling{RopeScaling::Type::kLlama3, 8, 1, 4, 64}, RopeScaling{RopeScaling::Type::kLlama3, 32, 1, 4, 8192},
        RopeScaling{RopeScaling::Type::kLlama3, 3, 1, 16, 300}, RopeScaling{.factor = 2.5}}) {
    ModelConfig config = ParseModelConfig(kHfLlamaText, "a");
    config.attention_head_dim = 64;
    config.rope_scaling = scaling;
    LanguageModel model = RandomModel(config);
    const TestFolder folder;
    ExportGguf(model, GgmlType::kF32, {}, folder / "x.gguf", "a");
    const std::vector<double> expected = RopeFrequencies(config),
                              found = RopeFrequencies(LoadModel(folder / "x.gguf").config());
    ASSERT_EQ(found.size(), expected.size());
    for (size_t j = 0; j < found.size(); ++j) EXPECT_NEAR(found[j], expected[j], 1e-4 * expected[j]) << j;
  }
}

// A folder whose tensors are as given: the model's own, changed.
class Damaged {
 public:
  Damaged(const char* text, const std::function<void(Json&, std::vector<SafetensorsItem>&)>& damage) {
    LanguageModel model = OfText(text);
    const Naming naming = TransformersNaming(model.config(), "a");
    Json json = Json::parse(ForeignConfigJson(model.config(), naming, "float32", "a"));
    std::vector<SafetensorsItem> items;
    const std::vector<ForeignTensor> names = ForeignTensors(model.config(), naming);
    size_t next = 0;
    model.params().ForEach([&](Weight& weight) {
      items.push_back({names[next].name, DType::kF32, names[next].shape, weight.f32.data()});
      ++next;
    });
    damage(json, items);
    WriteSafetensors(folder_ / "model.safetensors", items);
    WriteFileAtomically(folder_ / "config.json", json.dump());
    error_ = UserErrorOf([&] { OpenCheckpoint(folder_.path()).Tensors(); });
  }
  const std::string& error() const { return error_; }

 private:
  TestFolder folder_;
  std::string error_;
};

TEST(Checkpoint, NamesTheFirstMismatchAndItsCause) {
  using Items = std::vector<SafetensorsItem>;
  EXPECT_EQ(Damaged(kHfMamba2Text, [](Json&, Items&) {}).error(), "");
  EXPECT_THAT(Damaged(kHfMamba2Text, [](Json& json, Items&) { json["vocab_size"] = 90; }).error(),
              AllOf(HasSubstr("model.safetensors: tensor \"backbone.embeddings.weight\" has another shape"),
                    HasSubstr("expected [90, 48], found [97, 48]"), HasSubstr("padded"), HasSubstr("be 97")));
  EXPECT_THAT(Damaged(kHfMamba2Text, [](Json& json, Items&) { json["n_groups"] = 4; }).error(),
              AllOf(HasSubstr("mixer.in_proj.weight"), HasSubstr("n_groups should be 2")));
  EXPECT_THAT(Damaged(kHfMamba2Text, [](Json& json, Items&) { json["tie_word_embeddings"] = true; }).error(),
              AllOf(HasSubstr("lm_head.weight"), HasSubstr("tie_word_embeddings should be false")));
  const std::vector<float> small(5 * 32);
  EXPECT_THAT(Damaged(kHfLlamaText,
                      [&](Json&, Items& items) {
                        items.push_back({"lm_head.weight", DType::kF32, {5, 32}, small.data()});
                      })
                  .error(),
              AllOf(HasSubstr("expected [97, 32], found [5, 32]"), HasSubstr("tie_word_embeddings should be false")));
  EXPECT_THAT(Damaged(kHfLlamaText, [](Json& json, Items&) { json["tie_word_embeddings"] = false; }).error(),
              AllOf(HasSubstr("lm_head.weight [97, 32]"), HasSubstr("tie_word_embeddings should be true")));
  EXPECT_THAT(Damaged(kHfLlamaText, [](Json& json, Items&) { json["num_key_value_heads"] = 2; }).error(),
              AllOf(HasSubstr("k_proj"), HasSubstr("num_key_value_heads")));
  EXPECT_THAT(
      Damaged(kHfLlamaText, [](Json&, Items& items) { items.back().name = "model.norm.bias"; }).error(),
      AllOf(HasSubstr("a tensor is missing"), HasSubstr("model.norm.weight [32]"), HasSubstr("the nearest is")));
  EXPECT_THAT(Damaged(kHfLlamaText,
                      [](Json&, Items& items) {
                        items.push_back(items.back());
                        items.back().name = "model.layers.0.self_attn.q_proj.bias";
                      })
                  .error(),
              AllOf(HasSubstr("1 tensor that the config does not have"), HasSubstr("q_proj.bias")));
  // Buffers of old files follow from the config.
  EXPECT_EQ(Damaged(kHfLlamaText,
                    [](Json&, Items& items) {
                      items.push_back(items.back());
                      items.back().name = "model.layers.0.self_attn.rotary_emb.inv_freq";
                    })
                .error(),
            "");
}

// The config claims terabytes: the file refutes it before anything of that size is asked for.
TEST(Checkpoint, HugeConfigsTakeNoMemory) {
  EXPECT_THAT(Damaged(kHfMamba2Text, [](Json& json, std::vector<SafetensorsItem>&) { json["vocab_size"] = 2000000000; })
                  .error(),
              HasSubstr("expected [2000000000, 48]"));
}

TEST(Checkpoint, RefusesWhatIsNoModel) {
  const TestFolder folder;
  WriteFileAtomically(folder / "x.gguf", "GGML");
  WriteFileAtomically(folder / "x.bin", "GGML");
  EXPECT_THAT(UserErrorOf([&] { OpenCheckpoint(folder / "none").Tensors(); }), HasSubstr("not a model"));
  EXPECT_THAT(UserErrorOf([&] { OpenCheckpoint(folder / "x.bin").Tensors(); }), HasSubstr("not a model"));
  EXPECT_THAT(UserErrorOf([&] { OpenCheckpoint(folder / "x.gguf").Tensors(); }), HasSubstr("x.gguf: "));
  RemoveTree(folder / "x.gguf");
  EXPECT_THAT(UserErrorOf([&] { OpenCheckpoint(folder.path()).Tensors(); }), HasSubstr("config.json"));
}

// The kinds of layers of hybrids stand in lists of a number each.
TEST(Gguf, HybridsNameTheirLayersByLists) {
  const TestFolder folder;
  const auto array = [](std::vector<uint32_t> numbers) { return GgufArray{std::move(numbers)}; };
  const auto read = [&](const std::string& arch, const GgufMetadata& changes) {
    GgufMetadata metadata = {{"general.architecture", arch}};
    const GgufMetadata common = {{"block_count", uint32_t{3}},          {"embedding_length", uint32_t{32}},
                                 {"vocab_size", uint32_t{4}},           {"feed_forward_length", uint32_t{48}},
                                 {"ssm.inner_size", uint32_t{48}},      {"ssm.time_step_rank", uint32_t{6}},
                                 {"ssm.state_size", uint32_t{8}},       {"ssm.group_count", uint32_t{2}},
                                 {"ssm.conv_kernel", uint32_t{4}},      {"attention.layer_norm_rms_epsilon", 1e-5f},
                                 {"attention.head_count", uint32_t{4}}, {"attention.head_count_kv", array({0, 2, 0})}};
    for (const auto& [key, value] : common) metadata[arch + "." + key] = value;
    for (const auto& [key, value] : changes) metadata[arch + "." + key] = value;
    WriteGguf(folder / "x.gguf", metadata, {{"token_embd.weight", GgmlType::kF32, {4, 32}, [] {
                                               return Tensor({4, 32});
                                             }}});
    return GgufModelConfig(GgufFile(folder / "x.gguf"));
  };
  const ModelConfig granite = read(
      "granitehybrid",
      {{"rope.scaling.finetuned", false}, {"residual_scale", 0.25f}, {"attention.scale", 0.5f}, {"logit_scale", 8.0f}});
  EXPECT_EQ(granite.layer_pattern,
            (std::vector<LayerKind>{LayerKind::kMamba2Mlp, LayerKind::kAttention, LayerKind::kMamba2Mlp}));
  EXPECT_EQ(granite.num_key_value_heads, 2);
  EXPECT_EQ(granite.ssm_num_heads, 6);
  EXPECT_FALSE(granite.rope_theta);
  EXPECT_EQ(granite.ssm_out_multiplier, 0.25);
  EXPECT_EQ(granite.attention_multiplier, 0.5);
  EXPECT_EQ(granite.logits_scaling, 8);
  EXPECT_EQ(granite.embedding_multiplier, 1);
  EXPECT_EQ(read("granitehybrid", {}).rope_theta, 10000);
  const ModelConfig nemotron = read("nemotron_h", {{"feed_forward_length", array({48, 0, 0})}});
  EXPECT_EQ(nemotron.layer_pattern,
            (std::vector<LayerKind>{LayerKind::kRelu2Mlp, LayerKind::kAttentionOnly, LayerKind::kMamba2}));
  const auto error = [&](const std::string& arch, const GgufMetadata& changes) {
    return UserErrorOf([&] { read(arch, changes); });
  };
  EXPECT_THAT(error("granitehybrid", {{"expert_count", uint32_t{4}}}), HasSubstr("mixture of experts"));
  EXPECT_THAT(error("granitehybrid", {{"attention.head_count_kv", array({0, 2})}}), HasSubstr("another length"));
  EXPECT_THAT(error("granitehybrid", {{"attention.head_count_kv", array({1, 2, 0})}}), HasSubstr("every layer"));
  EXPECT_THAT(error("falcon-h1", {{"attention.head_count_kv", uint32_t{2}}, {"ssm.time_step_rank", uint32_t{5}}}),
              HasSubstr("ssm.inner_size does not fit"));
}

TEST(Gguf, RefusesOtherArchitectures) {
  const TestFolder folder;
  const auto error = [&](GgufMetadata metadata) {
    WriteGguf(folder / "x.gguf", metadata, {{"token_embd.weight", GgmlType::kF32, {4, 4}, [] {
                                               return Tensor({4, 4});
                                             }}});
    return UserErrorOf([&] { OpenCheckpoint(folder / "x.gguf").Tensors(); });
  };
  EXPECT_THAT(error({}), HasSubstr("general.architecture"));
  EXPECT_THAT(
      error({{"general.architecture", std::string("qwen2")}}),
      HasSubstr("this architecture is not supported, expected llama, mamba2, granite, granitehybrid, nemotron_h, "
                "falcon-h1, found the string \"qwen2\""));
  GgufMetadata metadata = ModelMetadata(ParseModelConfig(kHfLlamaText, "a"), "a");
  metadata["llama.expert_count"] = uint32_t{8};
  EXPECT_THAT(error(metadata), HasSubstr("llama.expert_count is not supported"));
  metadata.erase("llama.expert_count");
  metadata["llama.rope.scaling.type"] = std::string("yarn");
  EXPECT_THAT(error(metadata), HasSubstr("llama.rope.scaling.type is not supported"));
  metadata.erase("llama.rope.scaling.type");
  metadata["llama.block_count"] = uint32_t{4000000000};
  EXPECT_THAT(error(metadata), HasSubstr("llama.block_count is out of range"));
}

}  // namespace
}  // namespace taipan
