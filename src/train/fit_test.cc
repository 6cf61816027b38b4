#include "train/fit.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "model/presets.h"
#include "model/training_memory.h"

namespace taipan {
namespace {

std::string Refusal(const TrainSettings& s, int64_t available) {
  try {
    CheckFits(FindPreset("taipan-190m").config, s, available);
  } catch (const UserError& e) {
    return e.what();
  }
  return "";
}

TrainSettings Settings() {
  TrainSettings s;
  s.context = 4096;
  s.batch_size = 8;
  s.micro_batch_size = 8;
  return s;
}

TEST(CheckFits, AcceptsWhatFitsAndWhereTheMemoryIsUnknown) {
  EXPECT_EQ(Refusal(Settings(), int64_t{1} << 40), "");
  EXPECT_EQ(Refusal(Settings(), 0), "");
}

TEST(CheckFits, NamesThePlanAndFlagsThatReallyFit) {
  const int64_t available = int64_t{6} << 30;
  const std::string message = Refusal(Settings(), available);
  EXPECT_NE(message.find("at most 6.0 GiB"), std::string::npos) << message;
  EXPECT_NE(message.find("moments"), std::string::npos) << message;
  ASSERT_NE(message.find("--micro-batch-size"), std::string::npos) << message;
  TrainSettings smaller = Settings();
  smaller.micro_batch_size = std::stoll(message.substr(message.find("--micro-batch-size") + 19));
  if (message.find("--recompute mixer") != message.npos) smaller.recompute = Recompute::kMixer;
  if (message.find("--recompute block") != message.npos) smaller.recompute = Recompute::kBlock;
  EXPECT_EQ(Refusal(smaller, available), "");
}

TEST(CheckFits, MuonTakesOneMomentOfHiddenMatrices) {
  const ModelConfig config = FindPreset("taipan-190m").config;
  TrainingShape shape{.context = 512};
  const int64_t adamw = PlanTraining(config, shape).total();
  shape.one_moment = true;
  const int64_t muon = PlanTraining(config, shape).total();
  TrainSettings s = Settings();
  s.context = 512;
  s.batch_size = s.micro_batch_size.emplace(1);
  EXPECT_NE(Refusal(s, (adamw + muon) / 2), "");
  s.optimizer = OptimizerKind::kMuon;
  EXPECT_EQ(Refusal(s, (adamw + muon) / 2), "");
  // Nearly all parameters but the table of 128,256 x 768, 4 bytes each.
  EXPECT_NEAR(static_cast<double>(adamw - muon), 4 * (190e6 - 128256 * 768), 0.05 * 4 * 190e6);
}

TEST(CheckFits, MomentsInBF16TakeHalfAndAreOffered) {
  const ModelConfig config = FindPreset("taipan-190m").config;
  TrainSettings s = Settings();
  s.context = 512;
  s.batch_size = s.micro_batch_size.emplace(1);
  s.dtype = ComputeType::kBF16;
  s.recompute = Recompute::kBlock;
  TrainingShape shape{.context = 512, .dtype = DType::kBF16, .recompute = Recompute::kBlock};
  const int64_t f32 = PlanTraining(config, shape).total();
  shape.moments = DType::kBF16;
  const int64_t bf16 = PlanTraining(config, shape).total();
  EXPECT_NEAR(static_cast<double>(f32 - bf16), 4 * 190e6, 0.05 * 4 * 190e6);
  const std::string message = Refusal(s, (f32 + bf16) / 2);
  EXPECT_NE(message.find("--micro-batch-size 1 --moments bf16"), std::string::npos) << message;
  s.moments = MomentType::kBF16;
  EXPECT_EQ(Refusal(s, (f32 + bf16) / 2), "");
}

TEST(CheckFits, SaysWhereNothingHelps) {
  EXPECT_NE(Refusal(Settings(), int64_t{1} << 30).find("take a smaller model"), std::string::npos);
}

}  // namespace
}  // namespace taipan
