#pragma once
// Keys of config.json that several architectures of transformers share, and how they become ours. Private to the
// readers and writers of those formats (hf_format.h).

#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/fields.h"
#include "model/config.h"
#include "model/config_defaults.h"

namespace taipan {

// The values of fields come from the file and from the format's defaults.

// What every architecture of transformers may say.
struct Common {
  std::optional<int64_t> vocab_size, hidden_size, num_hidden_layers, bos_token_id, max_position_embeddings;
  Json eos_token_id;  // a number, null, or a list whose first one counts
  std::optional<bool> tie_word_embeddings;
  std::optional<double> initializer_range;
  std::string hidden_act;
  Json quantization_config;
};

void VisitCommon(Common& c, const FieldVisitor& visit);

// Attention and MLP as Llama has them, and most after it.
struct LlamaFields : Common {
  std::optional<int64_t> intermediate_size, num_attention_heads, num_key_value_heads, head_dim, sliding_window;
  double rms_norm_eps = 0;
  double rope_theta = 0, partial_rotary_factor = 0;
  Json rope_scaling, rope_parameters;
  bool attention_bias = false, mlp_bias = false, tie = false;
};

void VisitFields(LlamaFields& f, const FieldVisitor& visit);

// Mamba-2 as Bamba has it, and the hybrids after it.
struct MambaFields {
  Json mamba_d_head;
  std::optional<int64_t> mamba_n_heads, mamba_expand;
  int64_t mamba_d_conv = 0, mamba_d_state = 0, mamba_n_groups = 0, mamba_chunk_size = 0;
  std::array<double, 2> time_step_limit = {};
  bool mamba_conv_bias = false, mamba_proj_bias = false;
};
void VisitMamba(MambaFields& f, const FieldVisitor& visit);

// What Llama's class takes, and what those with Mamba-2 take for its keys; the classes after them differ in a few.
extern const std::span<const ConfigDefault> kLlamaDefaults, kMambaDefaults;

// Only the fields that are asked for. Of several defaults of a key, the first table's counts.
template <class Struct>
Struct ReadKnown(Json object, std::initializer_list<std::span<const ConfigDefault>> defaults,
                 const std::string& where) {
  Struct fields;
  for (const auto& table : defaults) object = WithDefaults(std::move(object), table);
  Json known = Json::object();
  for (const FieldInfo& info : ListFields(fields)) {
    const auto value = object.find(info.name);
    if (value != object.end()) known[info.name] = *value;
  }
  ReadFields(known, where, fields);
  return fields;
}

// UserErrors name `where` and the key.
inline constexpr int64_t kMostLayers = 1 << 16;  // far more than any model has; the pattern is a list of that length
int64_t Needed(const std::optional<int64_t>& value, const char* key, const std::string& where,
               double most = 2147483647);
void Refuse(bool wrong, const char* key, const char* expected, const std::string& found, const std::string& where);
void RefuseFlag(bool value, bool supported, const char* key, const std::string& where);
std::vector<int64_t> ReadIntegers(const Json& value, const char* key, const std::string& where);
std::vector<double> ReadNumbers(const Json& value, size_t count, const char* key, const std::string& where);

// A word of a list of layers. Where two name one kind, the first is written.
struct LayerName {
  std::string_view name;
  LayerKind kind;
};
std::vector<LayerKind> ReadLayerTypes(const Json& value, const char* key, std::span<const LayerName> names,
                                      const std::string& where);
std::vector<std::string> LayerTypes(const ModelConfig& config, std::span<const LayerName> names);

void SetCommon(const Common& f, const std::string& where, ModelConfig& c);
void SetLayers(const Common& f, LayerKind kind, ModelConfig& c);
void SetRope(const LlamaFields& f, const std::string& where, ModelConfig& c);
void SetAttention(const LlamaFields& f, const std::string& where, ModelConfig& c);
// The rotary classes of most architectures look at partial_rotary_factor beside a scaling alone.
void RefusePartialRope(const std::string& where, ModelConfig& c);
void CheckSsmHeads(int64_t inner, int64_t head_dim, int64_t heads, const char* key, const std::string& where);
// inner: the width of all SSM heads together.
void SetMamba(const MambaFields& f, int64_t inner, const std::string& where, ModelConfig& c);
// `heads` SSM heads of `head_dim` channels, by expand where that is a whole number.
void SetInner(int64_t heads, int64_t head_dim, ModelConfig& c);

}  // namespace taipan
