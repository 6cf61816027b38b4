#pragma once
// Two configs as another program writes them.

namespace taipan {

inline constexpr const char* kTaipanText = R"({
 "model_type": "taipan",
 "architectures": [
  "TaipanForCausalLM"
 ],
 "vocab_size": 97,
 "hidden_size": 48,
 "intermediate_size": 72,
 "num_hidden_layers": 6,
 "layer_pattern": [
  "mamba2",
  "mamba2",
  "mamba2",
  "selective_attention",
  "mamba2",
  "selective_attention"
 ],
 "expand": 2,
 "head_dim": 12,
 "state_size": 16,
 "n_groups": 2,
 "conv_kernel": 4,
 "chunk_size": 16,
 "time_step_limit": [
  0.0,
  1.5
 ],
 "num_attention_heads": 4,
 "num_key_value_heads": 2,
 "attention_head_dim": 12,
 "sliding_window": 16,
 "attention_budget": 0.25,
 "budget_loss_weight": 0.5,
 "gumbel_temperature": 0.7,
 "straight_through": "selected",
 "rope_theta": null,
 "rms_norm_eps": 1e-05,
 "tie_word_embeddings": false,
 "bos_token_id": 1,
 "eos_token_id": 2
}
)";

// Keys of attention are present although the pattern has none.
inline constexpr const char* kMamba2Text = R"({
 "model_type": "taipan",
 "architectures": [
  "TaipanForCausalLM"
 ],
 "vocab_size": 97,
 "hidden_size": 40,
 "intermediate_size": 64,
 "num_hidden_layers": 2,
 "layer_pattern": [
  "mamba2",
  "mamba2"
 ],
 "expand": 2,
 "head_dim": 8,
 "state_size": 16,
 "n_groups": 2,
 "conv_kernel": 4,
 "chunk_size": 32,
 "time_step_limit": [
  0.01,
  0.5
 ],
 "num_attention_heads": 4,
 "num_key_value_heads": 4,
 "attention_head_dim": 16,
 "sliding_window": 32,
 "attention_budget": 0.15,
 "budget_loss_weight": 0.1,
 "gumbel_temperature": 1.0,
 "straight_through": "selected",
 "rope_theta": null,
 "rms_norm_eps": 1e-05,
 "tie_word_embeddings": true,
 "bos_token_id": 1,
 "eos_token_id": 2
}
)";

}  // namespace taipan
