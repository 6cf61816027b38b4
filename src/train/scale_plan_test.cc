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
  const TrainingMemory one = ScaleMemory(Config(), Request(1), Recompute::kNone);
  const TrainingMemory many = ScaleMemory(Config(), Request(16), Recompute::kNone);
  EXPECT_NEAR(static_cast<double>(many.moments), static_cast<double>(one.moments) / 16, 1);
  EXPECT_EQ(many.gradients, one.gradients);  // they add up over 8 micro-batches
  const TrainingMemory most = ScaleMemory(Config(), Request(128), Recompute::kNone);
  EXPECT_LT(static_cast<double>(most.gradients),
            0.6 * static_cast<double>(one.gradients));  // a tied embedding is most of it
  EXPECT_GT(most.gradients, 4 * Config().vocab_size * Config().hidden_size + one.gradients / 128);
}

TEST(ScalePlan, GradientsTravelBesideTheBackwardButForTheEmbeddings) {
  const double parameters = SumParameters(Config());
  const double half = 8 * SentBytes(parameters, 16) / 2 / 10e9;  // 0.6 s; a backward takes 1.3 s
  const double embedding = static_cast<double>(Config().vocab_size * Config().hidden_size) / parameters;
  EXPECT_NEAR(PlanScale(Config(), Request(16), kRates).network_seconds, half * (1 + embedding), 1e-9);
  ScaleRequest slow = Request(16);
  slow.network = 1e9;
  EXPECT_NEAR(PlanScale(Config(), slow, kRates).network_seconds, 20 * half - 2 * 2 / 3.0, 1e-9);
}

TEST(ScalePlan, PartsOfSequencesWaitForEachOtherAndSendStates) {
  ScaleRequest r = Request(4);
  r.sequence_ranks = 4;
  r.batch = 9;
  r.context = 65536;
  const ScalePlan plan = PlanScale(Config(), r, kRates);
  EXPECT_EQ(plan.rows_per_rank, 9);
  EXPECT_DOUBLE_EQ(plan.idle_share, 3.0 / 12);
  EXPECT_DOUBLE_EQ(plan.compute_seconds, (9 + 8 / 3.0) / 0.75 * 2);
  EXPECT_GT(SentStateBytes(Config(), r), 0);
  EXPECT_DOUBLE_EQ(plan.sent_bytes, SentBytes(plan.parameters, 4) + SentStateBytes(Config(), r));
  ScaleRequest whole = r;
  whole.sequence_ranks = 1;
  whole.batch = 8;
  EXPECT_LT(ScaleMemory(Config(), r, Recompute::kNone).kept, ScaleMemory(Config(), whole, Recompute::kNone).kept / 3);
  r.sequence_ranks = 3;
  EXPECT_EQ(UserErrorOf([&] { CheckScale(r); }),
            "--sequence-ranks: the machines cannot be shared out evenly over sequences, expected a divisor of the 4 "
            "machines, found 3");
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
