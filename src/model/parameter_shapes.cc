#include "model/parameter_shapes.h"

#include "base/error.h"

namespace taipan {
namespace {

class Lister {
 public:
  explicit Lister(const ModelConfig& config) : c_(config), d_(config.hidden_size) {}

  std::vector<ParameterShape> List() {
    Add("model.embeddings.weight", {c_.vocab_size, d_});
    for (int64_t i = 0; i < c_.num_layers(); ++i) {
      const LayerKind kind = c_.layer_pattern[static_cast<size_t>(i)];
      block_ = fmt::format("model.layers.{}.", i);
      Add("norm.weight", {d_});
      if (kind == LayerKind::kSelectiveAttention) {
        Add("gate.weight", {2, d_});
        Add("gate.bias", {2});
      }
      IsMamba2(kind) ? AddMamba2() : AddAttention();
      if (HasMlp(kind)) AddMlp();
    }
    block_.clear();
    Add("model.norm.weight", {d_});
    if (!c_.tie_word_embeddings) Add("lm_head.weight", {c_.vocab_size, d_});
    return std::move(shapes_);
  }

 private:
  void Add(const char* name, std::vector<int64_t> shape) { shapes_.push_back({block_ + name, std::move(shape)}); }

  void AddMamba2() {
    const int64_t inner = c_.d_inner(), heads = c_.ssm_heads(), channels = inner + 2 * c_.n_groups * c_.state_size;
    Add("mixer.in_proj.weight", {inner + channels + heads, d_});
    Add("mixer.conv1d.weight", {channels, 1, c_.conv_kernel});
    Add("mixer.conv1d.bias", {channels});
    for (const char* name : {"mixer.dt_bias", "mixer.A_log", "mixer.D"}) Add(name, {heads});
    Add("mixer.norm.weight", {inner});
    Add("mixer.out_proj.weight", {d_, inner});
  }

  void AddAttention() {
    const int64_t q = c_.num_attention_heads * c_.attention_head_dim;
    const int64_t kv = c_.num_key_value_heads * c_.attention_head_dim;
    Add("attention.q_proj.weight", {q, d_});
    Add("attention.k_proj.weight", {kv, d_});
    Add("attention.v_proj.weight", {kv, d_});
    Add("attention.o_proj.weight", {d_, q});
  }

  void AddMlp() {
    const int64_t ff = c_.intermediate_size;
    Add("mlp_norm.weight", {d_});
    Add("mlp.gate_proj.weight", {ff, d_});
    Add("mlp.up_proj.weight", {ff, d_});
    Add("mlp.down_proj.weight", {d_, ff});
  }

  const ModelConfig& c_;
  const int64_t d_;
  std::string block_;  // the prefix of the block at work
  std::vector<ParameterShape> shapes_;
};

}  // namespace

std::vector<ParameterShape> ParameterShapes(const ModelConfig& config) { return Lister(config).List(); }

}  // namespace taipan
