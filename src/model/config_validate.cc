#include "model/config_validate.h"

#include <algorithm>

#include "base/error.h"
#include "base/fields.h"
#include "model/layer_table.h"
#include "model/parameters.h"

namespace taipan {
namespace {

constexpr double kMaxSize = 2147483647;           // of one dimension: ids and row lengths fit 32 bits
constexpr double kMaxElements = 1099511627776.0;  // 2^40 parameters or SSM state elements, 4 TiB in f32: more than any
                                                  // machine holds, and bytes with both moments stay far below 2^63

class Validator {
 public:
  Validator(const ModelConfig& config, const std::string& where) : c_(config), where_(where) {}

  void Check() const {
    if (c_.layer_pattern.empty()) throw UserError({where_, "layer_pattern is empty", "at least one block", "none"});
    Size("vocab_size", c_.vocab_size);
    Size("hidden_size", c_.hidden_size);
    CheckRange(where_, "rms_norm_eps", c_.rms_norm_eps, Above(0));
    CheckRange(where_, "initializer_range", c_.initializer_range, Above(0));
    CheckFinite();
    if (c_.max_position_embeddings)
      CheckRange(where_, "max_position_embeddings", *c_.max_position_embeddings, AtLeast(1));
    TokenId("bos_token_id", c_.bos_token_id);
    TokenId("eos_token_id", c_.eos_token_id);
    for (const LayerRow& row : LayerTable()) {
      if (CountBlocks(c_, row.kind) == 0) continue;
      for (const auto validate : row.validate) validate(c_, where_);
    }
    Limit("the model has too many parameters", SumParameters(c_), kMaxElements);
    Limit("the states of a sequence are too large", FixedState(c_), kMaxElements);
  }

  void CheckMamba2() const {
    Size("expand", c_.expand);
    Size("head_dim", c_.head_dim);
    Size("state_size", c_.state_size);
    Size("n_groups", c_.n_groups);
    CheckRange(where_, "conv_kernel", c_.conv_kernel, Between(2, 8));
    Size("chunk_size", c_.chunk_size);
    Product("n_groups * state_size", c_.n_groups, c_.state_size);
    if (c_.ssm_num_heads) {
      Size("ssm_num_heads", *c_.ssm_num_heads);
      Product("ssm_num_heads * head_dim", *c_.ssm_num_heads, c_.head_dim);
      Divides("ssm_num_heads", *c_.ssm_num_heads, "n_groups", c_.n_groups);
    } else {
      Product("expand * hidden_size", c_.expand, c_.hidden_size);
      Divides("expand * hidden_size", c_.d_inner(), "head_dim", c_.head_dim);
      Divides("the number of SSM heads, expand * hidden_size / head_dim,", c_.ssm_heads(), "n_groups", c_.n_groups);
    }
    const auto& [low, high] = c_.time_step_limit;
    CheckRange(where_, "time_step_limit[0]", low, AtLeast(0));
    if (!(low <= high)) {
      throw UserError({where_, "time_step_limit is not ascending", "an upper limit of at least " + ShortestDouble(low),
                       ShortestDouble(high)});
    }
  }

  void CheckAttention() const {
    Size("num_attention_heads", c_.num_attention_heads);
    Size("num_key_value_heads", c_.num_key_value_heads);
    Size("attention_head_dim", c_.attention_head_dim);
    Product("num_attention_heads * attention_head_dim", c_.num_attention_heads, c_.attention_head_dim);
    Divides("num_attention_heads", c_.num_attention_heads, "num_key_value_heads", c_.num_key_value_heads);
    if (c_.attention_multiplier) Multiplier("attention_multiplier", *c_.attention_multiplier, /*positive=*/true);
    if (c_.rope_theta) CheckRope();
  }

  void CheckRope() const {
    CheckRange(where_, "rope_theta", *c_.rope_theta, Above(0));
    CheckRange(where_, "partial_rotary_factor", c_.partial_rotary_factor, AboveUpTo(0, 1));
    if (c_.rotary_dim() % 2 != 0 || c_.rotary_dim() < 2) {
      const bool whole = c_.partial_rotary_factor == 1;
      throw UserError({where_,
                       whole ? "attention_head_dim must be even where rope_theta is a number"
                             : "attention_head_dim * partial_rotary_factor must be even where rope_theta is a number",
                       "an even number", std::to_string(c_.rotary_dim())});
    }
    if (!c_.rope_scaling) return;
    const RopeScaling& s = *c_.rope_scaling;
    CheckRange(where_, "rope_scaling.factor", s.factor, AtLeast(1));
    if (s.type != RopeScaling::Type::kLlama3) return;
    CheckRange(where_, "rope_scaling.low_freq_factor", s.low_freq_factor, Above(0));
    CheckRange(where_, "rope_scaling.high_freq_factor", s.high_freq_factor, Above(s.low_freq_factor));
    Size("rope_scaling.original_max_position_embeddings", s.original_max_position_embeddings);
  }

