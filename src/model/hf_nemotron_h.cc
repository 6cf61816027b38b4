// transformers' Nemotron-H without experts: each layer is one norm and one of Mamba-2, attention and an MLP.

#include <cmath>

#include "base/error.h"
#include "model/hf_fields.h"
#include "model/hf_format.h"

namespace taipan {
namespace {

constexpr ConfigDefault kNemotronHDefaults[] = {
    {"vocab_size", "131072"},
    {"hidden_size", "4096"},
    {"layers_block_type", "null"},
    {"layer_types", "null"},              // another name of layers_block_type
    {"hybrid_override_pattern", "null"},  // the same as a string
    {"num_attention_heads", "32"},
    {"num_key_value_heads", "8"},
    {"head_dim", "128"},
    {"max_position_embeddings", "4096"},
    {"intermediate_size", "21504"},
    {"mlp_hidden_act", "\"relu2\""},
    {"mlp_bias", "false"},
    {"ssm_state_size", "128"},
    {"mamba_num_heads", "128"},
    {"mamba_head_dim", "64"},
    {"mamba_hidden_act", "\"silu\""},
    {"n_groups", "8"},
    {"conv_kernel", "4"},
    {"time_step_min", "0.001"},
    {"use_conv_bias", "true"},
    {"chunk_size", "128"},
    {"use_bias", "false"},
    {"layer_norm_epsilon", "1e-05"},
    {"initializer_range", "0.02"},
    {"bos_token_id", "1"},
    {"eos_token_id", "2"},
};

// Older files have another name for these.
constexpr struct {
  const char *older, *name;
} kOlderNames[] = {{"mamba_n_groups", "n_groups"},
                   {"mamba_d_conv", "conv_kernel"},
                   {"mamba_dt_min", "time_step_min"},
                   {"mamba_conv_bias", "use_conv_bias"},
                   {"mamba_chunk_size", "chunk_size"}};

constexpr LayerName kWords[] = {{"mamba", LayerKind::kMamba2},
                                {"linear_attention", LayerKind::kMamba2},
                                {"attention", LayerKind::kAttentionOnly},
                                {"full_attention", LayerKind::kAttentionOnly},
                                {"mlp", LayerKind::kRelu2Mlp}};
constexpr LayerName kLetters[] = {
    {"M", LayerKind::kMamba2}, {"*", LayerKind::kAttentionOnly}, {"-", LayerKind::kRelu2Mlp}};

struct NemotronHFields : Common {
  std::optional<int64_t> intermediate_size, num_attention_heads, num_key_value_heads, head_dim;
  std::optional<int64_t> mamba_num_heads, mamba_head_dim;
  int64_t ssm_state_size = 0, n_groups = 0, conv_kernel = 0, chunk_size = 0;
  double layer_norm_epsilon = 0, time_step_min = 0;
  std::string mlp_hidden_act, mamba_hidden_act;
  Json layers_block_type, layer_types, hybrid_override_pattern;
  bool mlp_bias = false, use_bias = false, use_conv_bias = false;
};

void VisitFields(NemotronHFields& f, const FieldVisitor& visit) {
  VisitCommon(f, visit);
  visit({.name = "intermediate_size"}, &f.intermediate_size);
  visit({.name = "num_attention_heads"}, &f.num_attention_heads);
  visit({.name = "num_key_value_heads"}, &f.num_key_value_heads);
  visit({.name = "head_dim"}, &f.head_dim);
  visit({.name = "mamba_num_heads"}, &f.mamba_num_heads);
  visit({.name = "mamba_head_dim"}, &f.mamba_head_dim);
  visit({.name = "ssm_state_size"}, &f.ssm_state_size);
  visit({.name = "n_groups"}, &f.n_groups);
  visit({.name = "conv_kernel"}, &f.conv_kernel);
  visit({.name = "chunk_size"}, &f.chunk_size);
  visit({.name = "layer_norm_epsilon"}, &f.layer_norm_epsilon);
  visit({.name = "time_step_min"}, &f.time_step_min);
  visit({.name = "mlp_hidden_act"}, &f.mlp_hidden_act);
  visit({.name = "mamba_hidden_act"}, &f.mamba_hidden_act);
  visit({.name = "layers_block_type"}, &f.layers_block_type);
  visit({.name = "layer_types"}, &f.layer_types);
  visit({.name = "hybrid_override_pattern"}, &f.hybrid_override_pattern);
  visit({.name = "mlp_bias"}, &f.mlp_bias);
  visit({.name = "use_bias"}, &f.use_bias);
  visit({.name = "use_conv_bias"}, &f.use_conv_bias);
}

// The list goes before the string; num_hidden_layers is not looked at.
std::vector<LayerKind> ReadPattern(const NemotronHFields& f, const std::string& where) {
  const Json& list = f.layers_block_type.is_null() ? f.layer_types : f.layers_block_type;
  if (!list.is_null()) return ReadLayerTypes(list, "layers_block_type", kWords, where);
  const char* key = "hybrid_override_pattern";
  if (!f.hybrid_override_pattern.is_string()) {
    throw UserError({where, "key \"layers_block_type\" is missing", "a list of layers, or hybrid_override_pattern",
                     DescribeJson(f.hybrid_override_pattern)});
  }
  const std::string pattern = f.hybrid_override_pattern.get<std::string>();
  Refuse(pattern.find('E') != std::string::npos, key, "layers without a mixture of experts", "\"E\"", where);
  Json letters = Json::array();
  for (const char letter : pattern) letters.push_back(std::string(1, letter));
  return ReadLayerTypes(letters, key, kLetters, where);
}

void SetMixers(const NemotronHFields& f, const std::string& where, ModelConfig& c) {
  RefuseFlag(f.use_bias, false, "use_bias", where);
  RefuseFlag(f.use_conv_bias, true, "use_conv_bias", where);
  RefuseFlag(f.mlp_bias, false, "mlp_bias", where);
  Refuse(f.mlp_hidden_act != "relu2", "mlp_hidden_act", "\"relu2\"", DescribeJson(f.mlp_hidden_act), where);
  SetInner(Needed(f.mamba_num_heads, "mamba_num_heads", where), Needed(f.mamba_head_dim, "mamba_head_dim", where), c);
  c.state_size = f.ssm_state_size;
  c.n_groups = f.n_groups;
  c.conv_kernel = f.conv_kernel;
  c.chunk_size = f.chunk_size;
  c.time_step_limit[0] = f.time_step_min;  // the class limits time steps so, whatever time_step_limit says
  c.intermediate_size = Needed(f.intermediate_size, "intermediate_size", where);
  c.num_attention_heads = Needed(f.num_attention_heads, "num_attention_heads", where);
  c.num_key_value_heads = f.num_key_value_heads.value_or(c.num_attention_heads);
  c.attention_head_dim = f.head_dim.value_or(c.hidden_size / c.num_attention_heads);
}

ModelConfig ReadNemotronH(const Json& json, const std::string& where) {
  Json given = json;
  for (const auto& [older, name] : kOlderNames) {
    if (given.contains(older)) given[name] = given[older];
  }
  given["hidden_act"] = given.contains("mamba_hidden_act") ? given["mamba_hidden_act"] : "silu";
  given["num_hidden_layers"] = 1;
  const auto f = ReadKnown<NemotronHFields>(given, {kNemotronHDefaults}, where);
  ModelConfig c;
  SetCommon(f, where, c);
  c.layer_pattern = ReadPattern(f, where);
  SetMixers(f, where, c);
  c.rms_norm_eps = f.layer_norm_epsilon;
  c.tie_word_embeddings = false;  // the class ties nothing
  return c;
}

bool FitsNemotronH(const ModelConfig& c) {
  ModelConfig plain = c;
  plain.ssm_num_heads.reset();
  return OnlyKinds(c, {LayerKind::kMamba2, LayerKind::kAttentionOnly, LayerKind::kRelu2Mlp}) && HasPlainLayers(plain);
}

void WriteNemotronH(const ModelConfig& c, const std::string& where, OrderedJson& json) {
  if (c.rope_theta && CountBlocks(c, LayerKind::kAttentionOnly) > 0) {
    CannotSay(where, "transformers", "its Nemotron-H does not rotate", "rope_theta null",
              ShortestDouble(*c.rope_theta));
  }
  if (!std::isinf(c.time_step_limit[1])) {
    CannotSay(where, "transformers", "its Nemotron-H limits time steps from below alone", "time_step_limit [x, null]",
              ShortestDouble(c.time_step_limit[1]));
  }
  std::string pattern;
  for (const std::string& letter : LayerTypes(c, kLetters)) pattern += letter;
  json["hybrid_override_pattern"] = pattern;
  json["intermediate_size"] = c.intermediate_size;
  json["num_attention_heads"] = c.num_attention_heads;
  json["num_key_value_heads"] = c.num_key_value_heads;
  json["head_dim"] = c.attention_head_dim;
  json["attention_bias"] = false;
  json["mlp_hidden_act"] = "relu2";
  json["mlp_bias"] = false;
  json["mamba_num_heads"] = c.ssm_heads();
  json["mamba_head_dim"] = c.head_dim;
  json["mamba_hidden_act"] = "silu";
  json["ssm_state_size"] = c.state_size;
  json["n_groups"] = c.n_groups;
  json["conv_kernel"] = c.conv_kernel;
  json["expand"] = c.expand;
  json["chunk_size"] = c.chunk_size;
  json["use_bias"] = false;
  json["use_conv_bias"] = true;
  json["time_step_min"] = c.time_step_limit[0];
  WriteTimeStepLimit(c, json);
  json["layer_norm_epsilon"] = c.rms_norm_eps;
}

}  // namespace

const HfFormat kHfNemotronH = {"nemotron_h",  "Nemotron-H",  "NemotronHForCausalLM", Naming::kNemotronH,
                               ReadNemotronH, FitsNemotronH, WriteNemotronH};

}  // namespace taipan
