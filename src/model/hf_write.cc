// What the writers of config.json in other programs' words share.

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "model/hf_format.h"
#include "model/rope_scaling.h"

namespace taipan {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

OrderedJson Limit(double value) {
  return value == kInfinity ? OrderedJson{{"__float__", "Infinity"}} : OrderedJson(value);
}

}  // namespace

void CannotSay(const std::string& where, const char* program, const std::string& what, const std::string& expected,
               const std::string& found) {
  throw UserError({where, fmt::format("{} cannot hold this model: {}", program, what), expected, found});
}

void WriteAttention(const ModelConfig& c, OrderedJson& json) {
  json["intermediate_size"] = c.intermediate_size;
  json["num_attention_heads"] = c.num_attention_heads;
  json["num_key_value_heads"] = c.num_key_value_heads;
  json["rms_norm_eps"] = c.rms_norm_eps;
  if (c.rope_theta) json["rope_theta"] = *c.rope_theta;
  json["rope_scaling"] = c.rope_scaling ? OrderedJson(RopeScalingJson(*c.rope_scaling)) : OrderedJson(nullptr);
  json["attention_bias"] = false;
  json["mlp_bias"] = false;
}

void WriteMamba(const ModelConfig& c, OrderedJson& json) {
  json["mamba_n_heads"] = c.ssm_heads();
  json["mamba_d_head"] = c.head_dim;
  json["mamba_d_state"] = c.state_size;
  json["mamba_d_conv"] = c.conv_kernel;
  json["mamba_expand"] = c.expand;
  json["mamba_n_groups"] = c.n_groups;
  json["mamba_chunk_size"] = c.chunk_size;
  json["mamba_conv_bias"] = true;
  json["mamba_proj_bias"] = false;
  WriteTimeStepLimit(c, json);
}

void WriteTimeStepLimit(const ModelConfig& c, OrderedJson& json) {
  json["time_step_limit"] = {Limit(c.time_step_limit[0]), Limit(c.time_step_limit[1])};
}

double ScoreMultiplier(const ModelConfig& c) {
  return c.attention_multiplier.value_or(1 / std::sqrt(static_cast<double>(c.attention_head_dim)));
}

bool UnlimitedTimeSteps(const ModelConfig& c) { return c.time_step_limit == std::array{0.0, kInfinity}; }

bool OnlyKinds(const ModelConfig& c, std::initializer_list<LayerKind> kinds) {
  return std::all_of(c.layer_pattern.begin(), c.layer_pattern.end(),
                     [&](LayerKind kind) { return std::find(kinds.begin(), kinds.end(), kind) != kinds.end(); });
}

bool HasPlainLayers(const ModelConfig& c) {
  ModelConfig plain = c;
  const ModelConfig none;
  plain.ssm_num_heads = none.ssm_num_heads;
  plain.gated_norm = none.gated_norm;
  plain.embedding_multiplier = none.embedding_multiplier;
  plain.attention_multiplier = none.attention_multiplier;
  plain.ssm_multipliers = none.ssm_multipliers;
  plain.mlp_gate_multiplier = none.mlp_gate_multiplier;
  plain.ssm_out_multiplier = none.ssm_out_multiplier;
  plain.attention_out_multiplier = none.attention_out_multiplier;
  plain.mlp_out_multiplier = none.mlp_out_multiplier;
  plain.logits_scaling = none.logits_scaling;
  return plain == c;
}

}  // namespace taipan
