#pragma once
// A model whose every token has one successor, to see where generation ends and what it shows.

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/files.h"
#include "base/test_folder.h"
#include "formats/safetensors.h"
#include "text/tokenizer.h"

namespace taipan {

// A folder of one Llama block that does nothing: token chain[i] is followed by chain[i + 1]. Ids 0 to 255 are bytes,
// the others special tokens.
class ChainModel {
 public:
  explicit ChainModel(const std::vector<int>& chain, const std::vector<std::string>& special_tokens) {
    const int64_t width = 32, vocab = 256 + static_cast<int64_t>(special_tokens.size());
    CHECK_LE(static_cast<int64_t>(chain.size()), width);
    std::map<std::string, Tensor> tensors;
    const auto add = [&](const std::string& name, std::vector<int64_t> shape, float value) -> Tensor& {
      Tensor& t = tensors.emplace(name, Tensor(std::move(shape))).first->second;
      std::fill(t.F32(), t.F32() + t.size(), value);
      return t;
    };
    Tensor& embedding = add("model.embed_tokens.weight", {vocab, width}, 0);
    Tensor& head = add("lm_head.weight", {vocab, width}, 0);
    for (size_t i = 0; i < chain.size(); ++i) {
      embedding.F32()[chain[i] * width + static_cast<int64_t>(i)] = 1;
      if (i + 1 < chain.size()) head.F32()[chain[i + 1] * width + static_cast<int64_t>(i)] = 1;
    }
    add("model.norm.weight", {width}, 1);
    const std::string block = "model.layers.0.";
    for (const char* norm : {"input_layernorm", "post_attention_layernorm"}) {
      add(block + norm + ".weight", {width}, 1);
    }
    for (const char* name : {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
                             "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"}) {
      add(block + name + ".weight", {width, width}, 0);
    }
    std::vector<SafetensorsItem> items;
    for (const auto& [name, t] : tensors) items.push_back({name, DType::kF32, t.shape(), t.data()});
    WriteSafetensors(folder_ / "model.safetensors", items, {});
    config_ = {{"model_type", "llama"},        {"vocab_size", vocab},    {"hidden_size", width},
               {"intermediate_size", width},   {"num_hidden_layers", 1}, {"num_attention_heads", 1},
               {"num_key_value_heads", 1},     {"head_dim", width},      {"rms_norm_eps", 1e-5},
               {"rope_theta", 10000.0},        {"hidden_act", "silu"},   {"tie_word_embeddings", false},
               {"max_position_embeddings", 64}};
    SetConfig(nlohmann::json::object());
    nlohmann::json tokenizer = nlohmann::json::parse(ByteTokenizerJson());
    for (size_t i = 0; i < special_tokens.size(); ++i) {
      tokenizer["added_tokens"].push_back({{"id", 256 + i}, {"content", special_tokens[i]}, {"special", true}});
    }
    Write("tokenizer.json", tokenizer.dump());
  }

  // config.json with more keys.
  void SetConfig(const nlohmann::json& more) const {
    nlohmann::json config = config_;
    config.update(more);
    Write("config.json", config.dump());
  }
  void Write(const std::string& name, const std::string& content) const {
    WriteFileAtomically(folder_ / name, content);
  }
  std::string path() const { return folder_.path(); }

 private:
  TestFolder folder_;
  nlohmann::json config_ = nlohmann::json::object();
};

}  // namespace taipan
