#include "model/config_defaults.h"

#include <nlohmann/json.hpp>
#include <span>

#include "base/error.h"

namespace taipan {
namespace {

struct Default {
  const char *key, *value;  // JSON; null: follows from other keys, or there is none
};

constexpr Default kMamba2[] = {
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

constexpr Default kLlama[] = {
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

constexpr Default kMistral[] = {
    {"vocab_size", "32000"},
    {"hidden_size", "4096"},
    {"intermediate_size", "14336"},
    {"num_hidden_layers", "32"},
    {"num_attention_heads", "32"},
    {"num_key_value_heads", "8"},
    {"head_dim", "null"},
    {"sliding_window", "4096"},  // null: none
    {"rms_norm_eps", "1e-06"},
    {"rope_theta", "10000.0"},
    {"partial_rotary_factor", "1.0"},
    {"attention_bias", "false"},
    {"mlp_bias", "false"},
    {"hidden_act", "\"silu\""},
    {"initializer_range", "0.02"},
    {"max_position_embeddings", "131072"},
    {"tie_word_embeddings", "false"},
    {"bos_token_id", "1"},
    {"eos_token_id", "2"},
};

constexpr Default kBamba[] = {
    {"vocab_size", "128000"},
    {"hidden_size", "4096"},
    {"intermediate_size", "14336"},
    {"num_hidden_layers", "32"},
    {"num_attention_heads", "32"},
    {"num_key_value_heads", "8"},
    {"head_dim", "null"},
    {"attn_layer_indices", "null"},  // no attention
    {"mamba_n_heads", "128"},
    {"mamba_d_head", "\"auto\""},  // the expanded width / mamba_n_heads
    {"mamba_d_conv", "4"},
    {"mamba_d_state", "256"},
    {"mamba_expand", "2"},
    {"mamba_n_groups", "1"},
    {"mamba_chunk_size", "256"},
    {"mamba_conv_bias", "true"},
    {"mamba_proj_bias", "false"},
    {"time_step_limit", "[0.0, null]"},
    {"rms_norm_eps", "1e-05"},
    {"rope_theta", "10000.0"},
    {"partial_rotary_factor", "0.5"},
    {"attention_bias", "false"},
    {"mlp_bias", "false"},
    {"hidden_act", "\"silu\""},
    {"initializer_range", "0.02"},
    {"max_position_embeddings", "262144"},
    {"tie_word_embeddings", "false"},
    {"bos_token_id", "1"},
    {"eos_token_id", "2"},
};

// mamba_ssm's MambaConfig, and the arguments of its class Mamba2.
constexpr Default kMambaSsm[] = {
    {"d_model", "2560"},     {"n_layer", "64"},          {"vocab_size", "50277"},
    {"d_intermediate", "0"}, {"ssm_cfg", "{}"},          {"attn_layer_idx", "[]"},
    {"rms_norm", "true"},    {"tie_embeddings", "true"}, {"pad_vocab_size_multiple", "8"},
};

constexpr Default kMambaSsmLayer[] = {
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

struct Table {
  std::string_view architecture;
  std::span<const Default> keys;
};
constexpr Table kTables[] = {{"mamba2", kMamba2}, {"llama", kLlama},        {"mistral", kMistral},
                             {"bamba", kBamba},   {"mamba_ssm", kMambaSsm}, {"mamba_ssm.ssm_cfg", kMambaSsmLayer}};

std::span<const Default> KeysOf(std::string_view architecture) {
  for (const Table& table : kTables) {
    if (table.architecture == architecture) return table.keys;
  }
  CheckFailed(__FILE__, __LINE__, "no defaults of " + std::string(architecture));
}

bool IsBeyondVocabulary(const Json& object, std::string_view key, const Json& id) {
  const auto size = object.find("vocab_size");
  return key.ends_with("_token_id") && size != object.end() && size->is_number_integer() && id >= *size;
}

}  // namespace

Json WithDefaults(Json object, std::string_view architecture) {
  for (const Default& d : KeysOf(architecture)) {
    const Json value = Json::parse(d.value);
    const auto given = object.find(d.key);
    if (given == object.end()) {
      if (!IsBeyondVocabulary(object, d.key, value)) object[d.key] = value;
    } else if (given->is_null() && value.is_boolean()) {
      *given = false;
    } else if (given->is_null() && value.is_structured()) {
      *given = value;
    }
  }
  return object;
}

}  // namespace taipan
