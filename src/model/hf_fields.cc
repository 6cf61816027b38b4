#include "model/hf_fields.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "base/error.h"
#include "model/rope_scaling.h"

namespace taipan {
namespace {

constexpr ConfigDefault kLlamaTable[] = {
    {"vocab_size", "32000"},
    {"hidden_size", "4096"},
    {"intermediate_size", "11008"},
    {"num_hidden_layers", "32"},
    {"num_attention_heads", "32"},
    {"num_key_value_heads", "null"},  // num_attention_heads
    {"head_dim", "null"},             // hidden_size / num_attention_heads
    {"rms_norm_eps", "1e-06"},
    {"rope_theta", "10000.0"},
    {"partial_rotary_factor", "1.0"},
    {"attention_bias", "false"},
    {"mlp_bias", "false"},
    {"hidden_act", "\"silu\""},
    {"initializer_range", "0.02"},
    {"max_position_embeddings", "2048"},
    {"tie_word_embeddings", "false"},
    {"bos_token_id", "1"},
    {"eos_token_id", "2"},
};

constexpr ConfigDefault kMambaTable[] = {
    {"mamba_n_heads", "128"},     {"mamba_n_groups", "1"},      {"mamba_d_state", "256"},
    {"mamba_d_head", "\"auto\""},  // the inner width / mamba_n_heads
    {"mamba_d_conv", "4"},        {"mamba_expand", "2"},        {"mamba_chunk_size", "256"},
    {"mamba_conv_bias", "true"},  {"mamba_proj_bias", "false"}, {"time_step_limit", "[0.0, null]"},
};

}  // namespace

const std::span<const ConfigDefault> kLlamaDefaults = kLlamaTable, kMambaDefaults = kMambaTable;

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

void VisitMamba(MambaFields& f, const FieldVisitor& visit) {
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

int64_t Needed(const std::optional<int64_t>& value, const char* key, const std::string& where, double most) {
  if (!value) throw UserError({where, fmt::format("key \"{}\" is missing", key), "an integer"});
  CheckRange(where, key, *value, Between(1, most));
  return *value;
}

void Refuse(bool wrong, const char* key, const char* expected, const std::string& found, const std::string& where) {
  if (wrong) throw UserError({where, fmt::format("{} is not supported", key), expected, found});
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
    throw UserError({where, std::string(key) + " has the wrong type", "a list of integers", DescribeJson(value)});
  return out;
}

std::vector<double> ReadNumbers(const Json& value, size_t count, const char* key, const std::string& where) {
  std::vector<double> out;
  for (const Json& number : value.is_array() ? value : Json::array()) {
    if (number.is_number()) out.push_back(number.get<double>());
  }
  if (value.is_array() && value.size() == count && out.size() == count) return out;
  throw UserError(
      {where, fmt::format("{} is wrong", key), fmt::format("a list of {} numbers", count), DescribeJson(value)});
}

std::vector<LayerKind> ReadLayerTypes(const Json& value, const char* key, std::span<const LayerName> names,
                                      const std::string& where) {
  if (!value.is_array() || value.size() > kMostLayers) {
    throw UserError({where, fmt::format("{} has the wrong type", key), "a list of strings", DescribeJson(value)});
  }
  std::vector<LayerKind> kinds;
  std::vector<std::string_view> known;
  for (const LayerName& name : names) known.push_back(name.name);
  for (const Json& word : value) {
    const auto row = std::find_if(names.begin(), names.end(), [&](const LayerName& name) { return word == name.name; });
    if (row == names.end()) {
      Refuse(word == "moe", key, "layers without a mixture of experts", DescribeJson(word), where);
      throw UserError({where, fmt::format("{} has an unknown word", key), fmt::format("{}", fmt::join(known, ", ")),
                       DescribeJson(word)});
    }
    kinds.push_back(row->kind);
  }
  return kinds;
}

std::vector<std::string> LayerTypes(const ModelConfig& c, std::span<const LayerName> names) {
  std::vector<std::string> words;
  for (const LayerKind kind : c.layer_pattern) {
    const auto row = std::find_if(names.begin(), names.end(), [&](const LayerName& name) { return name.kind == kind; });
    CHECK(row != names.end());
    words.emplace_back(row->name);
  }
  return words;
}

namespace {

// Of transformers' eos_token_id, which may be a list (generation reads all of it); some say "none" by -1.
std::optional<int64_t> FirstId(const Json& value, const char* key, const std::string& where) {
  if (value.is_null()) return std::nullopt;
  if (!value.is_array() && !value.is_number_integer()) {
    throw UserError(
        {where, std::string(key) + " has the wrong type", "an integer or a list of integers", DescribeJson(value)});
  }
  for (const int64_t id : ReadIntegers(value.is_array() ? value : Json::array({value}), key, where)) {
    if (id >= 0) return id;
  }
  return std::nullopt;
}

}  // namespace

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

void RefusePartialRope(const std::string& where, ModelConfig& c) {
  if (!c.rope_scaling) c.partial_rotary_factor = 1;
  Refuse(c.partial_rotary_factor != 1, "partial_rotary_factor", "1", ShortestDouble(c.partial_rotary_factor), where);
}

void SetInner(int64_t heads, int64_t head_dim, ModelConfig& c) {
  const int64_t inner = heads * head_dim;
  c.head_dim = head_dim;
  if (inner % c.hidden_size == 0) {
    c.expand = inner / c.hidden_size;
  } else {
    c.ssm_num_heads = heads;
  }
}

void CheckSsmHeads(int64_t inner, int64_t head_dim, int64_t heads, const char* key, const std::string& where) {
  if (heads * head_dim == inner) return;
  throw UserError({where, fmt::format("{} disagrees with the other sizes", key),
                   fmt::format("{}, the expanded width {} / {}", inner / head_dim, inner, head_dim),
                   std::to_string(heads)});
}

void SetMamba(const MambaFields& f, int64_t inner, const std::string& where, ModelConfig& c) {
  RefuseFlag(f.mamba_proj_bias, false, "mamba_proj_bias", where);
  RefuseFlag(f.mamba_conv_bias, true, "mamba_conv_bias", where);
  const int64_t heads = Needed(f.mamba_n_heads, "mamba_n_heads", where);
  const Json& width = f.mamba_d_head;
  if (!width.is_null() && width != "auto" && !width.is_number_integer()) {
    throw UserError({where, "mamba_d_head has the wrong type", "an integer or \"auto\"", DescribeJson(width)});
  }
  const int64_t head_dim = width.is_number_integer() ? width.get<int64_t>() : inner / heads;
  CheckRange(where, "mamba_d_head", head_dim, Between(1, 2147483647));
  CheckSsmHeads(inner, head_dim, heads, "mamba_n_heads", where);
  SetInner(heads, head_dim, c);
  c.state_size = f.mamba_d_state;
  c.conv_kernel = f.mamba_d_conv;
  c.n_groups = f.mamba_n_groups;
  c.chunk_size = f.mamba_chunk_size;
  c.time_step_limit = f.time_step_limit;
}

}  // namespace taipan
