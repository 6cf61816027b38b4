#include "train/rate_range.h"

#include <gtest/gtest.h>

#include <cmath>

#include "train/schedule.h"
#include "train/test_run.h"

namespace taipan {
namespace {

TrainSettings RangeSettings(int64_t steps) {
  TrainSettings s;
  s.lr_range = "1e-4:1";
  s.steps = steps;
  return ResolveSettings(s, TestConfig(), true);
}

TEST(RateRange, RisesExponentially) {
  const TrainSettings s = RangeSettings(401);
  EXPECT_EQ(s.learning_rate, 1);
  EXPECT_DOUBLE_EQ(LearningRate(s, 1), 1e-4);
  EXPECT_NEAR(LearningRate(s, 101), 1e-3, 1e-15);
  EXPECT_NEAR(LearningRate(s, 301), 1e-1, 1e-13);
  EXPECT_DOUBLE_EQ(LearningRate(s, 401), 1);
  TrainSettings one = s;
  one.steps = 1;
  EXPECT_EQ(LearningRate(one, 1), 1e-4);
}

TEST(RateRange, RefusesWhatIsNoRange) {
  for (const char* text :
       {"1e-4", "1e-4:", ":1", "0:1", "1:1", "1:1e-4", "-1:1", "a:b", "1e-4:1:2", "1e-4:2000", "nan:1"}) {
    TrainSettings s;
    s.lr_range = text;
    EXPECT_EQ(UserErrorOf([&] { ResolveSettings(s, TestConfig(), true); }).find("--lr-range: "), 0u) << text;
  }
}

// A loss of 5 that falls by one around a rate of 1e-3, stays, and rises from 1e-1 on.
TEST(RateRange, FindsWhereTheLossFallsAndWhereItIsLowest) {
  const TrainSettings s = RangeSettings(400);
  MetricsHistory history;
  for (int64_t step = 1; step <= 400; ++step) {
    const double x = std::log10(LearningRate(s, step));
    history.step.push_back(static_cast<double>(step));
    history.ce.push_back(5 - 1 / (1 + std::exp(-8 * (x + 3))) - 0.1 * x + (x > -1 ? 20 * (x + 1) * (x + 1) : 0));
    const RateRange r = RangeOf(history, s);
    if (x < -1) {
      EXPECT_FALSE(r.over) << step;
    }
  }
  const RateRange r = RangeOf(history, s);
  EXPECT_TRUE(r.over);
  EXPECT_GT(r.lowest, 0.08);
  EXPECT_LT(r.lowest, 0.2);
  EXPECT_GT(r.steepest, 0.6e-3);
  EXPECT_LT(r.steepest, 2.5e-3);
}

class RangeRunTest : public RunFixture {};

TEST_F(RangeRunTest, DrawsItsCurveAndStopsWhereTheLossRises) {
  RunRequest request = Request("run");
  request.settings.lr_range = "1e-3:900";
  request.settings.clip_norm = 0;
  request.settings.steps = 100;
  request.settings.valid_data = {};
  testing::internal::CaptureStderr();
  SetLogLevel(LogLevel::kInfo);
  ASSERT_EQ(RunTraining(request, {}), RunEnd::kFinished);
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_NE(said.find("the loss fell fastest at a learning rate of "), std::string::npos) << said;
  EXPECT_LT(Metrics("run").size(), 100u);
  EXPECT_EQ(ReadFile(folder_ / "run/lr-range.svg").find("<svg"), 0u);
}

}  // namespace
}  // namespace taipan
