#pragma once
// Configs as transformers writes them.

namespace taipan {

inline constexpr const char* kHfMamba2Text = R"({
  "architectures": ["Mamba2ForCausalLM"], "model_type": "mamba2", "vocab_size": 97, "hidden_size": 48,
  "num_hidden_layers": 2, "num_heads": 8, "head_dim": 12, "state_size": 24, "expand": 2, "n_groups": 2,
  "conv_kernel": 3, "chunk_size": 64, "hidden_act": "silu", "initializer_range": 0.1, "layer_norm_epsilon": 1e-05,
  "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1, "rescale_prenorm_residual": false, "residual_in_fp32": true,
  "tie_word_embeddings": false, "time_step_floor": 0.0001, "time_step_limit": [0.02, 0.4], "time_step_max": 0.1,
  "time_step_rank": 3, "use_bias": false, "use_cache": true, "use_conv_bias": true, "transformers_version": "5.23.0"
})";

inline constexpr const char* kHfLlamaText = R"({
  "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 97, "hidden_size": 32,
  "num_hidden_layers": 2, "intermediate_size": 48, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16,
  "attention_bias": false, "mlp_bias": false, "hidden_act": "silu", "rms_norm_eps": 1e-06, "initializer_range": 0.02,
  "max_position_embeddings": 2048, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": null,
  "rope_parameters": {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 64},
  "tie_word_embeddings": true, "dtype": "float32"
})";

inline constexpr const char* kHfBambaText = R"({
  "architectures": ["BambaForCausalLM"], "model_type": "bamba", "vocab_size": 97, "hidden_size": 48,
  "num_hidden_layers": 3, "intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2,
  "attn_layer_indices": [1], "attention_bias": false, "mlp_bias": false, "hidden_act": "silu", "rms_norm_eps": 1e-05,
  "mamba_chunk_size": 32, "mamba_conv_bias": true, "mamba_d_conv": 4, "mamba_d_head": 16, "mamba_d_state": 16,
  "mamba_expand": 2, "mamba_n_groups": 2, "mamba_n_heads": 6, "mamba_proj_bias": false, "bos_token_id": 1,
  "eos_token_id": 2, "max_position_embeddings": 262144, "tie_word_embeddings": false,
  "rope_parameters": {"partial_rotary_factor": 0.5, "rope_theta": 10000.0, "rope_type": "default"},
  "time_step_limit": [0.0, {"__float__": "Infinity"}]
})";

inline constexpr const char* kMambaSsmText = R"({
  "d_model": 64, "d_intermediate": 0, "n_layer": 2, "vocab_size": 97, "ssm_cfg": {"layer": "Mamba2", "d_state": 16,
  "d_conv": 4, "expand": 2, "headdim": 16, "ngroups": 1, "chunk_size": 32}, "attn_layer_idx": [], "attn_cfg": {},
  "rms_norm": true, "residual_in_fp32": true, "fused_add_norm": true, "pad_vocab_size_multiple": 16,
  "tie_embeddings": true
})";

inline constexpr const char* kHfGraniteText = R"({
  "architectures": ["GraniteForCausalLM"], "model_type": "granite", "vocab_size": 97, "hidden_size": 32,
  "num_hidden_layers": 2, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2,
  "attention_bias": false, "mlp_bias": false, "hidden_act": "silu", "rms_norm_eps": 1e-05, "initializer_range": 0.1,
  "embedding_multiplier": 12.0, "residual_multiplier": 0.22, "attention_multiplier": 0.0078125, "logits_scaling": 16.0,
  "max_position_embeddings": 4096, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0, "rope_scaling": null,
  "rope_theta": 10000000.0, "tie_word_embeddings": true, "torch_dtype": "bfloat16"
})";

