#include "model/tensor_match.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/test_folder.h"
#include "formats/safetensors.h"
#include "model/checkpoint.h"
#include "model/config_test_text.h"
#include "model/export.h"
#include "model/hf_config.h"
#include "model/hf_config_test_text.h"
#include "model/model_files.h"

namespace taipan {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;

std::vector<float> Weights(LanguageModel& model) {
  std::vector<float> all;
  model.params().ForEach([&](Weight& w) { all.insert(all.end(), w.F32(), w.F32() + w.f32.size()); });
  return all;
}

// A model's folder, with its tensors under other names and others beside them.
class Folder {
 public:
  explicit Folder(const char* text) : model_(ParseModelConfig(text, "a")) {
    model_.Initialise(3, 0.0);
    const Naming naming = ParseCheckpointConfig(text, "a").naming;
    WriteFileAtomically(folder_ / "config.json", text);
    const std::vector<ForeignTensor> names = ForeignTensors(model_.config(), naming);
    model_.params().ForEach([&](Weight& w) {
      const ForeignTensor& name = names[items_.size()];
      items_.push_back({name.name, DType::kF32, name.shape, w.f32.data()});
    });
  }

  template <class F>
  Folder& Rename(const F& f) {
    for (SafetensorsItem& item : items_) item.name = f(item.name);
    return *this;
  }
  Folder& Add(const std::string& name, std::vector<int64_t> shape, const void* values = nullptr) {
    static const std::vector<float> zeros(4096);
    items_.push_back({name, DType::kF32, std::move(shape), values != nullptr ? values : zeros.data()});
    return *this;
  }
  SafetensorsItem& item(const std::string& name) {
    return *std::find_if(items_.begin(), items_.end(), [&](const auto& i) { return i.name == name; });
  }

  // "" where it is read as the model that it was.
  std::string Error(const OpenOptions& options = {}) {
    WriteSafetensors(folder_ / "model.safetensors", items_);
    return UserErrorOf([&] {
      LanguageModel read = LoadModel(OpenCheckpoint(folder_.path(), options));
      EXPECT_EQ(Weights(read), Weights(model_));
    });
  }

 private:
  TestFolder folder_;
  LanguageModel model_;
  std::vector<SafetensorsItem> items_;
};

std::string Untied() {
  Json json = Json::parse(kHfLlamaText);
  json["tie_word_embeddings"] = false;
  return json.dump();
}

const std::vector<std::string>& Wrappers() {
  static const std::vector<std::string> all = {
      "_orig_mod.", "module.",           "base_model.model.",       "model.",
      "backbone.",  "module._orig_mod.", "_orig_mod.module.model.", "base_model.model.model."};
  return all;
}

TEST(TensorMatch, NamesInFrontAreLeftOut) {
  for (const std::string& text : {Untied(), std::string(kTaipanText), std::string(kHfMamba2Text),
                                  std::string(kHfBambaText), std::string(kMambaSsmText)}) {
    for (const std::string& before : text == Untied() ? Wrappers() : std::vector<std::string>{"_orig_mod.module."}) {
      Folder folder(text.c_str());
      EXPECT_EQ(folder.Rename([&](const std::string& name) { return before + name; }).Error(), "") << before;
    }
    Folder without(text.c_str());
    EXPECT_EQ(without
                  .Rename([](const std::string& name) {
                    return name.starts_with("lm_head") ? name : name.substr(name.find('.') + 1);
                  })
                  .Error(),
              "");
    Folder inside(text.c_str());  // what compiling or sharding each block leaves
    EXPECT_EQ(inside
                  .Rename([](std::string name) {
                    const size_t block = name.find("layers.");
                    if (block != name.npos) name.insert(name.find('.', block + 7) + 1, "_fsdp_wrapped_module.");
                    return name;
                  })
                  .Error(),
              "");
  }
}

TEST(TensorMatch, TransformersReadsTheEmbeddingOfMambaSsm) {
  EXPECT_EQ(Folder(kHfMamba2Text)
                .Rename([](std::string name) {
                  return name == "backbone.embeddings.weight" ? "backbone.embedding.weight" : name;
                })
                .Error(),
            "");
}

TEST(TensorMatch, BuffersAreNotNeeded) {
  Folder folder(Untied().c_str());
  folder.Add("model.layers.0.self_attn.rotary_emb.inv_freq", {8})
      .Add("model.layers.0.self_attn.rotary_emb.cos_cached", {1, 1, 32, 16})
      .Add("model.layers.1.self_attn.rotary_emb.sin_cached", {1, 1, 32, 16})
      .Add("model.rotary_emb.original_inv_freq", {8})
      .Add("model.position_ids", {1, 32})
      .Add("model.layers.1.self_attn.masked_bias", {})
      .Add("model.layers.1.self_attn.bias", {1, 1, 32, 32});
  testing::internal::CaptureStderr();
  EXPECT_EQ(folder.Error(), "");
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_THAT(said, HasSubstr("left out 7 buffers that the config determines"));
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1) << said;
  // A bias of the projection is none.
  EXPECT_THAT(Folder(Untied().c_str()).Add("model.layers.1.self_attn.bias", {32}).Error(), HasSubstr("self_attn.bias"));
}

