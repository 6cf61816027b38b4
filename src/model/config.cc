#include "model/config.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/fields.h"
#include "model/layer_table.h"
#include "model/rope_scaling.h"

namespace taipan {
namespace {

constexpr const char* kModelType = "taipan";

const std::vector<std::string> kGatedNorms = {"gate_first", "norm_first", "none"};  // by GatedNorm

std::vector<std::string> KindNames() {
  std::vector<std::string> names;
  for (const LayerRow& row : LayerTable()) names.push_back(row.name);
  return names;
}

// What config.json holds: the config and the keys that only a file has.
struct ConfigFile {
  ModelConfig config;
  std::string model_type = kModelType;
  std::vector<std::string> architectures = {"TaipanForCausalLM"};
  std::optional<int64_t> num_hidden_layers;
  Json rope_scaling;
  std::vector<double> ssm_multipliers;
  std::string dtype, transformers_version;  // what other programs note; tensors carry their own dtype
};

void VisitPattern(const FieldInfo& info, std::vector<LayerKind>& pattern, const FieldVisitor& visit) {
  std::vector<std::string> names;
  for (LayerKind kind : pattern) names.push_back(NameOf(kind));
  visit(info, &names);
  pattern.clear();
  for (const std::string& name : names) {
    for (const LayerRow& row : LayerTable()) {
      if (name == row.name) pattern.push_back(row.kind);
    }
  }
}

void VisitSelection(ModelConfig& c, const FieldVisitor& visit) {
  VisitEnum(visit,
            {.name = "refinement", .help = "what a selected token gets", .write = c.refinement != Refinement::kMix},
            &c.refinement);
  VisitEnum(visit, {.name = "selection", .help = "what selects tokens", .write = c.selection != Selection::kArgmax},
            &c.selection);
  visit({.name = "attention_budget", .help = "share of tokens that should attend"}, &c.attention_budget);
  visit({.name = "budget_loss_weight", .help = "lambda"}, &c.budget_loss_weight);
  visit({.name = "gumbel_temperature", .help = "tau"}, &c.gumbel_temperature);
  std::string straight_through = c.straight_through_all ? "all" : "selected";
  visit({.name = "straight_through", .help = "tokens whose loss reaches the gate", .choices = {"selected", "all"}},
        &straight_through);
  c.straight_through_all = straight_through == "all";
  visit({.name = "selection_threshold",
         .help = "s1 - s0 above which a token attends",
         .write = !c.selection_threshold.empty()},
        &c.selection_threshold);
}

// The defaults are those of ModelConfig: a file needs vocab_size, hidden_size, layer_pattern and, where the pattern has
// an attention block, intermediate_size. Ranges are left to ValidateModelConfig, because keys that the pattern does not
// use are checked for their type only.
void VisitShape(ConfigFile& file, const FieldVisitor& visit) {
  ModelConfig& c = file.config;
  visit({.name = "model_type", .help = "this format", .choices = {kModelType}}, &file.model_type);
  visit({.name = "architectures", .help = "for other programs"}, &file.architectures);
  visit({.name = "vocab_size", .help = "rows of the embedding, an integer", .required = true}, &c.vocab_size);
  visit({.name = "hidden_size", .help = "width of the residual stream, an integer", .required = true}, &c.hidden_size);
  visit({.name = "intermediate_size", .help = "hidden width of SwiGLU"}, &c.intermediate_size);
  visit({.name = "num_hidden_layers", .help = "length of layer_pattern"}, &file.num_hidden_layers);
  VisitPattern({.name = "layer_pattern",
                .help = "a list of block kinds, from the embedding to the head",
                .required = true,
                .choices = KindNames()},
               c.layer_pattern, visit);
  visit({.name = "expand", .help = "d_inner / hidden_size"}, &c.expand);
  visit({.name = "head_dim", .help = "channels of an SSM head"}, &c.head_dim);
  visit({.name = "state_size", .help = "SSM state of a channel"}, &c.state_size);
  visit({.name = "n_groups", .help = "groups of heads that share B and C"}, &c.n_groups);
  visit({.name = "conv_kernel", .help = "taps of the convolution, in tokens"}, &c.conv_kernel);
  visit({.name = "chunk_size", .help = "tokens of an SSD chunk; changes speed, not results"}, &c.chunk_size);
  visit({.name = "time_step_limit", .help = "limits of dt"}, &c.time_step_limit);
}

// What only models of other programs have; left out where it says nothing.
void VisitVariants(ConfigFile& file, const FieldVisitor& visit) {
  ModelConfig& c = file.config;
  visit({.name = "ssm_num_heads",
         .help = "SSM heads where they are not expand * hidden_size / head_dim",
         .write = c.ssm_num_heads.has_value()},
        &c.ssm_num_heads);
  std::string norm = kGatedNorms[static_cast<size_t>(c.gated_norm)];
  visit({.name = "gated_norm",
         .help = "of Mamba-2's output: the gate before the norm, after it, or no norm",
         .write = c.gated_norm != GatedNorm::kGateFirst,
         .choices = kGatedNorms},
        &norm);
  c.gated_norm = static_cast<GatedNorm>(std::find(kGatedNorms.begin(), kGatedNorms.end(), norm) - kGatedNorms.begin());
  visit({.name = "ssm_multipliers",
         .help = "of the five parts of Mamba-2's input projection: z, x, B, C, dt",
         .write = !file.ssm_multipliers.empty()},
        &file.ssm_multipliers);
  visit({.name = "attention_multiplier",
         .help = "of attention's scores; null: 1 / sqrt(attention_head_dim)",
         .write = c.attention_multiplier.has_value()},
        &c.attention_multiplier);
  const auto multiplier = [&](const char* name, const char* help, double& value) {
    visit({.name = name, .help = help, .write = value != 1}, &value);
  };
  multiplier("embedding_multiplier", "of the embedding's rows", c.embedding_multiplier);
  multiplier("mlp_gate_multiplier", "of what SwiGLU's gate gives", c.mlp_gate_multiplier);
  multiplier("ssm_out_multiplier", "of what Mamba-2 adds to the stream", c.ssm_out_multiplier);
  multiplier("attention_out_multiplier", "of what attention adds to the stream", c.attention_out_multiplier);
  multiplier("mlp_out_multiplier", "of what MLPs add to the stream", c.mlp_out_multiplier);
  multiplier("logits_scaling", "the divisor of the logits", c.logits_scaling);
}

void VisitFields(ConfigFile& file, const FieldVisitor& visit) {
  VisitShape(file, visit);
  VisitVariants(file, visit);
  ModelConfig& c = file.config;
  visit({.name = "num_attention_heads", .help = "query heads"}, &c.num_attention_heads);
  visit({.name = "num_key_value_heads", .help = "key and value heads"}, &c.num_key_value_heads);
  visit({.name = "attention_head_dim", .help = "channels of an attention head"}, &c.attention_head_dim);
  visit({.name = "sliding_window", .help = "tokens that a query of a windowed attention sees"}, &c.sliding_window);
  VisitSelection(c, visit);
  visit({.name = "rope_theta", .help = "base of rotary embeddings; null: no positions"}, &c.rope_theta);
  visit({.name = "rope_scaling",
         .help = "for long contexts: an object with rope_type linear or llama3",
         .write = c.rope_scaling.has_value()},
        &file.rope_scaling);
  visit({.name = "partial_rotary_factor",
         .help = "share of a head's channels that rotate",
         .write = c.partial_rotary_factor != 1},
        &c.partial_rotary_factor);
  visit({.name = "max_position_embeddings",
         .help = "tokens of context in training, for other programs",
         .write = c.max_position_embeddings.has_value()},
        &c.max_position_embeddings);
  visit({.name = "rms_norm_eps", .help = "of every norm"}, &c.rms_norm_eps);
  visit(
      {.name = "initializer_range", .help = "standard deviation of new weights", .write = c.initializer_range != 0.02},
      &c.initializer_range);
  visit({.name = "tie_word_embeddings", .help = "the head is the embedding"}, &c.tie_word_embeddings);
  visit({.name = "bos_token_id", .help = "null: none"}, &c.bos_token_id);
  visit({.name = "eos_token_id", .help = "null: none"}, &c.eos_token_id);
  visit({.name = "dtype", .help = "accepted, not used", .write = false}, &file.dtype);
  visit({.name = "torch_dtype", .help = "accepted, not used", .write = false}, &file.dtype);
  visit({.name = "transformers_version", .help = "accepted, not used", .write = false}, &file.transformers_version);
}

}  // namespace

const char* NameOf(LayerKind kind) { return RowOf(kind).name; }

int64_t CountBlocks(const ModelConfig& config, LayerKind kind) {
  return std::count(config.layer_pattern.begin(), config.layer_pattern.end(), kind);
}

double ModelConfig::expected_share() const {
  if (num_sals() == 0 || selection == Selection::kAll) return 1;
  return selection == Selection::kNone ? 0 : attention_budget;
}

int64_t ModelConfig::num_sals() const { return CountBlocks(*this, LayerKind::kSelectiveAttention); }

int64_t ModelConfig::rotary_dim() const {
  return static_cast<int64_t>(static_cast<double>(attention_head_dim) * partial_rotary_factor);
}

std::array<double, 5> SsmMultipliers(const std::vector<double>& values, const std::string& where) {
  std::array<double, 5> five;
  if (values.size() != five.size()) {
    throw UserError({where, "ssm_multipliers has the wrong length", "5 numbers, of z, x, B, C and dt",
                     std::to_string(values.size())});
  }
  std::copy(values.begin(), values.end(), five.begin());
  return five;
}

ModelConfig ReadTaipanConfig(const Json& json, const std::string& where) {
  ConfigFile file;
  ReadFields(json, where, file);
  const int64_t layers = file.config.num_layers();
  if (file.num_hidden_layers.value_or(layers) != layers) {
    throw UserError({where, "num_hidden_layers disagrees with layer_pattern", std::to_string(layers),
                     std::to_string(*file.num_hidden_layers)});
  }
  file.config.rope_scaling = ParseRopeScaling(file.rope_scaling, where);
  if (!file.ssm_multipliers.empty()) {
    file.config.ssm_multipliers = SsmMultipliers(file.ssm_multipliers, where);
  }
  return file.config;
}

std::string ToJson(const ModelConfig& config) {
  ConfigFile file;
  file.config = config;
  file.num_hidden_layers = config.num_layers();
  if (config.rope_scaling) file.rope_scaling = RopeScalingJson(*config.rope_scaling);
  if (config.ssm_multipliers != ModelConfig().ssm_multipliers) {
    file.ssm_multipliers.assign(config.ssm_multipliers.begin(), config.ssm_multipliers.end());
  }
  return WriteFields(file);
}

}  // namespace taipan
