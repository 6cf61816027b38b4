#include "train/scale_plan.h"

#include <gtest/gtest.h>

#include "base/test_folder.h"
#include "model/presets.h"

namespace taipan {
namespace {

const ModelConfig& Config() { return FindPreset("taipan-190m").config; }

ScaleRequest Request(int64_t ranks) {
  return {.tokens = 100e9, .ranks = ranks, .network = 10e9, .context = 4096, .batch = 128, .micro_batch = 1};
}
constexpr ScaleRates kRates{.seconds_per_micro_batch = 2, .optimizer_seconds = 0.5, .copy_bytes_per_second = 10e9};

TEST(ScalePlan, OfOneMachineIsItsRate) {
  const ScalePlan plan = PlanScale(Config(), Request(1), kRates);
  EXPECT_EQ(plan.steps, 190735);  // 100e9 / 524,288
  EXPECT_EQ(plan.sent_bytes, 0);
  EXPECT_DOUBLE_EQ(plan.step_seconds(), 128 * 2 + 0.5);
  EXPECT_DOUBLE_EQ(plan.seconds(), 190735 * 256.5);
}

TEST(ScalePlan, MachinesShareRowsAndMomentsAndSendWhatTheyUpdate) {
  const ScalePlan plan = PlanScale(Config(), Request(16), kRates);
  EXPECT_EQ(plan.rows_per_rank, 8);
  EXPECT_DOUBLE_EQ(plan.compute_seconds, 16);
  EXPECT_DOUBLE_EQ(plan.optimizer_seconds, 0.5 / 16);
  EXPECT_DOUBLE_EQ(plan.sent_bytes, 2 * 15 / 16.0 * 4 * plan.parameters);
  EXPECT_DOUBLE_EQ(plan.network_seconds, 8 * plan.sent_bytes / 10e9);
  const TrainingMemory one = ScaleMemory(Config(), Request(1), Recompute::kNone);
  const TrainingMemory many = ScaleMemory(Config(), Request(16), Recompute::kNone);
  EXPECT_NEAR(static_cast<double>(many.moments), static_cast<double>(one.moments) / 16, 1);
  EXPECT_EQ(many.gradients, one.gradients);
}

TEST(ScalePlan, TakesTheMildestRecomputationThatFits) {
  const ScaleRequest request = Request(1);
  const int64_t none = ScaleMemory(Config(), request, Recompute::kNone).total();
  const int64_t mixer = ScaleMemory(Config(), request, Recompute::kMixer).total();
  EXPECT_EQ(MildestRecompute(Config(), request, none), Recompute::kNone);
  EXPECT_EQ(MildestRecompute(Config(), request, none - 1), Recompute::kMixer);
  EXPECT_EQ(MildestRecompute(Config(), request, mixer - 1), Recompute::kBlock);
}

TEST(ScalePlan, RefusesWhatCannotBeSharedOutOrRead) {
  EXPECT_EQ(
      UserErrorOf([] { PlanScale(Config(), Request(3), kRates); }),
      "--batch-size: its sequences cannot be shared out evenly, expected a multiple of the 3 machines, found 128");
  EXPECT_EQ(ParseCount("--tokens", "27.5B"), 27.5e9);
  EXPECT_EQ(ParseCount("--tokens", "4096"), 4096);
  for (const char* text : {"", "B", "-1B", "1X", "nan", "1e30", "1 B"}) {
    EXPECT_NE(UserErrorOf([&] { ParseCount("--tokens", text); }), "") << text;
  }
}

}  // namespace
}  // namespace taipan