TEST(TensorMatch, UnknownTensorsAreRefusedUnlessAskedFor) {
  Folder folder(Untied().c_str());
  folder.Add("model.layers.0.self_attn.q_proj.bias", {32}).Add("score.weight", {2, 32});
  EXPECT_THAT(folder.Error(), AllOf(HasSubstr("2 tensors that the config does not have"), HasSubstr("q_proj.bias"),
                                    HasSubstr("score.weight"), HasSubstr("--ignore-extra")));
  testing::internal::CaptureStderr();
  EXPECT_EQ(folder.Error({.ignore_extra = true}), "");
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              AllOf(HasSubstr("left out 2 tensors that the config does not have"), HasSubstr("score.weight")));
  // What is missing stays missing.
  folder.item("model.norm.weight").name = "model.final_norm.weight";
  EXPECT_THAT(folder.Error({.ignore_extra = true}), HasSubstr("a tensor is missing, expected model.norm.weight"));
}

// In one place of a larger model, beside its other parts.
TEST(TensorMatch, APartOfALargerModel) {
  Folder folder(Untied().c_str());
  folder.Rename([](const std::string& name) { return "language_model." + name; }).Add("vision.patch.weight", {8, 8});
  EXPECT_THAT(folder.Error(), HasSubstr("\"vision.patch.weight\""));
  EXPECT_EQ(folder.Error({.ignore_extra = true}), "");
  Folder tied(kHfLlamaText);
  tied.item("model.embed_tokens.weight").name = "lm_head.weight";
  EXPECT_EQ(tied.Rename([](const std::string& name) { return "student.net." + name; }).Error(), "");
  Folder two(Untied().c_str());
  const SafetensorsItem embedding = two.item("model.embed_tokens.weight");
  two.Rename([](const std::string& name) { return "student." + name; });
  two.Add("teacher.model.embed_tokens.weight", embedding.shape, embedding.data);
  EXPECT_THAT(two.Error({.ignore_extra = true}), HasSubstr("a tensor is missing"));
}

// Two that could be the same tensor: the plain name goes first, the other is no part of the model.
TEST(TensorMatch, SecondCopiesAreNotMixedUp) {
  Folder folder(Untied().c_str());
  folder.Add("_orig_mod.model.norm.weight", {32});
  EXPECT_THAT(folder.Error(), HasSubstr("_orig_mod.model.norm.weight"));
  EXPECT_EQ(folder.Error({.ignore_extra = true}), "");
}

TEST(TensorMatch, OneOfATiedPairIsEnough) {
  for (const char* head : {"lm_head.weight", "module.lm_head.weight", "model.lm_head.weight"}) {
    Folder folder(kHfLlamaText);
    folder.item("model.embed_tokens.weight").name = head;
    EXPECT_EQ(folder.Error(), "") << head;
  }
  Folder both(kHfLlamaText);
  const SafetensorsItem embedding = both.item("model.embed_tokens.weight");
  EXPECT_EQ(both.Add("lm_head.weight", embedding.shape, embedding.data).Error(), "");
  Folder different(kHfLlamaText);
  EXPECT_THAT(different.Add("lm_head.weight", embedding.shape).Error(), HasSubstr("not the embedding"));
  Folder untied(Untied().c_str());
  untied.item("model.embed_tokens.weight").name = "x";
  EXPECT_THAT(untied.Error(), HasSubstr("a tensor is missing, expected model.embed_tokens.weight"));
}

TEST(TensorMatch, GgufToo) {
  LanguageModel model(ParseModelConfig(kHfLlamaText, "a"));
  model.Initialise(3, 0.0);
  const TestFolder folder;
  ExportGguf(model, GgmlType::kF32, {}, folder / "a.gguf", "a");
  const GgufFile file(folder / "a.gguf");
  const auto rewrite = [&](const std::string& embedding, const std::string& extra) {
    std::vector<GgufItem> items;
    for (const auto& [name, t] : file.tensors()) {
      const auto values = [&file, stored = name, shape = t.shape] { return file.ReadF32(stored, shape); };
      items.push_back({name == "token_embd.weight" ? embedding : name, t.type, t.shape, values});
    }
    if (!extra.empty()) items.push_back({extra, GgmlType::kF32, {4}, [] { return Tensor({4}); }});
    WriteGguf(folder / "b.gguf", file.metadata(), items);
    return UserErrorOf([&] {
      LanguageModel read = LoadModel(folder / "b.gguf");
      EXPECT_EQ(read.config().tie_word_embeddings, true);
      EXPECT_EQ(read.config().vocab_size, 97);
      EXPECT_LT(std::abs(Weights(read)[100] - Weights(model)[100]), 1e-6f);
    });
  };
  EXPECT_THAT(rewrite("token_embd.weight", ""), IsEmpty());
  EXPECT_THAT(rewrite("output.weight", ""), IsEmpty());
  EXPECT_THAT(rewrite("token_embd.weight", "blk.0.attn_rot_embd.weight"), IsEmpty());
  EXPECT_THAT(rewrite("token_embd.weight", "blk.0.attn_q.bias"), HasSubstr("blk.0.attn_q.bias"));
  EXPECT_THAT(rewrite("x.weight", ""), HasSubstr("token_embd.weight"));
}

}  // namespace
}  // namespace taipan
