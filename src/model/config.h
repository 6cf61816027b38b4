#pragma once
// config.json of a model: fields by their Hugging Face names, checked.

#include <array>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "base/fields.h"
#include "kernels/gated_mix.h"
#include "layers/gated_norm.h"

namespace taipan {

enum class LayerKind {
  kMamba2,
  kSelectiveAttention,
  kAttention,
  kSlidingAttention,
  kMamba2Mlp,
  kAttentionOnly,
  kRelu2Mlp,
  kMamba2Attention,
};

// Which tokens a selective layer selects. kArgmax and kThreshold ask the gate, the others are controls for studies.
enum class Selection {
  kArgmax,     // s1 > s0 in training, by a budget loss near the budget (Taipan, section 3.1)
  kThreshold,  // the budget's share with the largest s1 - s0, by a running quantile in training
  kRandom,     // a share of the budget, drawn
  kPeriodic,   // a share of the budget, as evenly as can be
  kAll,
  kNone,
};
inline std::vector<std::string> NamesOf(Selection) {
  return {"argmax", "threshold", "random", "periodic", "all", "none"};
}
inline std::vector<std::string> NamesOf(Refinement) { return {"mix", "residual"}; }

// How rotary frequencies f of wavelength 2 pi / f are stretched to contexts longer than those of pretraining.
struct RopeScaling {
  enum class Type { kLinear, kLlama3 };
  Type type = Type::kLinear;
  double factor = 1;  // kLinear: f / factor
  // kLlama3: f / factor for long waves, f for short ones, a mixture where original / wavelength is between the two.
  double low_freq_factor = 1, high_freq_factor = 4;
  int64_t original_max_position_embeddings = 8192;  // tokens

  bool operator==(const RopeScaling&) const = default;
};

struct ModelConfig {
  int64_t vocab_size = 256;
  int64_t hidden_size = 0;        // d_model
  int64_t intermediate_size = 0;  // SwiGLU; may be 0 where no block uses it
  std::vector<LayerKind> layer_pattern;
  // Mamba-2
  int64_t expand = 2;
  int64_t head_dim = 64;
  int64_t state_size = 128;
  int64_t n_groups = 1;
  int64_t conv_kernel = 4;
  int64_t chunk_size = 64;
  std::array<double, 2> time_step_limit = {0.0, std::numeric_limits<double>::infinity()};
  std::optional<int64_t> ssm_num_heads;  // none: expand * hidden_size / head_dim
  GatedNorm gated_norm = GatedNorm::kGateFirst;
  // attention of all kinds
  int64_t num_attention_heads = 1;
  int64_t num_key_value_heads = 1;
  int64_t attention_head_dim = 64;
  int64_t sliding_window = 2048;
  std::optional<double> rope_theta;  // none: no positional embedding
  std::optional<RopeScaling> rope_scaling;
  double partial_rotary_factor = 1;                // share of a head's channels that rotate, the first ones
  std::optional<int64_t> max_position_embeddings;  // tokens of context in training; for other programs
  // Multipliers, linear but for that of the gate: of the embedding; of the scores (none: 1 / sqrt(attention_head_dim));
  // of what in_proj gives, over z, x, B, C, dt; of what SwiGLU's gate gives; of what each kind of branch adds to the
  // stream. Logits are divided by theirs.
  double embedding_multiplier = 1;
  std::optional<double> attention_multiplier;
  std::array<double, 5> ssm_multipliers = {1, 1, 1, 1, 1};
  double mlp_gate_multiplier = 1;
  double ssm_out_multiplier = 1, attention_out_multiplier = 1, mlp_out_multiplier = 1;
  double logits_scaling = 1;
  // selective attention
  Refinement refinement = Refinement::kMix;
  Selection selection = Selection::kArgmax;
  double attention_budget = 0.15;
  double budget_loss_weight = 0.1;
  double gumbel_temperature = 1.0;
  bool straight_through_all = false;        // "straight_through": "all" | "selected"
  std::vector<double> selection_threshold;  // delta a SAL, of training by kThreshold or of calibration; empty: 0
  double rms_norm_eps = 1e-5;
  double initializer_range = 0.02;  // deviation of new weights; narrow models (d < 512) learn faster near 1/sqrt(d)
  bool tie_word_embeddings = true;
  std::optional<int64_t> bos_token_id, eos_token_id;

  int64_t num_layers() const { return static_cast<int64_t>(layer_pattern.size()); }
  int64_t num_sals() const;
  double expected_share() const;  // of queries in selective layers
  int64_t d_inner() const { return ssm_num_heads ? *ssm_num_heads * head_dim : expand * hidden_size; }
  int64_t ssm_heads() const { return ssm_num_heads ? *ssm_num_heads : d_inner() / head_dim; }
  int64_t rotary_dim() const;  // channels of a head that rotate

  bool operator==(const ModelConfig&) const = default;
};

const char* NameOf(LayerKind kind);  // "mamba2", ...
int64_t CountBlocks(const ModelConfig& config, LayerKind kind);

// Five, or UserError.
std::array<double, 5> SsmMultipliers(const std::vector<double>& values, const std::string& where);
// Our own format ("model_type": "taipan"); ranges are not yet checked (config_validate.h). UserError naming `where` for
// JSON that is not an object, unknown keys (with the nearest name), missing keys and wrong types.
ModelConfig ReadTaipanConfig(const Json& json, const std::string& where);
std::string ToJson(const ModelConfig& config);  // the text of config.json, keys in a fixed order

}  // namespace taipan
