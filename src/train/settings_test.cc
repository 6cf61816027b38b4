#include "train/settings.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/test_folder.h"
#include "train/schedule.h"

namespace taipan {
namespace {

ModelConfig SomeConfig() {
  ModelConfig config;
  config.hidden_size = 32;
  config.layer_pattern = {LayerKind::kMamba2, LayerKind::kSelectiveAttention};
  config.attention_budget = 0.25;
  config.budget_loss_weight = 0.5;
  config.gumbel_temperature = 0.7;
  config.straight_through_all = true;
  return config;
}

// Resolved, of new weights.
TrainSettings Resolved(int64_t steps = 300) {
  TrainSettings s;
  s.steps = steps;
  return ResolveSettings(s, SomeConfig(), /*new_weights=*/true);
}

TEST(Settings, NewWeightsStartOpenAndRampLambda) {
  const TrainSettings s = Resolved(300);
  EXPECT_EQ(s.gate_bias, 3);
  EXPECT_EQ(s.budget_loss_weight, 30);
  EXPECT_EQ(s.budget_loss_weight_start, 0);
  EXPECT_EQ(s.budget_ramp, "100:200");
  EXPECT_EQ(s.budget, 0.25);
  EXPECT_EQ(s.gumbel_temperature, 0.7);
  EXPECT_EQ(s.straight_through, "all");
  EXPECT_EQ(s.warmup_steps, 15);
  EXPECT_DOUBLE_EQ(s.min_learning_rate.value(), s.learning_rate / 50);
  EXPECT_EQ(s.micro_batch_size, s.batch_size);
}

TEST(Settings, BroughtWeightsKeepTheConfigsLambda) {
  const TrainSettings s = ResolveSettings({}, SomeConfig(), /*new_weights=*/false);
  EXPECT_EQ(s.budget_loss_weight, 0.5);
  EXPECT_EQ(s.budget_ramp, "0:0");
  for (int64_t step : {1, 500, 1000}) EXPECT_EQ(BudgetLossWeight(s, step), 0.5);
}

TEST(Settings, ResolvingTwiceChangesNothing) {
  const TrainSettings once = Resolved();
  EXPECT_EQ(ResolveSettings(once, ModelConfig{}, false), once);
}

TEST(Settings, RunFileRoundTrip) {
  TrainSettings s = Resolved();
  s.model = "taipan-1m";
  s.data = {"a.txt", "folder with spaces/\"b\".txt"};
  s.learning_rate = 0.1 + 0.2;  // needs 17 digits
  s.gumbel_noise = "off";
  s.seed = 123456789012345;
  TrainSettings read;
  ReadRunKeys(ParseJson(WriteFields(s), "run.json"), "run.json", read);
  EXPECT_EQ(read, s);
}

TEST(Settings, RunFileTakesTheNamesOfTheFlags) {
  const TestFolder folder;
  WriteFileAtomically(folder / "run.json", R"({"learning-rate": 0.5, "batch_size": 3, "out": "x"})");
  TrainSettings s;
  ReadRunFile(folder / "run.json", s);
  EXPECT_EQ(s.learning_rate, 0.5);
  EXPECT_EQ(s.batch_size, 3);
  EXPECT_EQ(s.out, "x");
}

TEST(Settings, RefusesUnknownKeysAndBadValues) {
  TrainSettings s;
  const auto error_of = [&](const std::string& text) {
    return UserErrorOf([&] { ReadRunKeys(ParseJson(text, "f.json"), "f.json", s); });
  };
  const std::string unknown = error_of(R"({"learning_rat": 1})");
  EXPECT_NE(unknown.find("f.json"), std::string::npos) << unknown;
  EXPECT_NE(unknown.find("learning_rate"), std::string::npos) << unknown;
  EXPECT_NE(error_of(R"({"steps": "many"})").find("steps"), std::string::npos);
  EXPECT_NE(error_of(R"({"steps": 0})").find("steps"), std::string::npos);
  EXPECT_NE(error_of(R"({"beta1": 1})").find("beta1"), std::string::npos);
  EXPECT_NE(error_of(R"({"order": "random"})").find("order"), std::string::npos);
  EXPECT_NE(error_of(R"({"batch-size": 1, "batch_size": 2})").find("twice"), std::string::npos);
  EXPECT_NE(error_of("[]"), "");
}

TEST(Settings, RefusesContradictions) {
  const auto error_of = [](void (*change)(TrainSettings&)) {
    TrainSettings s;
    change(s);
    return UserErrorOf([&] { ResolveSettings(s, SomeConfig(), true); });
  };
  EXPECT_NE(error_of([](TrainSettings& s) { s.micro_batch_size = 9; }).find("--micro-batch-size"), std::string::npos);
  EXPECT_NE(error_of([](TrainSettings& s) { s.min_learning_rate = 1; }).find("--min-learning-rate"), std::string::npos);
  for (const char* ramp : {"5", "5:", ":5", "5:4", "-1:4", "1:2:3", "1:2 ", "a:b", "1.5:2"}) {
    EXPECT_NE(UserErrorOf([&] { ParseRamp(ramp); }).find("--budget-ramp"), std::string::npos) << ramp;
  }
}

TEST(Settings, ContinuingMayChangeReportsOnly) {
  const TrainSettings saved = Resolved();
  TrainSettings now = saved;
  now.keep = 7;
  now.time_limit = 3;
  now.valid_every = 9;
  now.data = {"moved.txt"};
  EXPECT_NO_THROW(CheckSameSettings(saved, now, "run.json"));
  now.budget = 0.3;
  const std::string error = UserErrorOf([&] { CheckSameSettings(saved, now, "run.json"); });
  EXPECT_EQ(error.rfind("run.json: the run was begun with another \"budget\", expected 0.25, found 0.3", 0), 0u)
      << error;
  ModelConfig other = SomeConfig();
  other.hidden_size = 64;
  EXPECT_NE(UserErrorOf([&] {
              CheckSameConfig(SomeConfig(), other, "config.json");
            }).find("\"hidden_size\", expected 32, found 64"),
            std::string::npos);
}

TEST(Settings, TheModelKeepsTheSettingsOfItsGates) {
  TrainSettings s = Resolved();
  s.budget = 0.4;
  s.straight_through = "selected";
  ModelConfig config = SomeConfig();
  config.selection_threshold = {0.5};
  const ModelConfig applied = ApplySettings(config, s);
  EXPECT_EQ(applied.attention_budget, 0.4);
  EXPECT_EQ(applied.budget_loss_weight, 30);
  EXPECT_FALSE(applied.straight_through_all);
  EXPECT_TRUE(applied.selection_threshold.empty());
}

// The numbers of a reference run: peak 1e-3, minimum 1e-5, 5 warm-up steps of 40.
TEST(Schedule, WarmUpThenCosine) {
  TrainSettings s;
  s.learning_rate = 1e-3;
  s.min_learning_rate = 1e-5;
  s.warmup_steps = 5;
  s.steps = 40;
  EXPECT_DOUBLE_EQ(LearningRate(s, 1), 0.0002);
  EXPECT_DOUBLE_EQ(LearningRate(s, 5), 0.001);
  EXPECT_LT(LearningRate(s, 6), 0.001);
  // Step 40 uses the minimum; 1 + cos(pi) cancels to within one rounding of 1.
  EXPECT_NEAR(LearningRate(s, 40), 1e-5, 1e-18);
  // Halfway in the cosine.
  s.steps = 45;
  EXPECT_NEAR(LearningRate(s, 25), (1e-3 + 1e-5) / 2, 1e-18);
  s.warmup_steps = 0;
  EXPECT_LT(LearningRate(s, 1), 1e-3);
  s.warmup_steps = s.steps;
  EXPECT_DOUBLE_EQ(LearningRate(s, s.steps), 1e-3);
  EXPECT_DOUBLE_EQ(LearningRate(s, s.steps + 1), 1e-5);
}

TEST(Schedule, StaysAtThePeakAndFallsOverTheLastSteps) {
  TrainSettings s;
  s.schedule = Schedule::kWsd;
  s.learning_rate = 1e-3;
  s.min_learning_rate = 1e-5;
  s.warmup_steps = 5;
  s.steps = 100;
  EXPECT_DOUBLE_EQ(LearningRate(s, 1), 0.0002);
  for (const int64_t step : {5, 6, 50, 80}) EXPECT_EQ(LearningRate(s, step), 1e-3) << step;
  EXPECT_DOUBLE_EQ(LearningRate(s, 85), 1e-5 + (1e-3 - 1e-5) * 0.5);  // 1 - sqrt of a quarter
  for (int64_t step = 81; step <= 100; ++step) EXPECT_LT(LearningRate(s, step), LearningRate(s, step - 1)) << step;
  EXPECT_EQ(LearningRate(s, 100), 1e-5);
  EXPECT_EQ(LearningRate(s, 101), 1e-5);
  s.steps = 200;  // the decay moves with the end
  EXPECT_EQ(LearningRate(s, 160), 1e-3);
  EXPECT_LT(LearningRate(s, 161), 1e-3);
  s.decay_steps = 1;
  EXPECT_EQ(LearningRate(s, 199), 1e-3);
  EXPECT_EQ(LearningRate(s, 200), 1e-5);
  s.decay_steps = 0;
  EXPECT_EQ(LearningRate(s, 199), 1e-3);
  s.decay_steps = 1000;  // from the warm-up on
  EXPECT_EQ(LearningRate(s, 5), 1e-3);
  EXPECT_LT(LearningRate(s, 6), 1e-3);
}

TEST(Schedule, ADecayBeginsNoEarlierThanTheRunGoesOn) {
  TrainSettings saved = Resolved(100);
  saved.schedule = Schedule::kWsd;
  const auto decay_of = [&](int64_t steps, int64_t done, std::optional<int64_t> asked = std::nullopt) {
    TrainSettings now = saved;
    now.steps = steps;
    now.decay_steps = asked;
    FitDecay(saved, done, now);
    return now.decay_steps;
  };
  EXPECT_EQ(decay_of(100, 50), std::nullopt);
  EXPECT_EQ(decay_of(1000, 80), std::nullopt);
  EXPECT_EQ(decay_of(60, 55), 5);
  EXPECT_EQ(decay_of(60, 30), std::nullopt);
  EXPECT_EQ(decay_of(60, 30, 40), 30);
  EXPECT_EQ(decay_of(60, 30, 20), 20);
  EXPECT_EQ(decay_of(95, 90), std::nullopt);  // it falls already
  EXPECT_EQ(decay_of(60, 0, 80), 80);
}

TEST(Schedule, LambdaRamp) {
  TrainSettings s = Resolved(300);
  EXPECT_EQ(BudgetLossWeight(s, 1), 0);
  EXPECT_EQ(BudgetLossWeight(s, 100), 0);
  EXPECT_DOUBLE_EQ(BudgetLossWeight(s, 101), 0.3);
  EXPECT_DOUBLE_EQ(BudgetLossWeight(s, 150), 15);
  EXPECT_EQ(BudgetLossWeight(s, 200), 30);
  EXPECT_EQ(BudgetLossWeight(s, 300), 30);
  s.budget_loss_weight_start = 40;  // falling
  EXPECT_DOUBLE_EQ(BudgetLossWeight(s, 150), 35);
  s.budget_ramp = "0:0";
  EXPECT_EQ(BudgetLossWeight(s, 1), 30);
}

TEST(Schedule, TheShareFallsToTheBudgetByThresholdAlone) {
  TrainSettings s = Resolved(300);
  s.budget_ramp = "100:200";
  EXPECT_EQ(Budget(s, 150), 0.25) << s.selection;
  s.selection = "threshold";
  EXPECT_EQ(Budget(s, 100), 1);
  EXPECT_DOUBLE_EQ(Budget(s, 150), 0.625);
  EXPECT_EQ(Budget(s, 200), 0.25);
  s.budget_ramp = "0:0";
  EXPECT_EQ(Budget(s, 1), 0.25);
}

}  // namespace
}  // namespace taipan
