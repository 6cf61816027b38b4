// transformers' Granite, and Granite hybrids (granitemoehybrid) without experts.

#include "base/error.h"
#include "model/hf_fields.h"
#include "model/hf_format.h"

namespace taipan {
namespace {

constexpr ConfigDefault kGraniteDefaults[] = {
    {"embedding_multiplier", "1.0"},
    {"logits_scaling", "1.0"},
    {"residual_multiplier", "1.0"},
    {"attention_multiplier", "1.0"},
    // Of hybrids.
    {"num_local_experts", "8"},
    {"shared_intermediate_size", "1024"},
    {"position_embedding_type", "null"},  // none
    {"layer_types", "null"},              // Mamba-2 in every layer
    {"layers_block_type", "null"},        // another name of layer_types
};

constexpr LayerName kGraniteLayers[] = {{"mamba", LayerKind::kMamba2Mlp},
                                        {"linear_attention", LayerKind::kMamba2Mlp},
                                        {"attention", LayerKind::kAttention},
                                        {"full_attention", LayerKind::kAttention}};

struct GraniteFields : LlamaFields {
  double embedding_multiplier = 0, logits_scaling = 0, residual_multiplier = 0;
  std::optional<double> attention_multiplier;  // null: the usual one
};

void VisitFields(GraniteFields& f, const FieldVisitor& visit) {
  VisitFields(static_cast<LlamaFields&>(f), visit);
  visit({.name = "embedding_multiplier"}, &f.embedding_multiplier);
  visit({.name = "logits_scaling"}, &f.logits_scaling);
  visit({.name = "residual_multiplier"}, &f.residual_multiplier);
  visit({.name = "attention_multiplier"}, &f.attention_multiplier);
}

struct GraniteHybridFields : GraniteFields, MambaFields {
  std::optional<int64_t> num_local_experts, shared_intermediate_size;
  Json position_embedding_type, layer_types, layers_block_type;
};

void VisitFields(GraniteHybridFields& f, const FieldVisitor& visit) {
  VisitFields(static_cast<GraniteFields&>(f), visit);
  VisitMamba(f, visit);
  visit({.name = "num_local_experts"}, &f.num_local_experts);
  visit({.name = "shared_intermediate_size"}, &f.shared_intermediate_size);
  visit({.name = "position_embedding_type"}, &f.position_embedding_type);
  visit({.name = "layer_types"}, &f.layer_types);
  visit({.name = "layers_block_type"}, &f.layers_block_type);
}

void SetGranite(const GraniteFields& f, const std::string& where, ModelConfig& c) {
  SetCommon(f, where, c);
  SetAttention(f, where, c);
  c.embedding_multiplier = f.embedding_multiplier;
  c.logits_scaling = f.logits_scaling;
  c.attention_multiplier = f.attention_multiplier;
  c.ssm_out_multiplier = c.attention_out_multiplier = c.mlp_out_multiplier = f.residual_multiplier;
}

ModelConfig ReadGranite(const Json& json, const std::string& where) {
  const auto f = ReadKnown<GraniteFields>(json, {kGraniteDefaults, kLlamaDefaults}, where);
  ModelConfig c;
  SetGranite(f, where, c);
  SetRope(f, where, c);
  RefusePartialRope(where, c);
  SetLayers(f, LayerKind::kAttention, c);
  return c;
}

ModelConfig ReadGraniteHybrid(const Json& json, const std::string& where) {
  const auto f = ReadKnown<GraniteHybridFields>(json, {kGraniteDefaults, kMambaDefaults, kLlamaDefaults}, where);
  const int64_t experts = f.num_local_experts.value_or(0);
  Refuse(experts != 0, "num_local_experts", "0: no mixture of experts", std::to_string(experts), where);
  ModelConfig c;
  SetGranite(f, where, c);
  c.intermediate_size = Needed(f.shared_intermediate_size, "shared_intermediate_size", where);
  if (f.position_embedding_type == "rope") {
    SetRope(f, where, c);
    RefusePartialRope(where, c);
  }
  SetLayers(f, LayerKind::kMamba2Mlp, c);
  const Json& types = f.layer_types.is_null() ? f.layers_block_type : f.layer_types;
  if (!types.is_null()) c.layer_pattern = ReadLayerTypes(types, "layer_types", kGraniteLayers, where);
  if (c.num_layers() != *f.num_hidden_layers) {
    throw UserError({where, "layer_types has another length than num_hidden_layers",
                     std::to_string(*f.num_hidden_layers), std::to_string(c.num_layers())});
  }
  const bool hybrid = CountBlocks(c, LayerKind::kMamba2Mlp) > 0;
  if (hybrid) SetMamba(f, Needed(f.mamba_expand, "mamba_expand", where) * c.hidden_size, where, c);
  return c;
}

bool HasGraniteMultipliers(const ModelConfig& c) {
  return c.mlp_gate_multiplier == 1 && c.attention_out_multiplier == c.mlp_out_multiplier;
}

bool FitsGranite(const ModelConfig& c) {
  return OnlyKinds(c, {LayerKind::kAttention}) && c.rope_theta && HasGraniteMultipliers(c);
}

bool FitsGraniteHybrid(const ModelConfig& c) {
  const ModelConfig plain;
  return OnlyKinds(c, {LayerKind::kMamba2Mlp, LayerKind::kAttention}) && HasGraniteMultipliers(c) &&
         c.ssm_out_multiplier == c.mlp_out_multiplier && c.ssm_multipliers == plain.ssm_multipliers &&
         c.gated_norm == plain.gated_norm && !c.ssm_num_heads;
}

void WriteGranite(const ModelConfig& c, const std::string& where, OrderedJson& json) {
  WriteAttention(c, json);
  if (c.rope_theta && c.partial_rotary_factor != 1) {
    CannotSay(where, "transformers", "its Granite rotates whole heads", "partial_rotary_factor 1",
              ShortestDouble(c.partial_rotary_factor));
  }
  json["head_dim"] = c.attention_head_dim;
  json["embedding_multiplier"] = c.embedding_multiplier;
  json["logits_scaling"] = c.logits_scaling;
  json["residual_multiplier"] = c.mlp_out_multiplier;
  json["attention_multiplier"] = ScoreMultiplier(c);
}

void WriteGraniteHybrid(const ModelConfig& c, const std::string& where, OrderedJson& json) {
  WriteGranite(c, where, json);
  json["position_embedding_type"] = c.rope_theta ? "rope" : "nope";
  json["shared_intermediate_size"] = c.intermediate_size;
  json["num_local_experts"] = 0;
  json["num_experts_per_tok"] = 0;
  json["layer_types"] = LayerTypes(c, kGraniteLayers);
  if (CountBlocks(c, LayerKind::kMamba2Mlp) > 0) {
    WriteMamba(c, json);
  } else {
    json["mamba_n_heads"] = 1;  // checked there even so
  }
}

}  // namespace

const HfFormat kHfGranite = {"granite",   "Granite",   "GraniteForCausalLM", Naming::kLlama,
                             ReadGranite, FitsGranite, WriteGranite};
const HfFormat kHfGraniteHybrid = {"granitemoehybrid",     "Granite hybrid",  "GraniteMoeHybridForCausalLM",
                                   Naming::kGraniteHybrid, ReadGraniteHybrid, FitsGraniteHybrid,
                                   WriteGraniteHybrid};

}  // namespace taipan
