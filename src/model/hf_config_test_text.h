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

}  // namespace taipan