inline constexpr const char* kHfGraniteHybridText = R"({
  "architectures": ["GraniteMoeHybridForCausalLM"], "model_type": "granitemoehybrid", "vocab_size": 97,
  "hidden_size": 32, "num_hidden_layers": 3, "layer_types": ["mamba", "attention", "mamba"], "intermediate_size": 64,
  "shared_intermediate_size": 64, "num_local_experts": 0, "num_experts_per_tok": 0, "num_attention_heads": 4,
  "num_key_value_heads": 2, "attention_bias": false, "hidden_act": "silu", "rms_norm_eps": 1e-05,
  "initializer_range": 0.1, "position_embedding_type": "nope", "mamba_n_heads": 8, "mamba_d_head": 8,
  "mamba_n_groups": 1, "mamba_d_state": 16, "mamba_d_conv": 4, "mamba_expand": 2, "mamba_chunk_size": 32,
  "mamba_conv_bias": true, "mamba_proj_bias": false, "embedding_multiplier": 12, "residual_multiplier": 0.246,
  "attention_multiplier": 0.015625, "logits_scaling": 8, "max_position_embeddings": 131072, "bos_token_id": 5,
  "eos_token_id": 6, "tie_word_embeddings": true, "rope_theta": 10000, "router_aux_loss_coef": 0.01,
  "normalization_function": "rmsnorm"
})";

inline constexpr const char* kHfNemotronHText = R"({
  "architectures": ["NemotronHForCausalLM"], "model_type": "nemotron_h", "vocab_size": 97, "hidden_size": 32,
  "hybrid_override_pattern": "M-*M-", "num_hidden_layers": 5, "intermediate_size": 48, "num_attention_heads": 4,
  "num_key_value_heads": 2, "head_dim": 16, "attention_bias": false, "mlp_bias": false, "mlp_hidden_act": "relu2",
  "mamba_num_heads": 6, "mamba_head_dim": 8, "mamba_hidden_act": "silu", "n_groups": 2, "ssm_state_size": 16,
  "conv_kernel": 4, "expand": 2, "chunk_size": 32, "use_bias": false, "use_conv_bias": true, "mamba_proj_bias": false,
  "time_step_min": 0.001, "time_step_max": 0.1, "time_step_limit": [0.0, Infinity], "layer_norm_epsilon": 1e-05,
  "initializer_range": 0.1, "max_position_embeddings": 8192, "bos_token_id": 1, "eos_token_id": 2,
  "tie_word_embeddings": false, "sliding_window": null, "num_logits_to_keep": 1
})";

inline constexpr const char* kHfFalconH1Text = R"({
  "architectures": ["FalconH1ForCausalLM"], "model_type": "falcon_h1", "vocab_size": 97, "hidden_size": 32,
  "num_hidden_layers": 2, "intermediate_size": 48, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16,
  "attention_bias": false, "mlp_bias": false, "projectors_bias": false, "hidden_act": "silu", "rms_norm_eps": 1e-05,
  "initializer_range": 0.1, "mamba_d_ssm": 48, "mamba_n_heads": 6, "mamba_d_head": 8, "mamba_n_groups": 1,
  "mamba_d_state": 16, "mamba_d_conv": 4, "mamba_expand": 2, "mamba_chunk_size": 32, "mamba_conv_bias": true,
  "mamba_proj_bias": false, "mamba_rms_norm": false, "mamba_norm_before_gate": false, "mamba_use_mlp": true,
  "embedding_multiplier": 5.65, "lm_head_multiplier": 0.0625, "key_multiplier": 0.5, "attention_in_multiplier": 2.0,
  "attention_out_multiplier": 0.75, "ssm_in_multiplier": 1.25, "ssm_out_multiplier": 0.25,
  "ssm_multipliers": [0.375, 0.25, 0.5, 0.75, 1.5], "mlp_multipliers": [0.875, 0.3125], "rope_scaling": null,
  "rope_theta": 100000000000.0, "max_position_embeddings": 16384, "bos_token_id": 1, "eos_token_id": 11,
  "tie_word_embeddings": true
})";

}  // namespace taipan
