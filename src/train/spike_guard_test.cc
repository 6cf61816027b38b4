#include "train/spike_guard.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "train/test_run.h"

namespace taipan {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// Losses 1.8 and 2.2 in turn: mean 2, deviation 0.2; norms twice that.
SpikeGuard Filled(double deviations, size_t steps) {
  SpikeGuard guard(deviations);
  for (size_t i = 0; i < steps; ++i) {
    const double loss = i % 2 == 0 ? 1.8 : 2.2;
    EXPECT_TRUE(guard.Take(loss, 2 * loss));
  }
  return guard;
}

TEST(SpikeGuard, SkipsWhatLiesFarAboveTheWindow) {
  SpikeGuard guard = Filled(5, SpikeGuard::kLeast);
  EXPECT_FALSE(guard.Take(3.01, 4));
  EXPECT_FALSE(guard.Take(2, 6.02));
  EXPECT_FALSE(guard.Take(kNan, 4));
  EXPECT_FALSE(guard.Take(2, std::numeric_limits<double>::infinity()));
  EXPECT_EQ(guard.window().in_a_row, 4);
  EXPECT_TRUE(guard.Take(2.99, 5.98));
  EXPECT_TRUE(guard.Take(0.1, 0.1));  // below is no spike
  EXPECT_EQ(guard.window().in_a_row, 0);
  EXPECT_EQ(guard.window().skipped, 4);
}

TEST(SpikeGuard, DoesNotJudgeByAFewStepsAndForgetsOldOnes) {
  SpikeGuard young = Filled(5, SpikeGuard::kLeast - 1);
  EXPECT_TRUE(young.Take(100, 100));
  SpikeGuard old = Filled(5, 300);
  EXPECT_EQ(old.window().losses.size(), SpikeGuard::kWindow);
  old.Forget();
  EXPECT_TRUE(old.Take(100, 100));
}

// Runs whose data has a passage of other text in it, on which the loss jumps.
class SpikeRunTest : public RunFixture {
 protected:
  RunRequest Spiky(const std::string& run, int64_t rewind = 0) const {
    RunRequest request = Request(run);
    TrainSettings& s = request.settings;
    s.order = WindowOrder::kSequential;
    s.batch_size = 1;
    s.steps = 60;
    s.warmup_steps = 2;
    s.valid_every = 0;
    s.save_every = 10;
    s.keep = 9;
    s.spike_guard = 6;
    s.rewind = rewind;
    s.rewind_after = 3;
    return request;
  }
  // A step reads 24 bytes. Steps 41 to 40 + n meet letters that never came before.
  void WriteData(int64_t n) const {
    std::string text;
    while (text.size() < 24 * 200) text += "the same line over and over again.\n";
    for (size_t i = 0; i < static_cast<size_t>(24 * n); ++i) text[24 * 40 + i] = static_cast<char>(130 + i * i % 97);
    WriteFileAtomically(data_, text);
  }
  std::vector<int64_t> Skipped(const std::string& run) const {
    std::vector<int64_t> steps;
    for (const std::string& line : Metrics(run)) {
      const auto json = nlohmann::json::parse(line);
      if (json.value("skipped", false)) steps.push_back(json["step"].get<int64_t>());
    }
    return steps;
  }
  nlohmann::json State(const std::string& run) const {
    return nlohmann::json::parse(ReadFile(folder_ / run + "/trainer.json"));
  }
};

TEST_F(SpikeRunTest, SkippedStepsLeaveTheWeightsAndResumeBitForBit) {
  WriteData(2);
  ASSERT_EQ(RunTraining(Spiky("whole"), {}), RunEnd::kFinished);
  EXPECT_EQ(Skipped("whole"), (std::vector<int64_t>{41, 42}));
  EXPECT_EQ(State("whole")["skipped_steps"], 2);

  RunRequest first = Spiky("run");
  const RunHooks hooks = At(first, 41, [] { raise(SIGINT); });
  ASSERT_EQ(RunTraining(first, hooks), RunEnd::kInterrupted);
  EXPECT_EQ(State("run")["skipped_in_a_row"], 1);
  RunRequest rest = Spiky("run");
  rest.resume = true;
  ASSERT_EQ(RunTraining(rest, {}), RunEnd::kFinished);
  EXPECT_EQ(Metrics("run"), Metrics("whole"));
  EXPECT_EQ(ReadFile(folder_ / "run/checkpoints/step-60/optimizer.safetensors"),
            ReadFile(folder_ / "whole/checkpoints/step-60/optimizer.safetensors"));
}

TEST_F(SpikeRunTest, AfterManyInARowTheLevelIsTaken) {
  WriteData(10);
  ASSERT_EQ(RunTraining(Spiky("run"), {}), RunEnd::kFinished);
  EXPECT_EQ(Skipped("run"), (std::vector<int64_t>{41, 42}));  // the third is taken
}

TEST_F(SpikeRunTest, RewindsAndGoesOnBehindTheSpikeAlsoWhenKilledMeanwhile) {
  WriteData(3);
  ASSERT_EQ(RunTraining(Spiky("whole", 5), {}), RunEnd::kFinished);
  EXPECT_EQ(Skipped("whole"), std::vector<int64_t>());
  EXPECT_EQ(Metrics("whole").size(), 61u);  // every step once, and the validation at the end
  EXPECT_EQ(State("whole")["rewinds"], 1);
  EXPECT_EQ(State("whole")["data_ahead"], 13);  // from step 43 back to step 30

  for (const int64_t stop : {42, 43, 47}) {
    const std::string run = fmt::format("run-{}", stop);
    RunRequest first = Spiky(run, 5);
    const RunHooks hooks = At(first, stop, [] { raise(SIGINT); });
    ASSERT_EQ(RunTraining(first, hooks), RunEnd::kInterrupted);
    RunRequest rest = Spiky(run, 5);
    rest.resume = true;
    ASSERT_EQ(RunTraining(rest, {}), RunEnd::kFinished);
    EXPECT_EQ(Metrics(run), Metrics("whole")) << stop;
    EXPECT_EQ(ReadFile(folder_ / run + "/model/model.safetensors"),
              ReadFile(folder_ / "whole/model/model.safetensors"));
  }
}

TEST_F(SpikeRunTest, NoCheckpointToRewindToEndsTheRun) {
  WriteData(3);
  RunRequest request = Spiky("run", 50);
  EXPECT_NE(
      ErrorOf(request).find("step 43: 3 steps in a row were spikes, expected a checkpoint of step -7 or before to "
                            "go back to, found none"),
      std::string::npos);
}

}  // namespace
}  // namespace taipan
