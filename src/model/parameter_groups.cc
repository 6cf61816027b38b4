#include "model/parameter_groups.h"

namespace taipan {

std::vector<ParameterGroup> ParameterGroups(const ModelConfig& config) {
  const auto vocab = static_cast<double>(config.vocab_size);  // V
  const auto d = static_cast<double>(config.hidden_size);
  std::vector<ParameterGroup> groups = {{"embedding", vocab * d}};

  if (const auto blocks = static_cast<double>(CountMamba2Blocks(config)); blocks > 0) {
    const double d_inner = static_cast<double>(config.expand) * d;
    const double heads = d_inner / static_cast<double>(config.head_dim);                                  // H
    const double bc = 2 * static_cast<double>(config.n_groups) * static_cast<double>(config.state_size);  // 2GN
    groups.push_back({"mamba2 in_proj", blocks * (2 * d_inner + bc + heads) * d});                        // z|x|B|C|dt
    groups.push_back(
        {"mamba2 conv", blocks * (d_inner + bc) * (static_cast<double>(config.conv_kernel) + 1)});  // + bias
    groups.push_back({"mamba2 ssm scalars", blocks * 3 * heads});                                   // A_log, D, dt_bias
    groups.push_back({"mamba2 norms", blocks * (d + d_inner)});
    groups.push_back({"mamba2 out_proj", blocks * d_inner * d});
  }
  if (const auto blocks = static_cast<double>(CountAttentionBlocks(config)); blocks > 0) {
    const auto head = static_cast<double>(config.attention_head_dim);          // dh
    const double q = static_cast<double>(config.num_attention_heads) * head;   // Ha * dh
    const double kv = static_cast<double>(config.num_key_value_heads) * head;  // Hkv * dh
    groups.push_back({"attention q", blocks * q * d});
    groups.push_back({"attention k", blocks * kv * d});
    groups.push_back({"attention v", blocks * kv * d});
    groups.push_back({"attention o", blocks * d * q});
    if (config.num_sals() > 0) groups.push_back({"gate", static_cast<double>(config.num_sals()) * (2 * d + 2)});
    groups.push_back({"attention norms", blocks * d});
  }
  if (const auto mlps = static_cast<double>(CountMlps(config)); mlps > 0) {
    groups.push_back({"mlp norms", mlps * d});
    groups.push_back({"mlp", mlps * 3 * d * static_cast<double>(config.intermediate_size)});
  }
  groups.push_back({"final norm", d});
  if (!config.tie_word_embeddings) groups.push_back({"head", vocab * d});
  return groups;
}

double SumParameterGroups(const std::vector<ParameterGroup>& groups) {
  double sum = 0;
  for (const ParameterGroup& group : groups) sum += group.count;
  return sum;
}

int64_t CountParameters(const ModelConfig& config) {
  return static_cast<int64_t>(SumParameterGroups(ParameterGroups(config)));
}

}  // namespace taipan
