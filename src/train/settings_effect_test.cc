#include "train/settings_effect.h"

#include <gtest/gtest.h>

namespace taipan {
namespace {

std::string Idle(const std::set<std::string>& given, LayerKind second, bool new_weights = true,
                 void (*change)(TrainSettings&) = nullptr) {
  ModelConfig config;
  config.hidden_size = 32;
  config.layer_pattern = {LayerKind::kMamba2, second};
  TrainSettings s;
  if (change != nullptr) change(s);
  return WithoutEffect(given, ResolveSettings(s, config, new_weights), config, new_weights);
}

TEST(WithoutEffect, NamesFlagsOfLayersThatAreNotThere) {
  const std::set<std::string> gate = {"steps", "budget", "gate_bias", "gumbel_noise"};
  EXPECT_EQ(Idle(gate, LayerKind::kSelectiveAttention), "");
  EXPECT_EQ(Idle(gate, LayerKind::kMamba2),
            "--budget, --gate-bias, --gumbel-noise: the model has no selective attention layers");
  EXPECT_EQ(Idle(gate, LayerKind::kMamba2, /*new_weights=*/false),
            "--budget, --gate-bias, --gumbel-noise: the model has no selective attention layers");
}

TEST(WithoutEffect, NamesWhatTheRunDoesNotDo) {
  EXPECT_EQ(Idle({"gate_bias", "initializer_range", "valid_every"}, LayerKind::kSelectiveAttention, false),
            "--gate-bias, --initializer-range: the weights are read, not initialised; "
            "--valid-every: there is no data to validate on");
  EXPECT_EQ(Idle({"budget_loss_weight_start"}, LayerKind::kSelectiveAttention), "");
  EXPECT_EQ(Idle({"budget_loss_weight_start"}, LayerKind::kSelectiveAttention, true,
                 [](TrainSettings& s) { s.budget_ramp = "0:0"; }),
            "--budget-loss-weight-start: the ramp is over at the first step");
  EXPECT_EQ(
      Idle({"learning_rate", "schedule"}, LayerKind::kMamba2, true, [](TrainSettings& s) { s.lr_range = "1e-5:1"; }),
      "--learning-rate, --schedule: --lr-range sets the rate");
  EXPECT_EQ(Idle({"decay_steps"}, LayerKind::kMamba2), "--decay-steps: the cosine falls from the warm-up on");
  EXPECT_EQ(Idle({"decay_steps"}, LayerKind::kMamba2, true, [](TrainSettings& s) { s.schedule = Schedule::kWsd; }), "");
  EXPECT_EQ(Idle({"momentum"}, LayerKind::kMamba2), "--momentum: AdamW has --beta1");
  EXPECT_EQ(Idle({"momentum"}, LayerKind::kMamba2, true, [](TrainSettings& s) { s.optimizer = OptimizerKind::kMuon; }),
            "");
  EXPECT_EQ(Idle({"recompute"}, LayerKind::kMamba2, true, [](TrainSettings& s) { s.recompute = Recompute::kMixer; }),
            "");
}

}  // namespace
}  // namespace taipan
