#include "train/weight_average.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <cmath>

#include "model/model_files.h"
#include "train/test_run.h"

namespace taipan {
namespace {

std::vector<float> WeightsOf(LanguageModel& model) {
  std::vector<float> all;
  model.params().ForEach([&](Weight& w) { all.insert(all.end(), w.F32(), w.F32() + w.f32.size()); });
  return all;
}

TEST(WeightAverage, IsTheWeightedMeanOfTheSteps) {
  TrainSettings settings = TestSettings();
  settings.ema = 0.75;
  TestTraining t(settings);
  std::vector<double> expected;
  for (const float w : Weights(t.trainer)) expected.push_back(static_cast<double>(w));
  for (int step = 1; step <= 30; ++step) {
    t.trainer.Step();
    const double decay = std::min(0.75, (1.0 + step) / (10 + step));  // 2/11, 3/12, ... 3/4 from step 26 on
    const std::vector<float> now = Weights(t.trainer);
    for (size_t i = 0; i < now.size(); ++i)
      expected[i] = decay * expected[i] + (1 - decay) * static_cast<double>(now[i]);
  }
  const std::vector<float> trained = Weights(t.trainer);
  {
    const ModelTrainer::Averaged averaged(t.trainer);
    const std::vector<float> average = Weights(t.trainer);
    ASSERT_NE(average, trained);
    // Weights reach 5 (dt_bias); a step rounds twice and four steps are remembered.
    for (size_t i = 0; i < average.size(); ++i) EXPECT_NEAR(average[i], expected[i], 8 * 5 * 6e-8) << i;
  }
  EXPECT_EQ(Weights(t.trainer), trained);
}

TEST(WeightAverage, LeavesTrainingAlone) {
  for (const ComputeType dtype : {ComputeType::kF32, ComputeType::kBF16}) {
    TrainSettings settings = TestSettings();
    settings.dtype = dtype;
    TestTraining plain(settings);
    settings.ema = 0.9;
    TestTraining averaged(settings);
    const Corpus valid(TestTokens(100), 97, "validation");
    for (int i = 0; i < 3; ++i) {
      plain.trainer.Step();
      averaged.trainer.Step();
      const double a = plain.trainer.Validate(valid, nullptr, 100)->ce,
                   b = averaged.trainer.Validate(valid, nullptr, 100)->ce;
      EXPECT_NE(a, b);
    }
    EXPECT_EQ(Weights(plain.trainer), Weights(averaged.trainer));
  }
}

class AveragedRunTest : public RunFixture {};

// The model of the folder is the average, from which the checkpoint's own weights differ; a run in two parts is the run
// in one.
TEST_F(AveragedRunTest, PublishesTheAverageAndResumesFromTheWeights) {
  const auto averaged = [&](const std::string& run, bool resume) {
    RunRequest request = Request(run);
    request.settings.ema = 0.9;
    request.resume = resume;
    return request;
  };
  ASSERT_EQ(RunTraining(averaged("one", false), {}), RunEnd::kFinished);
  RunRequest first = averaged("two", false);
  const RunHooks hooks = At(first, 6, [] { raise(SIGINT); });
  ASSERT_EQ(RunTraining(first, hooks), RunEnd::kInterrupted);
  ASSERT_EQ(RunTraining(averaged("two", true), {}), RunEnd::kFinished);
  EXPECT_EQ(Metrics("one"), Metrics("two"));
  for (const char* file : {"model/model.safetensors", "checkpoints/step-10/optimizer.safetensors",
                           "checkpoints/step-10/weights.safetensors"}) {
    EXPECT_EQ(ReadFile(folder_ / "one/" + file), ReadFile(folder_ / "two/" + file)) << file;
  }
  ASSERT_EQ(RunTraining(Request("plain"), {}), RunEnd::kFinished);
  LanguageModel plain = LoadModel(folder_ / "plain/model"), average = LoadModel(folder_ / "one/model");
  EXPECT_NE(WeightsOf(plain), WeightsOf(average));
  LoadTrainedWeights(average.params(), folder_ / "one/checkpoints/step-10/weights.safetensors");
  EXPECT_EQ(WeightsOf(plain), WeightsOf(average));

  RunRequest other = averaged("one", true);
  other.settings.ema = 0;
  EXPECT_NE(ErrorOf(other).find("the run was begun with another \"ema\", expected 0.9, found 0.0"), std::string::npos)
      << ErrorOf(other);
}

}  // namespace
}  // namespace taipan
