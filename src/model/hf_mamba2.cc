// Mamba-2 as transformers and the original mamba_ssm have it.

#include <cmath>

#include "base/error.h"
#include "model/hf_fields.h"
#include "model/hf_format.h"

namespace taipan {
namespace {

constexpr ConfigDefault kMamba2Defaults[] = {
    {"vocab_size", "32768"},
    {"hidden_size", "4096"},
    {"num_hidden_layers", "64"},
    {"num_heads", "null"},  // 128 in the class, which refuses all but expand * hidden_size / head_dim
    {"head_dim", "64"},
    {"state_size", "128"},
    {"expand", "2"},
    {"conv_kernel", "4"},
    {"n_groups", "8"},
    {"chunk_size", "256"},
    {"layer_norm_epsilon", "1e-05"},
    {"time_step_limit", "[0.0, null]"},
    {"use_bias", "false"},
    {"use_conv_bias", "true"},
    {"hidden_act", "\"silu\""},
    {"initializer_range", "0.1"},
    {"tie_word_embeddings", "false"},
    {"bos_token_id", "0"},
    {"eos_token_id", "2"},
};

// mamba_ssm's MambaConfig, and the arguments of its class Mamba2.
constexpr ConfigDefault kMambaSsmDefaults[] = {
    {"d_model", "2560"},     {"n_layer", "64"},          {"vocab_size", "50277"},
    {"d_intermediate", "0"}, {"ssm_cfg", "{}"},          {"attn_layer_idx", "[]"},
    {"rms_norm", "true"},    {"tie_embeddings", "true"}, {"pad_vocab_size_multiple", "8"},
};

constexpr ConfigDefault kMambaSsmLayerDefaults[] = {
    {"layer", "\"Mamba1\""},
    {"d_state", "128"},
    {"d_conv", "4"},
    {"expand", "2"},
    {"headdim", "64"},
    {"ngroups", "1"},
    {"chunk_size", "256"},
    {"dt_limit", "[0.0, null]"},
    {"conv_bias", "true"},
    {"bias", "false"},
    {"D_has_hdim", "false"},
    {"rmsnorm", "true"},
    {"norm_before_gate", "false"},
};

struct Mamba2Fields : Common {
  std::optional<int64_t> num_heads;
  int64_t head_dim = 0, state_size = 0, expand = 0, conv_kernel = 0, n_groups = 0, chunk_size = 0;
  double layer_norm_epsilon = 0;
  std::array<double, 2> time_step_limit = {};
  bool use_bias = false, use_conv_bias = false, tie = false;
};

void VisitFields(Mamba2Fields& f, const FieldVisitor& visit) {
  VisitCommon(f, visit);
  visit({.name = "num_heads"}, &f.num_heads);
  visit({.name = "head_dim"}, &f.head_dim);
  visit({.name = "state_size"}, &f.state_size);
  visit({.name = "expand"}, &f.expand);
  visit({.name = "conv_kernel"}, &f.conv_kernel);
  visit({.name = "n_groups"}, &f.n_groups);
  visit({.name = "chunk_size"}, &f.chunk_size);
  visit({.name = "layer_norm_epsilon"}, &f.layer_norm_epsilon);
  visit({.name = "time_step_limit"}, &f.time_step_limit);
  visit({.name = "use_bias"}, &f.use_bias);
  visit({.name = "use_conv_bias"}, &f.use_conv_bias);
  visit({.name = "tie_word_embeddings"}, &f.tie);
}

// mamba_ssm's MambaConfig, and its ssm_cfg: arguments of its class Mamba2.
struct SsmFields {
  std::optional<int64_t> d_model, n_layer, vocab_size;
  int64_t d_intermediate = 0, pad_vocab_size_multiple = 0;
  Json ssm_cfg, attn_layer_idx;
  bool rms_norm = false, tie_embeddings = false;
};

void VisitFields(SsmFields& f, const FieldVisitor& visit) {
  visit({.name = "d_model"}, &f.d_model);
  visit({.name = "n_layer"}, &f.n_layer);
  visit({.name = "vocab_size"}, &f.vocab_size);
  visit({.name = "d_intermediate"}, &f.d_intermediate);
  visit({.name = "pad_vocab_size_multiple"}, &f.pad_vocab_size_multiple);
  visit({.name = "ssm_cfg"}, &f.ssm_cfg);
  visit({.name = "attn_layer_idx"}, &f.attn_layer_idx);
  visit({.name = "rms_norm"}, &f.rms_norm);
  visit({.name = "tie_embeddings"}, &f.tie_embeddings);
}

struct SsmLayerFields {
  std::string layer;
  int64_t d_state = 0, d_conv = 0, expand = 0, headdim = 0, ngroups = 0, chunk_size = 0;
  std::array<double, 2> dt_limit = {};
  bool conv_bias = false, bias = false, D_has_hdim = false, rmsnorm = false, norm_before_gate = false;
  Json d_ssm, ignored;
};

void VisitFields(SsmLayerFields& f, const FieldVisitor& visit) {
  visit({.name = "layer"}, &f.layer);
  visit({.name = "d_state"}, &f.d_state);
  visit({.name = "d_conv"}, &f.d_conv);
  visit({.name = "expand"}, &f.expand);
  visit({.name = "headdim"}, &f.headdim);
  visit({.name = "ngroups"}, &f.ngroups);
  visit({.name = "chunk_size"}, &f.chunk_size);
  visit({.name = "dt_limit"}, &f.dt_limit);
  visit({.name = "d_ssm"}, &f.d_ssm);
  visit({.name = "conv_bias"}, &f.conv_bias);
  visit({.name = "bias"}, &f.bias);
  visit({.name = "D_has_hdim"}, &f.D_has_hdim);
  visit({.name = "rmsnorm"}, &f.rmsnorm);
  visit({.name = "norm_before_gate"}, &f.norm_before_gate);
  // How new weights are drawn, and which kernel computes.
  for (const char* name : {"A_init_range", "dt_min", "dt_max", "dt_init_floor", "conv_init", "use_mem_eff_path"}) {
    visit({.name = name}, &f.ignored);
  }
}

ModelConfig ReadMamba2(const Json& json, const std::string& where) {
  const auto f = ReadKnown<Mamba2Fields>(json, {kMamba2Defaults}, where);
  ModelConfig c;
  SetCommon(f, where, c);
  SetLayers(f, LayerKind::kMamba2, c);
  RefuseFlag(f.use_bias, false, "use_bias", where);
  RefuseFlag(f.use_conv_bias, true, "use_conv_bias", where);
  c.head_dim = f.head_dim;
  c.state_size = f.state_size;
  c.expand = Needed(f.expand, "expand", where);
  c.conv_kernel = f.conv_kernel;
  c.n_groups = f.n_groups;
  c.chunk_size = f.chunk_size;
  c.time_step_limit = f.time_step_limit;
  c.rms_norm_eps = f.layer_norm_epsilon;
  c.tie_word_embeddings = f.tie;
  if (f.num_heads && c.head_dim > 0) CheckSsmHeads(c.d_inner(), c.head_dim, *f.num_heads, "num_heads", where);
  return c;
}

bool FitsMamba2(const ModelConfig& c) { return OnlyKinds(c, {LayerKind::kMamba2}) && HasPlainLayers(c); }

void WriteMamba2(const ModelConfig& c, const std::string&, OrderedJson& json) {
  json["num_heads"] = c.ssm_heads();
  json["head_dim"] = c.head_dim;
  json["state_size"] = c.state_size;
  json["expand"] = c.expand;
  json["n_groups"] = c.n_groups;
  json["conv_kernel"] = c.conv_kernel;
  json["chunk_size"] = c.chunk_size;
  json["layer_norm_epsilon"] = c.rms_norm_eps;
  json["use_bias"] = false;
  json["use_conv_bias"] = true;
  json["residual_in_fp32"] = true;
  // The default of transformers; older releases cannot read how newer ones write infinity.
  if (!UnlimitedTimeSteps(c)) WriteTimeStepLimit(c, json);
}

}  // namespace

const HfFormat kHfMamba2 = {"mamba2",   "Mamba-2",  "Mamba2ForCausalLM", Naming::kMamba2,
                            ReadMamba2, FitsMamba2, WriteMamba2};

ModelConfig ReadMambaSsm(const Json& json, const std::string& where) {
  const auto f = ReadKnown<SsmFields>(json, {kMambaSsmDefaults}, where);
  const std::string within = where + ": ssm_cfg";
  SsmLayerFields layer;
  ReadFields(f.ssm_cfg.is_object() ? WithDefaults(f.ssm_cfg, kMambaSsmLayerDefaults) : f.ssm_cfg, within, layer);
  Refuse(layer.layer != "Mamba2", "layer", "\"Mamba2\"", DescribeJson(layer.layer), within);
  RefuseFlag(layer.conv_bias, true, "conv_bias", within);
  RefuseFlag(layer.bias, false, "bias", within);
  RefuseFlag(layer.D_has_hdim, false, "D_has_hdim", within);
  RefuseFlag(layer.rmsnorm, true, "rmsnorm", within);
  RefuseFlag(layer.norm_before_gate, false, "norm_before_gate", within);
  Refuse(!layer.d_ssm.is_null(), "d_ssm", "null", DescribeJson(layer.d_ssm), within);
  RefuseFlag(f.rms_norm, true, "rms_norm", where);
  Refuse(f.d_intermediate != 0, "d_intermediate", "0", std::to_string(f.d_intermediate), where);
  Refuse(!ReadIntegers(f.attn_layer_idx, "attn_layer_idx", where).empty(), "attn_layer_idx", "no attention layers",
         DescribeJson(f.attn_layer_idx), where);
  ModelConfig c;
  const int64_t vocab = Needed(f.vocab_size, "vocab_size", where);
  CheckRange(where, "pad_vocab_size_multiple", f.pad_vocab_size_multiple, Between(1, 1 << 20));
  c.vocab_size = (vocab + f.pad_vocab_size_multiple - 1) / f.pad_vocab_size_multiple * f.pad_vocab_size_multiple;
  c.hidden_size = Needed(f.d_model, "d_model", where);
  c.layer_pattern.assign(static_cast<size_t>(Needed(f.n_layer, "n_layer", where, kMostLayers)), LayerKind::kMamba2);
  c.expand = layer.expand;
  c.head_dim = layer.headdim;
  c.state_size = layer.d_state;
  c.n_groups = layer.ngroups;
  c.conv_kernel = layer.d_conv;
  c.chunk_size = layer.chunk_size;
  c.time_step_limit = layer.dt_limit;
  c.rms_norm_eps = 1e-5;
  c.tie_word_embeddings = f.tie_embeddings;
  return c;
}

OrderedJson MambaSsmJson(const ModelConfig& c, const std::string& where) {
  if (CountBlocks(c, LayerKind::kMamba2) != c.num_layers()) {
    CannotSay(where, "mamba_ssm", "only Mamba-2 blocks have names there", "mamba2 blocks alone",
              "another layer_pattern");
  }
  if (!HasPlainLayers(c)) {
    CannotSay(where, "mamba_ssm", "it has no multipliers and one width", "plain mamba2 blocks", "a variant");
  }
  if (c.rms_norm_eps != 1e-5)
    CannotSay(where, "mamba_ssm", "its epsilon is fixed", "1e-05", ShortestDouble(c.rms_norm_eps));
  OrderedJson layer = {{"layer", "Mamba2"},         {"d_state", c.state_size}, {"d_conv", c.conv_kernel},
                       {"expand", c.expand},        {"headdim", c.head_dim},   {"ngroups", c.n_groups},
                       {"chunk_size", c.chunk_size}};
  if (!UnlimitedTimeSteps(c)) {
    if (std::isinf(c.time_step_limit[1])) {
      CannotSay(where, "mamba_ssm", "JSON has no infinity", "two finite time_step_limit", "an infinite one");
    }
    layer["dt_limit"] = c.time_step_limit;
  }
  return {{"d_model", c.hidden_size},
          {"d_intermediate", 0},
          {"n_layer", c.num_layers()},
          {"vocab_size", c.vocab_size},
          {"ssm_cfg", layer},
          {"attn_layer_idx", OrderedJson::array()},
          {"attn_cfg", OrderedJson::object()},
          {"rms_norm", true},
          {"residual_in_fp32", true},
          {"fused_add_norm", true},
          {"pad_vocab_size_multiple", 1},
          {"tie_embeddings", c.tie_word_embeddings}};
}

}  // namespace taipan
