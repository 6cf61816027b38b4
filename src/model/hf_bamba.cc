// transformers' Bamba.

#include "base/error.h"
#include "model/hf_fields.h"
#include "model/hf_format.h"

namespace taipan {
namespace {

constexpr ConfigDefault kBambaDefaults[] = {
    {"vocab_size", "128000"},       {"intermediate_size", "14336"},   {"num_key_value_heads", "8"},
    {"attn_layer_indices", "null"},  // no attention
    {"rms_norm_eps", "1e-05"},      {"partial_rotary_factor", "0.5"}, {"max_position_embeddings", "262144"},
};

struct BambaFields : LlamaFields, MambaFields {
  Json attn_layer_indices;
};

void VisitFields(BambaFields& f, const FieldVisitor& visit) {
  VisitFields(static_cast<LlamaFields&>(f), visit);
  VisitMamba(f, visit);
  visit({.name = "attn_layer_indices"}, &f.attn_layer_indices);
}

ModelConfig ReadBamba(const Json& json, const std::string& where) {
  auto f = ReadKnown<BambaFields>(json, {kBambaDefaults, kMambaDefaults, kLlamaDefaults}, where);
  f.partial_rotary_factor = 0.5;  // the class fixes it, unless it stands among the rope parameters
  ModelConfig c;
  SetCommon(f, where, c);
  SetAttention(f, where, c);
  SetRope(f, where, c);
  SetLayers(f, LayerKind::kMamba2Mlp, c);
  for (const int64_t layer : ReadIntegers(f.attn_layer_indices, "attn_layer_indices", where)) {
    CheckRange(where, "attn_layer_indices", layer, AtLeastBelow(0, static_cast<double>(c.num_layers())));
    c.layer_pattern[static_cast<size_t>(layer)] = LayerKind::kAttention;
  }
  SetMamba(f, Needed(f.mamba_expand, "mamba_expand", where) * c.hidden_size, where, c);
  return c;
}

bool FitsBamba(const ModelConfig& c) {
  return OnlyKinds(c, {LayerKind::kMamba2Mlp, LayerKind::kAttention}) && HasPlainLayers(c) && c.rope_theta.has_value();
}

void WriteBamba(const ModelConfig& c, const std::string& where, OrderedJson& json) {
  WriteAttention(c, json);
  if (c.partial_rotary_factor != 0.5) {
    CannotSay(where, "transformers", "its Bamba rotates half of a head", "partial_rotary_factor 0.5",
              ShortestDouble(c.partial_rotary_factor));
  }
  if (c.attention_head_dim * c.num_attention_heads != c.hidden_size) {
    CannotSay(where, "transformers", "its Bamba splits the width into heads",
              std::to_string(c.hidden_size / c.num_attention_heads), std::to_string(c.attention_head_dim));
  }
  json["attn_layer_indices"] = OrderedJson::array();
  for (int64_t i = 0; i < c.num_layers(); ++i) {
    if (c.layer_pattern[static_cast<size_t>(i)] == LayerKind::kAttention) json["attn_layer_indices"].push_back(i);
  }
  json["partial_rotary_factor"] = c.partial_rotary_factor;
  WriteMamba(c, json);
}

}  // namespace

const HfFormat kHfBamba = {"bamba", "Bamba", "BambaForCausalLM", Naming::kBamba, ReadBamba, FitsBamba, WriteBamba};

}  // namespace taipan
