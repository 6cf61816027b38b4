#include "train/settings_effect.h"

#include <algorithm>
#include <vector>

#include "model/layer_table.h"

namespace taipan {
namespace {

struct Rule {
  bool idle;
  std::vector<std::string> keys;
  std::string reason;
};

// Whether --recompute mixer saves anything.
bool LeavesOutAny(const ModelConfig& config) {
  return AnyBranch(config, [](const Branch& b) { return b.Bytes(4, Keep::kLess).kept < b.Bytes(4, Keep::kAll).kept; });
}

std::vector<Rule> RulesOf(const TrainSettings& s, const ModelConfig& config, bool new_weights) {
  return {
      {config.num_sals() == 0,
       {"budget", "budget_loss_weight", "budget_loss_weight_start", "budget_ramp", "gate_bias", "gumbel_temperature",
        "gumbel_noise", "gumbel_noise_until", "straight_through", "refinement", "selection"},
       "the model has no selective attention layers"},
      {s.selection != "argmax" && s.selection != "threshold",
       {"budget_loss_weight", "budget_loss_weight_start", "budget_ramp", "gumbel_temperature", "gumbel_noise",
        "gumbel_noise_until", "straight_through"},
       fmt::format("--selection {} does not ask the gate", s.selection)},
      {!s.lr_range.empty(),
       {"learning_rate", "min_learning_rate", "warmup_steps", "schedule", "decay_steps"},
       "--lr-range sets the rate"},
      {s.optimizer != OptimizerKind::kMuon, {"momentum"}, "AdamW has --beta1"},
      {s.schedule == Schedule::kCosine, {"decay_steps"}, "the cosine falls from the warm-up on"},
      {s.gumbel_noise == "off", {"gumbel_noise_until"}, "there is no noise"},
      {!new_weights, {"gate_bias", "initializer_range"}, "the weights are read, not initialised"},
      {ParseRamp(s.budget_ramp).end <= 1, {"budget_loss_weight_start"}, "the ramp is over at the first step"},
      {s.recompute == Recompute::kMixer && !LeavesOutAny(config), {"recompute"}, "the model has no Mamba-2 mixers"},
      {s.spike_guard == 0, {"rewind", "rewind_after"}, "no step is skipped without --spike-guard"},
      {s.state != StateStart::kCarry, {"state_windows"}, "no state is carried"},
      {s.segment >= s.context, {"segment"}, "a sequence is no longer than one"},
      {s.valid_data.empty() && s.valid_split == 0, {"valid_every", "valid_tokens"}, "there is no data to validate on"}};
}

std::string FlagNamed(std::string key) {
  std::replace(key.begin(), key.end(), '_', '-');
  return "--" + key;
}

}  // namespace

std::string WithoutEffect(const std::set<std::string>& given, const TrainSettings& resolved, const ModelConfig& config,
                          bool new_weights) {
  std::string text;
  std::set<std::string> left = given;  // a key is named once, with the first reason
  for (const Rule& rule : RulesOf(resolved, config, new_weights)) {
    std::string names;
    for (const std::string& key : rule.keys) {
      if (rule.idle && left.erase(key) > 0) names += (names.empty() ? "" : ", ") + FlagNamed(key);
    }
    if (!names.empty()) text += (text.empty() ? "" : "; ") + names + ": " + rule.reason;
  }
  return text;
}

}  // namespace taipan
