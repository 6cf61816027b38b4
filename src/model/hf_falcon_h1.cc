// transformers' Falcon-H1: Mamba-2 and attention side by side on one norm, then an MLP, with multipliers everywhere.

#include <cmath>

#include "base/error.h"
#include "model/hf_fields.h"
#include "model/hf_format.h"

namespace taipan {
namespace {

constexpr ConfigDefault kFalconH1Defaults[] = {
    {"vocab_size", "128000"},
    {"intermediate_size", "14336"},
    {"num_key_value_heads", "8"},
    {"mamba_d_ssm", "1024"},
    {"mamba_norm_before_gate", "true"},
    {"mamba_rms_norm", "false"},
    {"projectors_bias", "false"},
    {"rms_norm_eps", "1e-05"},
    {"max_position_embeddings", "8192"},
    {"embedding_multiplier", "1.0"},
    {"lm_head_multiplier", "1.0"},
    {"mlp_multipliers", "[1.0, 1.0]"},
    {"key_multiplier", "1.0"},
    {"attention_in_multiplier", "1.0"},
    {"attention_out_multiplier", "1.0"},
    {"ssm_in_multiplier", "1.0"},
    {"ssm_multipliers", "[1.0, 1.0, 1.0, 1.0, 1.0]"},
    {"ssm_out_multiplier", "1.0"},
};

struct FalconH1Fields : LlamaFields, MambaFields {
  std::optional<int64_t> mamba_d_ssm;
  double embedding_multiplier = 0, lm_head_multiplier = 0, key_multiplier = 0;
  double attention_in_multiplier = 0, attention_out_multiplier = 0, ssm_in_multiplier = 0, ssm_out_multiplier = 0;
  Json mlp_multipliers, ssm_multipliers;
  bool mamba_norm_before_gate = false, mamba_rms_norm = false, projectors_bias = false;
};

void VisitFields(FalconH1Fields& f, const FieldVisitor& visit) {
  VisitFields(static_cast<LlamaFields&>(f), visit);
  VisitMamba(f, visit);
  visit({.name = "mamba_d_ssm"}, &f.mamba_d_ssm);
  visit({.name = "mamba_norm_before_gate"}, &f.mamba_norm_before_gate);
  visit({.name = "mamba_rms_norm"}, &f.mamba_rms_norm);
  visit({.name = "projectors_bias"}, &f.projectors_bias);
  visit({.name = "embedding_multiplier"}, &f.embedding_multiplier);
  visit({.name = "lm_head_multiplier"}, &f.lm_head_multiplier);
  visit({.name = "mlp_multipliers"}, &f.mlp_multipliers);
  visit({.name = "key_multiplier"}, &f.key_multiplier);
  visit({.name = "attention_in_multiplier"}, &f.attention_in_multiplier);
  visit({.name = "attention_out_multiplier"}, &f.attention_out_multiplier);
  visit({.name = "ssm_in_multiplier"}, &f.ssm_in_multiplier);
  visit({.name = "ssm_multipliers"}, &f.ssm_multipliers);
  visit({.name = "ssm_out_multiplier"}, &f.ssm_out_multiplier);
}

// What goes into a linear map times a number is the same as what comes out of it, so ours has the latter alone.
void SetMultipliers(const FalconH1Fields& f, const std::string& where, ModelConfig& c) {
  c.embedding_multiplier = f.embedding_multiplier;
  CheckRange(where, "lm_head_multiplier", f.lm_head_multiplier, Above(0));
  c.logits_scaling = 1 / f.lm_head_multiplier;
  const double in = f.attention_in_multiplier, scores = in * in * f.key_multiplier;  // of queries and keys
  if (scores != 1) c.attention_multiplier = scores * ScoreMultiplier(c);
  c.attention_out_multiplier = in * f.attention_out_multiplier;  // of values and the output
  const std::vector<double> mlp = ReadNumbers(f.mlp_multipliers, 2, "mlp_multipliers", where);
  c.mlp_gate_multiplier = mlp[0];
  c.mlp_out_multiplier = mlp[1];
  c.ssm_multipliers = SsmMultipliers(ReadNumbers(f.ssm_multipliers, 5, "ssm_multipliers", where), where);
  for (double& part : c.ssm_multipliers) part *= f.ssm_in_multiplier;
  c.ssm_out_multiplier = f.ssm_out_multiplier;
}

ModelConfig ReadFalconH1(const Json& json, const std::string& where) {
  const auto f = ReadKnown<FalconH1Fields>(json, {kFalconH1Defaults, kMambaDefaults, kLlamaDefaults}, where);
  ModelConfig c;
  SetCommon(f, where, c);
  SetAttention(f, where, c);
  SetRope(f, where, c);
  RefusePartialRope(where, c);
  RefuseFlag(f.projectors_bias, false, "projectors_bias", where);
  SetLayers(f, LayerKind::kMamba2Attention, c);
  const int64_t inner = f.mamba_d_ssm ? Needed(f.mamba_d_ssm, "mamba_d_ssm", where)
                                      : Needed(f.mamba_expand, "mamba_expand", where) * c.hidden_size;
  SetMamba(f, inner, where, c);
  c.gated_norm = !f.mamba_rms_norm          ? GatedNorm::kNone
                 : f.mamba_norm_before_gate ? GatedNorm::kNormFirst
                                            : GatedNorm::kGateFirst;
  SetMultipliers(f, where, c);
  return c;
}

bool FitsFalconH1(const ModelConfig& c) { return OnlyKinds(c, {LayerKind::kMamba2Attention}); }

void WriteFalconH1(const ModelConfig& c, const std::string& where, OrderedJson& json) {
  if (!c.rope_theta) CannotSay(where, "transformers", "its Falcon-H1 always rotates", "rope_theta", "null");
  if (c.partial_rotary_factor != 1) {
    CannotSay(where, "transformers", "its Falcon-H1 rotates whole heads", "partial_rotary_factor 1",
              ShortestDouble(c.partial_rotary_factor));
  }
  WriteAttention(c, json);
  json["head_dim"] = c.attention_head_dim;
  WriteMamba(c, json);
  json["mamba_d_ssm"] = c.d_inner();
  json["mamba_rms_norm"] = c.gated_norm != GatedNorm::kNone;
  json["mamba_norm_before_gate"] = c.gated_norm == GatedNorm::kNormFirst;
  json["projectors_bias"] = false;
  json["embedding_multiplier"] = c.embedding_multiplier;
  json["lm_head_multiplier"] = 1 / c.logits_scaling;
  json["mlp_multipliers"] = {c.mlp_gate_multiplier, c.mlp_out_multiplier};
  json["key_multiplier"] = ScoreMultiplier(c) * std::sqrt(static_cast<double>(c.attention_head_dim));
  json["attention_in_multiplier"] = 1.0;
  json["attention_out_multiplier"] = c.attention_out_multiplier;
  json["ssm_in_multiplier"] = 1.0;
  json["ssm_multipliers"] = c.ssm_multipliers;
  json["ssm_out_multiplier"] = c.ssm_out_multiplier;
}

}  // namespace

const HfFormat kHfFalconH1 = {"falcon_h1",  "Falcon-H1",  "FalconH1ForCausalLM", Naming::kBamba,
                              ReadFalconH1, FitsFalconH1, WriteFalconH1};

}  // namespace taipan
