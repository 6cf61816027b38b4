#include "train/running_threshold.h"

#include <gtest/gtest.h>

#include <signal.h>

#include <algorithm>
#include <cmath>

#include "base/parallel.h"
#include "model/model_files.h"
#include "model/selection_quantiles.h"
#include "train/test_run.h"

namespace taipan {
namespace {

TEST(MarginQuantile, IsExceededByTheBudgetsShare) {
  std::vector<float> values;
  for (int i = 0; i < 200; ++i) values.push_back(std::sin(static_cast<float>(i)));
  for (const double budget : {0.01, 0.0149, 0.15, 0.5, 0.99, 1.0}) {
    std::vector<float> copy = values;
    const double threshold = MarginQuantile(copy, budget);
    const auto above = std::count_if(values.begin(), values.end(), [&](float v) { return v > threshold; });
    EXPECT_EQ(above, std::lround(budget * 200)) << budget;
  }
  const float nan = std::nanf("");
  std::vector<float> with_nan = {nan, 1, nan, nan, 3, nan, 2};
  EXPECT_EQ(MarginQuantile(with_nan, 1.0 / 3), 2);
}

class ThresholdRun : public RunFixture {
 protected:
  RunRequest ByThreshold(const std::string& run) const {
    RunRequest request = Request(run);
    request.settings.selection = "threshold";
    request.settings.refinement = "residual";
    request.settings.gumbel_noise = "off";
    request.settings.budget = 0.25;
    request.settings.budget_loss_weight = 0;
    request.settings.budget_loss_weight_start = 0;
    request.settings.budget_ramp = "0:0";
    return request;
  }
  std::vector<float> Biases(const std::string& run) const {
    LanguageModel model = LoadModel(folder_ / run + "/model");
    std::vector<float> biases;
    model.params().ForEach([&](Weight& w) {
      if (w.spec.init == Init::kGateBias) biases.insert(biases.end(), w.F32(), w.F32() + w.f32.size());
    });
    return biases;
  }
};

TEST_F(ThresholdRun, HoldsTheShareInTrainingAndInUse) {
  RunRequest request = ByThreshold("run");
  request.settings.steps = 80;
  request.settings.learning_rate = 1e-3;
  request.settings.warmup_steps = 2;
  ASSERT_EQ(RunTraining(request, {}), RunEnd::kFinished);
  const std::vector<std::string> lines = Metrics("run");
  const auto last = nlohmann::json::parse(lines.back()), step = nlohmann::json::parse(lines[lines.size() - 2]);
  // 96 and 500 tokens of texts that the threshold has not seen.
  for (const double share : step.at("selected_share")) EXPECT_NEAR(share, 0.25, 0.12);
  for (const double share : last.at("valid_selected_share")) EXPECT_NEAR(share, 0.25, 0.08);
}

TEST_F(ThresholdRun, ResumesExactly) {
  ASSERT_EQ(RunTraining(ByThreshold("straight"), {}), RunEnd::kFinished);
  ASSERT_FALSE(Biases("straight").empty());

  RunRequest request = ByThreshold("cut");
  const RunHooks hooks = At(request, 7, [] { raise(SIGINT); });
  ASSERT_EQ(RunTraining(request, hooks), RunEnd::kInterrupted);
  request = ByThreshold("cut");
  request.resume = true;
  ASSERT_EQ(RunTraining(request, {}), RunEnd::kFinished);
  EXPECT_EQ(Biases("cut"), Biases("straight"));
  ExpectLikeStraightRun("cut");
}

TEST_F(ThresholdRun, DoesNotDependOnMicroBatchesAndThreads) {
  ASSERT_EQ(RunTraining(ByThreshold("whole"), {}), RunEnd::kFinished);
  RunRequest parts = ByThreshold("parts");
  parts.settings.micro_batch_size = 1;
  parts.settings.steps = 1;
  parts.settings.warmup_steps = 1;
  RunRequest one = ByThreshold("one");
  one.settings.steps = 1;
  one.settings.warmup_steps = 1;
  ASSERT_EQ(RunTraining(parts, {}), RunEnd::kFinished);
  ASSERT_EQ(RunTraining(one, {}), RunEnd::kFinished);
  EXPECT_THAT(Biases("parts"), testing::Pointwise(testing::FloatNear(1e-5f), Biases("one")));
  SetNumThreads(3);
  ASSERT_EQ(RunTraining(ByThreshold("threads"), {}), RunEnd::kFinished);
  SetNumThreads(1);
  EXPECT_EQ(Biases("threads"), Biases("whole"));
}

TEST_F(ThresholdRun, ControlsSelectTheBudgetWhateverTheGateSays) {
  for (const std::string rule : {"random", "periodic", "all", "none"}) {
    RunRequest request = ByThreshold(rule);
    request.settings.selection = rule;
    ASSERT_EQ(RunTraining(request, {}), RunEnd::kFinished);
    const auto last = nlohmann::json::parse(Metrics(rule).back());
    const double expected = rule == "all" ? 1 : rule == "none" ? 0 : 0.25;
    // 500 draws: five standard deviations of the drawn share.
    const double tolerance = rule == "random" ? 0.1 : rule == "periodic" ? 0.01 : 0;
    for (const double share : last["valid_selected_share"]) EXPECT_NEAR(share, expected, tolerance) << rule;
  }
}

}  // namespace
}  // namespace taipan
