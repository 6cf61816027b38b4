// config.json in other programs' words.

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "model/hf_config.h"
#include "model/rope_scaling.h"

namespace taipan {
namespace {

using OrderedJson = nlohmann::ordered_json;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

template <class T>
OrderedJson OrNull(const std::optional<T>& value) {
  return value ? OrderedJson(*value) : OrderedJson(nullptr);
}

[[noreturn]] void CannotSay(const std::string& where, const char* program, const std::string& what,
                            const std::string& expected, const std::string& found) {
  throw UserError({where, fmt::format("{} cannot hold this model: {}", program, what), expected, found, ""});
}

bool UnlimitedTimeSteps(const ModelConfig& c) { return c.time_step_limit == std::array{0.0, kInfinity}; }

OrderedJson Limit(double value) {
  return value == kInfinity ? OrderedJson{{"__float__", "Infinity"}} : OrderedJson(value);
}

void AddCommon(const ModelConfig& c, const std::string& dtype, OrderedJson& json) {
  json["vocab_size"] = c.vocab_size;
  json["hidden_size"] = c.hidden_size;
  json["num_hidden_layers"] = c.num_layers();
  json["hidden_act"] = "silu";
  json["initializer_range"] = c.initializer_range;
  json["tie_word_embeddings"] = c.tie_word_embeddings;
  json["bos_token_id"] = OrNull(c.bos_token_id);
  json["eos_token_id"] = OrNull(c.eos_token_id);
  json["pad_token_id"] = nullptr;
  if (c.max_position_embeddings) json["max_position_embeddings"] = *c.max_position_embeddings;
  json["torch_dtype"] = dtype;
  json["use_cache"] = true;
}

void AddMamba2(const ModelConfig& c, OrderedJson& json) {
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
  if (!UnlimitedTimeSteps(c)) json["time_step_limit"] = {Limit(c.time_step_limit[0]), Limit(c.time_step_limit[1])};
}

void AddAttention(const ModelConfig& c, const std::string& where, OrderedJson& json) {
  if (!c.rope_theta) CannotSay(where, "transformers", "its Llama always rotates", "rope_theta", "null");
  json["intermediate_size"] = c.intermediate_size;
  json["num_attention_heads"] = c.num_attention_heads;
  json["num_key_value_heads"] = c.num_key_value_heads;
  json["rms_norm_eps"] = c.rms_norm_eps;
  json["rope_theta"] = *c.rope_theta;
  json["rope_scaling"] = c.rope_scaling ? OrderedJson(RopeScalingJson(*c.rope_scaling)) : OrderedJson(nullptr);
  json["attention_bias"] = false;
  json["mlp_bias"] = false;
}

void AddLlama(const ModelConfig& c, const std::string& where, OrderedJson& json) {
  AddAttention(c, where, json);
  json["head_dim"] = c.attention_head_dim;
  if (c.partial_rotary_factor != 1) {
    CannotSay(where, "transformers", "its Llama rotates whole heads", "partial_rotary_factor 1",
              ShortestDouble(c.partial_rotary_factor));
  }
  if (CountBlocks(c, LayerKind::kSlidingAttention) > 0) json["sliding_window"] = c.sliding_window;
}

void AddBamba(const ModelConfig& c, const std::string& where, OrderedJson& json) {
  AddAttention(c, where, json);
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
  json["mamba_n_heads"] = c.ssm_heads();
  json["mamba_d_head"] = c.head_dim;
  json["mamba_d_state"] = c.state_size;
  json["mamba_d_conv"] = c.conv_kernel;
  json["mamba_expand"] = c.expand;
  json["mamba_n_groups"] = c.n_groups;
  json["mamba_chunk_size"] = c.chunk_size;
  json["mamba_conv_bias"] = true;
  json["mamba_proj_bias"] = false;
  json["time_step_limit"] = {Limit(c.time_step_limit[0]), Limit(c.time_step_limit[1])};
}

OrderedJson MambaSsm(const ModelConfig& c, const std::string& where) {
  if (CountBlocks(c, LayerKind::kMamba2) != c.num_layers()) {
    CannotSay(where, "mamba_ssm", "only Mamba-2 blocks have names there", "mamba2 blocks alone",
              "another layer_pattern");
  }
  if (c.rms_norm_eps != 1e-5)
    CannotSay(where, "mamba_ssm", "its epsilon is fixed", "1e-05", ShortestDouble(c.rms_norm_eps));
  OrderedJson layer = {{"layer", "Mamba2"},         {"d_state", c.state_size}, {"d_conv", c.conv_kernel},
                       {"expand", c.expand},        {"headdim", c.head_dim},   {"ngroups", c.n_groups},
                       {"chunk_size", c.chunk_size}};
  if (!UnlimitedTimeSteps(c)) {
    if (c.time_step_limit[1] == kInfinity) {
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

}  // namespace

Naming TransformersNaming(const ModelConfig& c, const std::string& where) {
  const auto all = [&](LayerKind kind) { return CountBlocks(c, kind) == c.num_layers(); };
  if (all(LayerKind::kMamba2)) return Naming::kMamba2;
  if (all(LayerKind::kAttention) || all(LayerKind::kSlidingAttention)) return Naming::kLlama;
  if (CountBlocks(c, LayerKind::kMamba2Mlp) + CountBlocks(c, LayerKind::kAttention) == c.num_layers())
    return Naming::kBamba;
  const std::string kind = c.num_sals() > 0 ? NameOf(LayerKind::kSelectiveAttention) : "this mixture of blocks";
  CannotSay(where, "transformers", "it has no such architecture",
            "mamba2 blocks alone, attention blocks alone, or mamba2_mlp with attention", kind);
}

std::string ForeignConfigJson(const ModelConfig& c, Naming naming, const std::string& dtype, const std::string& where) {
  if (naming == Naming::kMambaSsm) return MambaSsm(c, where).dump(1) + "\n";
  const bool mistral = CountBlocks(c, LayerKind::kSlidingAttention) > 0;
  const char* type = naming == Naming::kMamba2  ? "mamba2"
                     : naming == Naming::kBamba ? "bamba"
                     : mistral                  ? "mistral"
                                                : "llama";
  const char* architecture = naming == Naming::kMamba2  ? "Mamba2ForCausalLM"
                             : naming == Naming::kBamba ? "BambaForCausalLM"
                             : mistral                  ? "MistralForCausalLM"
                                                        : "LlamaForCausalLM";
  OrderedJson json = {{"architectures", {architecture}}, {"model_type", type}};
  AddCommon(c, dtype, json);
  if (naming == Naming::kMamba2) AddMamba2(c, json);
  if (naming == Naming::kLlama) AddLlama(c, where, json);
  if (naming == Naming::kBamba) AddBamba(c, where, json);
  return json.dump(1) + "\n";
}

}  // namespace taipan
