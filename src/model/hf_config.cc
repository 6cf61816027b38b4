#include "model/hf_config.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/fields.h"
#include "base/files.h"
#include "model/config_defaults.h"
#include "model/rope_scaling.h"

namespace taipan {
namespace {

constexpr int64_t kMostLayers = 1 << 16;  // far more than any model has; the pattern is a list of that length

// The values of fields come from the file and from config_defaults.

// What every architecture of transformers may say.
struct Common {
  std::optional<int64_t> vocab_size, hidden_size, num_hidden_layers, bos_token_id, max_position_embeddings;
  Json eos_token_id;  // a number, null, or a list whose first one counts
  std::optional<bool> tie_word_embeddings;
  std::optional<double> initializer_range;
  std::string hidden_act;
  Json quantization_config;
};

void VisitCommon(Common& c, const FieldVisitor& visit) {
  visit({.name = "vocab_size"}, &c.vocab_size);
  visit({.name = "hidden_size"}, &c.hidden_size);
  visit({.name = "num_hidden_layers"}, &c.num_hidden_layers);
  visit({.name = "bos_token_id"}, &c.bos_token_id);
  visit({.name = "eos_token_id"}, &c.eos_token_id);
  visit({.name = "max_position_embeddings"}, &c.max_position_embeddings);
  visit({.name = "initializer_range"}, &c.initializer_range);
  visit({.name = "hidden_act"}, &c.hidden_act);
  visit({.name = "quantization_config"}, &c.quantization_config);
}

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

// Attention as Llama, Mistral and Bamba have it.
struct LlamaFields : Common {
  std::optional<int64_t> intermediate_size, num_attention_heads, num_key_value_heads, head_dim, sliding_window;
  double rms_norm_eps = 0;
  double rope_theta = 0, partial_rotary_factor = 0;
  Json rope_scaling, rope_parameters;
  bool attention_bias = false, mlp_bias = false, tie = false;
};

void VisitFields(LlamaFields& f, const FieldVisitor& visit) {
  VisitCommon(f, visit);
  visit({.name = "intermediate_size"}, &f.intermediate_size);
  visit({.name = "num_attention_heads"}, &f.num_attention_heads);
  visit({.name = "num_key_value_heads"}, &f.num_key_value_heads);
  visit({.name = "head_dim"}, &f.head_dim);
  visit({.name = "sliding_window"}, &f.sliding_window);
  visit({.name = "rms_norm_eps"}, &f.rms_norm_eps);
  visit({.name = "rope_theta"}, &f.rope_theta);
  visit({.name = "partial_rotary_factor"}, &f.partial_rotary_factor);
  visit({.name = "rope_scaling"}, &f.rope_scaling);
  visit({.name = "rope_parameters"}, &f.rope_parameters);
  visit({.name = "attention_bias"}, &f.attention_bias);
  visit({.name = "mlp_bias"}, &f.mlp_bias);
  visit({.name = "tie_word_embeddings"}, &f.tie);
}

struct BambaFields : LlamaFields {
  Json attn_layer_indices, mamba_d_head;
  std::optional<int64_t> mamba_n_heads;
  int64_t mamba_d_conv = 0, mamba_d_state = 0, mamba_expand = 0, mamba_n_groups = 0, mamba_chunk_size = 0;
  std::array<double, 2> time_step_limit = {};
  bool mamba_conv_bias = false, mamba_proj_bias = false;
};

void VisitFields(BambaFields& f, const FieldVisitor& visit) {
  VisitFields(static_cast<LlamaFields&>(f), visit);
  visit({.name = "attn_layer_indices"}, &f.attn_layer_indices);
  visit({.name = "mamba_n_heads"}, &f.mamba_n_heads);
  visit({.name = "mamba_d_head"}, &f.mamba_d_head);
  visit({.name = "mamba_d_conv"}, &f.mamba_d_conv);
  visit({.name = "mamba_d_state"}, &f.mamba_d_state);
  visit({.name = "mamba_expand"}, &f.mamba_expand);
  visit({.name = "mamba_n_groups"}, &f.mamba_n_groups);
  visit({.name = "mamba_chunk_size"}, &f.mamba_chunk_size);
  visit({.name = "mamba_conv_bias"}, &f.mamba_conv_bias);
  visit({.name = "mamba_proj_bias"}, &f.mamba_proj_bias);
  visit({.name = "time_step_limit"}, &f.time_step_limit);
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

// Only the fields that are asked for.
template <class Struct>
Struct ReadKnown(const Json& object, const char* architecture, const std::string& where) {
  Struct fields;
  const Json filled = WithDefaults(object, architecture);
  Json known = Json::object();
  for (const FieldInfo& info : ListFields(fields)) {
    const auto value = filled.find(info.name);
    if (value != filled.end()) known[info.name] = *value;
  }
  ReadFields(known, where, fields);
  return fields;
}

int64_t Needed(const std::optional<int64_t>& value, const char* key, const std::string& where,
               double most = 2147483647) {
  if (!value) throw UserError({where, fmt::format("key \"{}\" is missing", key), "an integer", "", ""});
  CheckRange(where, key, *value, Between(1, most));
  return *value;
}

void Refuse(bool wrong, const char* key, const char* expected, const std::string& found, const std::string& where) {
  if (wrong) throw UserError({where, fmt::format("{} is not supported", key), expected, found, ""});
}
void RefuseFlag(bool value, bool supported, const char* key, const std::string& where) {
  Refuse(value != supported, key, supported ? "true" : "false", value ? "true" : "false", where);
}

std::vector<int64_t> ReadIntegers(const Json& value, const char* key, const std::string& where) {
  std::vector<int64_t> out;
  if (value.is_null()) return out;
  bool good = value.is_array();
  for (size_t i = 0; good && i < value.size(); ++i) {
    good = value[i].is_number_integer();
    if (good) out.push_back(value[i].get<int64_t>());
  }
  if (!good)
    throw UserError({where, std::string(key) + " has the wrong type", "a list of integers", DescribeJson(value), ""});
  return out;
}

// Of transformers' eos_token_id, which may be a list (generation reads all of it); some say "none" by -1.
std::optional<int64_t> FirstId(const Json& value, const char* key, const std::string& where) {
  if (value.is_null()) return std::nullopt;
  if (!value.is_array() && !value.is_number_integer()) {
    throw UserError(
        {where, std::string(key) + " has the wrong type", "an integer or a list of integers", DescribeJson(value), ""});
  }
  for (const int64_t id : ReadIntegers(value.is_array() ? value : Json::array({value}), key, where)) {
    if (id >= 0) return id;
  }
  return std::nullopt;
}

void SetCommon(const Common& f, const std::string& where, ModelConfig& c) {
  Refuse(f.hidden_act != "silu" && f.hidden_act != "swish", "hidden_act", "\"silu\"", DescribeJson(f.hidden_act),
         where);
  Refuse(!f.quantization_config.is_null(), "quantization_config", "weights in f32, f16 or bf16", "quantized weights",
         where);
  c.vocab_size = Needed(f.vocab_size, "vocab_size", where);
  c.hidden_size = Needed(f.hidden_size, "hidden_size", where);
  Needed(f.num_hidden_layers, "num_hidden_layers", where, kMostLayers);
  c.max_position_embeddings = f.max_position_embeddings;
  if (f.bos_token_id.value_or(-1) >= 0) c.bos_token_id = f.bos_token_id;
  c.eos_token_id = FirstId(f.eos_token_id, "eos_token_id", where);
  if (f.initializer_range.value_or(0) > 0) c.initializer_range = *f.initializer_range;
}

void SetLayers(const Common& f, LayerKind kind, ModelConfig& c) {
  c.layer_pattern.assign(static_cast<size_t>(*f.num_hidden_layers), kind);
}

// The number of SSM heads is implied by ours.
void CheckHeads(const ModelConfig& c, const std::optional<int64_t>& heads, const char* key, const std::string& where) {
  if (!heads || c.head_dim < 1 || *heads == c.d_inner() / c.head_dim) return;
  throw UserError({where, fmt::format("{} disagrees with the other sizes", key),
                   fmt::format("{}, the expanded width {} / {}", c.d_inner() / c.head_dim, c.d_inner(), c.head_dim),
                   std::to_string(*heads), ""});
}

CheckpointConfig ReadMamba2(const Json& json, const std::string& where) {
  const auto f = ReadKnown<Mamba2Fields>(json, "mamba2", where);
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
  CheckHeads(c, f.num_heads, "num_heads", where);
  return {c, Naming::kMamba2};
}

void SetRope(const LlamaFields& f, const std::string& where, ModelConfig& c) {
  const Json& scaling = f.rope_scaling.empty() ? f.rope_parameters : f.rope_scaling;  // the older key goes first
  c.rope_scaling = ParseRopeScaling(scaling, where);
  const auto number = [&](const char* key, double beside) {
    if (scaling.is_object() && scaling.contains(key) && scaling[key].is_number()) return scaling[key].get<double>();
    return beside;
  };
  c.rope_theta = number("rope_theta", f.rope_theta);
  c.partial_rotary_factor = number("partial_rotary_factor", f.partial_rotary_factor);
}

void SetAttention(const LlamaFields& f, const std::string& where, ModelConfig& c) {
  RefuseFlag(f.attention_bias, false, "attention_bias", where);
  RefuseFlag(f.mlp_bias, false, "mlp_bias", where);
  c.intermediate_size = Needed(f.intermediate_size, "intermediate_size", where);
  c.num_attention_heads = Needed(f.num_attention_heads, "num_attention_heads", where);
  c.num_key_value_heads = f.num_key_value_heads.value_or(c.num_attention_heads);
  c.attention_head_dim = f.head_dim.value_or(c.hidden_size / c.num_attention_heads);
  c.rms_norm_eps = f.rms_norm_eps;
  c.tie_word_embeddings = f.tie;
}

CheckpointConfig ReadLlama(const Json& json, const std::string& where, bool mistral) {
  const auto f = ReadKnown<LlamaFields>(json, mistral ? "mistral" : "llama", where);
  ModelConfig c;
  SetCommon(f, where, c);
  SetAttention(f, where, c);
  SetRope(f, where, c);
  if (!c.rope_scaling) c.partial_rotary_factor = 1;  // the classes do not look at it
  Refuse(c.partial_rotary_factor != 1, "partial_rotary_factor", "1", ShortestDouble(c.partial_rotary_factor), where);
  const bool sliding = mistral && f.sliding_window.has_value();
  if (sliding) c.sliding_window = *f.sliding_window;
  SetLayers(f, sliding ? LayerKind::kSlidingAttention : LayerKind::kAttention, c);
  return {c, Naming::kLlama};
}

CheckpointConfig ReadBamba(const Json& json, const std::string& where) {
  auto f = ReadKnown<BambaFields>(json, "bamba", where);
  f.partial_rotary_factor = 0.5;  // the class fixes it, unless it stands among the rope parameters
  ModelConfig c;
  SetCommon(f, where, c);
  SetAttention(f, where, c);
  SetRope(f, where, c);
  RefuseFlag(f.mamba_proj_bias, false, "mamba_proj_bias", where);
  RefuseFlag(f.mamba_conv_bias, true, "mamba_conv_bias", where);
  SetLayers(f, LayerKind::kMamba2Mlp, c);
  for (const int64_t layer : ReadIntegers(f.attn_layer_indices, "attn_layer_indices", where)) {
    CheckRange(where, "attn_layer_indices", layer, AtLeastBelow(0, static_cast<double>(c.num_layers())));
    c.layer_pattern[static_cast<size_t>(layer)] = LayerKind::kAttention;
  }
  c.expand = Needed(f.mamba_expand, "mamba_expand", where);
  const int64_t heads = Needed(f.mamba_n_heads, "mamba_n_heads", where);
  const Json& width = f.mamba_d_head;
  if (!width.is_null() && width != "auto" && !width.is_number_integer()) {
    throw UserError({where, "mamba_d_head has the wrong type", "an integer or \"auto\"", DescribeJson(width), ""});
  }
  c.head_dim = width.is_number_integer() ? width.get<int64_t>() : c.d_inner() / heads;
  c.state_size = f.mamba_d_state;
  c.conv_kernel = f.mamba_d_conv;
  c.n_groups = f.mamba_n_groups;
  c.chunk_size = f.mamba_chunk_size;
  c.time_step_limit = f.time_step_limit;
  CheckHeads(c, heads, "mamba_n_heads", where);
  return {c, Naming::kBamba};
}

CheckpointConfig ReadMambaSsm(const Json& json, const std::string& where) {
  const auto f = ReadKnown<SsmFields>(json, "mamba_ssm", where);
  const std::string within = where + ": ssm_cfg";
  SsmLayerFields layer;
  ReadFields(f.ssm_cfg.is_object() ? WithDefaults(f.ssm_cfg, "mamba_ssm.ssm_cfg") : f.ssm_cfg, within, layer);
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
  return {c, Naming::kMambaSsm};
}

// Python's json module writes a bare Infinity, which is not JSON; null says the same here. The length stays, so that
// positions in messages do.
std::string WithoutBareInfinity(std::string text) {
  constexpr std::string_view kWord = "Infinity";
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (in_string && text[i] == '\\') {
      ++i;
    } else if (text[i] == '"') {
      in_string = !in_string;
    } else if (!in_string && text.compare(i, kWord.size(), kWord) == 0 && (i == 0 || text[i - 1] != '-')) {
      text.replace(i, kWord.size(), "null    ");
    }
  }
  return text;
}

CheckpointConfig Dispatch(const Json& json, const std::string& where) {
  if (!json.is_object()) throw UserError({where, "wrong JSON", "an object", DescribeJson(json), ""});
  if (!json.contains("model_type")) {
    if (json.contains("ssm_cfg") || json.contains("d_model")) return ReadMambaSsm(json, where);
    return {ReadTaipanConfig(json, where), Naming::kTaipan};
  }
  const std::string type = json["model_type"].is_string() ? json["model_type"].get<std::string>() : "";
  if (type == "taipan") return {ReadTaipanConfig(json, where), Naming::kTaipan};
  if (type == "mamba2") return ReadMamba2(json, where);
  if (type == "llama" || type == "mistral") return ReadLlama(json, where, type == "mistral");
  if (type == "bamba") return ReadBamba(json, where);
  throw UserError({where, "model_type is not supported",
                   "\"taipan\", \"mamba2\", \"llama\", \"mistral\", \"bamba\", or a config of mamba_ssm",
                   DescribeJson(json["model_type"]), ""});
}

}  // namespace

CheckpointConfig ParseCheckpointConfig(const std::string& json_text, const std::string& where) {
  CheckpointConfig checkpoint = Dispatch(ParseJson(WithoutBareInfinity(json_text), where), where);
  ValidateModelConfig(checkpoint.config, where);
  return checkpoint;
}

CheckpointConfig LoadCheckpointConfig(const std::string& path) {
  const std::string text = ReadFile(path);
  CheckpointConfig checkpoint = ParseCheckpointConfig(text, path);
  const size_t slash = path.find_last_of('/');
  const std::string generation = path.substr(0, slash + 1) + "generation_config.json";
  ModelConfig& c = checkpoint.config;
  if (checkpoint.naming == Naming::kTaipan || slash == std::string::npos || !PathExists(generation)) return checkpoint;
  const Json said = ParseJson(WithoutBareInfinity(text), path);
  Json json;
  try {  // no model needs that file: what is wrong with it is left out
    json = ParseJson(ReadFile(generation), generation);
  } catch (const UserError&) {
    return checkpoint;
  }
  const auto set = [&](const char* key, std::optional<int64_t>& ours) {  // a default of the class goes after it
    if (!json.is_object() || !json.contains(key) || (said.contains(key) && !said[key].is_null())) return;
    const Json list = json[key].is_array() ? json[key] : Json::array({json[key]});
    const auto id = std::find_if(list.begin(), list.end(), [&](const Json& value) {
      return value.is_number_integer() && value >= 0 && value < c.vocab_size;
    });
    if (id != list.end()) ours = id->get<int64_t>();
  };
  set("bos_token_id", c.bos_token_id);
  set("eos_token_id", c.eos_token_id);
  return checkpoint;
}

ModelConfig ParseModelConfig(const std::string& json_text, const std::string& where) {
  return ParseCheckpointConfig(json_text, where).config;
}

ModelConfig LoadModelConfig(const std::string& path) { return LoadCheckpointConfig(path).config; }

}  // namespace taipan
