// transformers' Llama and Mistral.

#include "base/error.h"
#include "model/hf_fields.h"
#include "model/hf_format.h"

namespace taipan {
namespace {

constexpr ConfigDefault kMistralDefaults[] = {
    {"intermediate_size", "14336"},
    {"num_key_value_heads", "8"},
    {"sliding_window", "4096"},  // null: none
    {"max_position_embeddings", "131072"},
};

ModelConfig ReadLlamaLike(const Json& json, const std::string& where, bool mistral) {
  const std::span<const ConfigDefault> own = mistral ? kMistralDefaults : std::span<const ConfigDefault>();
  const auto f = ReadKnown<LlamaFields>(json, {own, kLlamaDefaults}, where);
  ModelConfig c;
  SetCommon(f, where, c);
  SetAttention(f, where, c);
  SetRope(f, where, c);
  RefusePartialRope(where, c);
  const bool sliding = mistral && f.sliding_window.has_value();
  if (sliding) c.sliding_window = *f.sliding_window;
  SetLayers(f, sliding ? LayerKind::kSlidingAttention : LayerKind::kAttention, c);
  return c;
}

ModelConfig ReadLlama(const Json& json, const std::string& where) { return ReadLlamaLike(json, where, false); }
ModelConfig ReadMistral(const Json& json, const std::string& where) { return ReadLlamaLike(json, where, true); }

bool FitsLlama(const ModelConfig& c) {
  return OnlyKinds(c, {LayerKind::kAttention}) && HasPlainLayers(c) && c.rope_theta.has_value();
}
bool FitsMistral(const ModelConfig& c) { return OnlyKinds(c, {LayerKind::kSlidingAttention}) && HasPlainLayers(c); }

void WriteLlama(const ModelConfig& c, const std::string& where, OrderedJson& json) {
  if (!c.rope_theta) CannotSay(where, "transformers", "its Mistral always rotates", "rope_theta", "null");
  WriteAttention(c, json);
  json["head_dim"] = c.attention_head_dim;
  if (c.partial_rotary_factor != 1) {
    CannotSay(where, "transformers", "its Llama rotates whole heads", "partial_rotary_factor 1",
              ShortestDouble(c.partial_rotary_factor));
  }
  if (FitsMistral(c)) json["sliding_window"] = c.sliding_window;
}

}  // namespace

const HfFormat kHfLlama = {"llama", "Llama", "LlamaForCausalLM", Naming::kLlama, ReadLlama, FitsLlama, WriteLlama};
const HfFormat kHfMistral = {"mistral",   "Mistral", "MistralForCausalLM", Naming::kLlama, ReadMistral,
                             FitsMistral, WriteLlama};

}  // namespace taipan