  void CheckSelection() const {
    CheckRange(where_, "attention_budget", c_.attention_budget, AboveUpTo(0, 1));
    CheckRange(where_, "budget_loss_weight", c_.budget_loss_weight, AtLeast(0));
    CheckRange(where_, "gumbel_temperature", c_.gumbel_temperature, Between(1e-6, 1e6));
    if (!c_.selection_threshold.empty() && static_cast<int64_t>(c_.selection_threshold.size()) != c_.num_sals()) {
      throw UserError({where_, "selection_threshold needs one value for each selective_attention block",
                       fmt::format("{} values", c_.num_sals()), std::to_string(c_.selection_threshold.size())});
    }
  }

  void Size(const char* name, int64_t value) const { CheckRange(where_, name, value, Between(1, kMaxSize)); }

 private:
  // Elements of the states that do not grow with the context.
  static double FixedState(const ModelConfig& config) {
    double sum = 0;
    ForEachState(DeclaredLayers(config),
                 [&](size_t, const StateSpec& state) { sum += state.per_token ? 0 : state.count(0); });
    return sum;
  }

  // Also of keys that the pattern does not use: JSON could not hold anything else.
  void CheckFinite() const {
    CheckRange(where_, "attention_budget", c_.attention_budget, NumberRange{});
    CheckRange(where_, "budget_loss_weight", c_.budget_loss_weight, NumberRange{});
    CheckRange(where_, "gumbel_temperature", c_.gumbel_temperature, NumberRange{});
    if (c_.rope_theta) CheckRange(where_, "rope_theta", *c_.rope_theta, NumberRange{});
    CheckRange(where_, "partial_rotary_factor", c_.partial_rotary_factor, NumberRange{});
    for (double part : c_.ssm_multipliers) Multiplier("ssm_multipliers", part);
    if (c_.attention_multiplier) Multiplier("attention_multiplier", *c_.attention_multiplier);
    Multiplier("embedding_multiplier", c_.embedding_multiplier);
    Multiplier("mlp_gate_multiplier", c_.mlp_gate_multiplier);
    Multiplier("ssm_out_multiplier", c_.ssm_out_multiplier);
    Multiplier("attention_out_multiplier", c_.attention_out_multiplier);
    Multiplier("mlp_out_multiplier", c_.mlp_out_multiplier);
    Multiplier("logits_scaling", c_.logits_scaling, /*positive=*/true);
    for (double threshold : c_.selection_threshold) CheckRange(where_, "selection_threshold", threshold, NumberRange{});
  }

  // They are used as 32-bit floats.
  void Multiplier(const char* name, double value, bool positive = false) const {
    CheckRange(where_, name, value, positive ? Between(1e-30, 1e30) : Between(-1e30, 1e30));
  }

  void TokenId(const char* name, const std::optional<int64_t>& id) const {
    if (id) CheckRange(where_, name, *id, AtLeastBelow(0, static_cast<double>(c_.vocab_size)));
  }

  void Product(const char* name, int64_t a, int64_t b) const { Size(name, a * b); }  // both below 2^31

  void Limit(const char* problem, double value, double limit) const {
    if (value <= limit) return;
    throw UserError({where_, problem, fmt::format("at most {:.4g}", limit), fmt::format("{:.4g}", value)});
  }

  void Divides(const char* whole_name, int64_t whole, const char* part_name, int64_t part) const {
    if (whole % part == 0) return;
    throw UserError({where_, fmt::format("{} must divide {}", part_name, whole_name),
                     fmt::format("a divisor of {}", whole), std::to_string(part)});
  }

  const ModelConfig& c_;
  const std::string& where_;
};

}  // namespace

void ValidateMamba2(const ModelConfig& c, const std::string& where) { Validator(c, where).CheckMamba2(); }
void ValidateAttention(const ModelConfig& c, const std::string& where) { Validator(c, where).CheckAttention(); }
void ValidateSelection(const ModelConfig& c, const std::string& where) { Validator(c, where).CheckSelection(); }
void ValidateWindow(const ModelConfig& c, const std::string& where) {
  Validator(c, where).Size("sliding_window", c.sliding_window);
}
void ValidateMlp(const ModelConfig& c, const std::string& where) {
  Validator(c, where).Size("intermediate_size", c.intermediate_size);
}

void ValidateModelConfig(const ModelConfig& config, const std::string& where) { Validator(config, where).Check(); }

void CheckAllowsBF16(const ModelConfig& c) {
  if (c.state_size % 2 == 0 && c.head_dim % 2 == 0 && c.attention_head_dim % 2 == 0) return;
  throw UserError({"--dtype", "bf16 pairs up the rows of its products", "even state_size, head_dim, attention_head_dim",
                   fmt::format("{}, {}, {}", c.state_size, c.head_dim, c.attention_head_dim), "use --dtype f32"});
}

}  // namespace taipan
