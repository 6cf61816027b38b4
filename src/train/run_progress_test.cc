#include "train/run_progress.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace taipan {
namespace {

std::string Line(const RunProgress& progress, const StepMetrics& m, size_t columns = 1000) {
  return FitParts(progress.Parts(m), columns);
}

StepMetrics Step() {
  StepMetrics m;
  m.step = 120;
  m.loss = 2.5;
  m.ce = 2 * std::log(2.0);  // two bits
  m.selected_share = {0.151, 0.17};
  m.grad_norm = 0.53;
  m.lr = 9.8e-4;
  m.seconds = 70;
  m.tokens_per_second = 12345;
  return m;
}

TEST(RunProgress, ALineSaysWhereTheRunIs) {
  TrainSettings settings;
  settings.steps = 1000;
  // 20 steps in 20 seconds since this part of the run began: 880 seconds to go.
  const RunProgress progress(settings, /*bytes_per_token=*/1, /*first_step=*/100, /*seconds_before=*/50);
  EXPECT_EQ(Line(progress, Step()),
            "step 120/1000  loss 1.386  2.000 bits/byte  selected 0.15 0.17  |g| 0.53  lr 9.80e-04  12.3K tokens/s  " +
                FormatDuration(880) + " left");
}

TEST(RunProgress, TheShareOfTheRoofIsShownWhereItIsKnown) {
  const RunProgress progress(TrainSettings(), 1, 0, 0, [](bool) { return 24690.0; });
  EXPECT_NE(Line(progress, Step()).find("12.3K tokens/s  50% of roof  "), std::string::npos) << Line(progress, Step());
}

// Measured while the machine was busy, the roof is too low.
TEST(RunProgress, ARoofThatStepsBreakIsMeasuredAgain) {
  std::vector<bool> asked;
  const auto measure = [&](bool again) {
    asked.push_back(again);
    return again ? 10000.0 : 5000.0;
  };
  RunProgress progress(TrainSettings(), 1, 0, 0, measure);
  testing::internal::CaptureStderr();
  StepMetrics m = Step();
  m.tokens_per_second = 8000;
  progress.Show(m);
  EXPECT_NE(Line(progress, m).find("80% of roof"), std::string::npos) << Line(progress, m);
  m.tokens_per_second = 12000;  // faster than that, too: raised
  progress.Show(m);
  m.tokens_per_second = 6000;
  progress.Show(m);
  EXPECT_NE(Line(progress, m).find("50% of roof"), std::string::npos) << Line(progress, m);
  progress.Finish();
  testing::internal::GetCapturedStderr();
  EXPECT_EQ(asked, (std::vector<bool>{false, true}));
}

TEST(RunProgress, NarrowTerminalsShowWhatMatters) {
  TrainSettings settings;
  settings.steps = 100000;
  StepMetrics m = Step();
  m.step = 99999;
  const RunProgress progress(settings, 1, 100, 50, [](bool) { return 24690.0; });
  EXPECT_EQ(Line(progress, m, 79), "step 99999/100000  loss 1.386  2.000 bits/byte  12.3K tokens/s  0.00s left");
  EXPECT_EQ(Line(progress, m, 60), "step 99999/100000  2.000 bits/byte  0.00s left");
  EXPECT_EQ(Line(progress, m, 40), "step 99999/100000  2.000 bits/byte");
  EXPECT_EQ(Line(progress, m, 20), "step 99999/100000");
}

TEST(RunProgress, BitsPerTokenWhereBytesAreUnknown) {
  TrainSettings settings;
  const RunProgress unknown(settings, 0, 0, 0), pairs(settings, 2, 0, 0);
  EXPECT_NE(Line(unknown, Step()).find("2.000 bits/token"), std::string::npos);
  EXPECT_NE(Line(pairs, Step()).find("1.000 bits/byte"), std::string::npos);
}

TEST(RunProgress, TheTimeLimitShortensTheTimeLeft) {
  TrainSettings settings;
  settings.time_limit = 30;
  const RunProgress progress(settings, 1, 100, 50);
  EXPECT_TRUE(Line(progress, Step()).ends_with(FormatDuration(10) + " left")) << Line(progress, Step());
}

TEST(RunProgress, Validation) {
  ValidMetrics m;
  m.step = 7;
  m.ce = 2.0;
  m.bits_per_byte = 2.885;
  m.tokens = 999;
  EXPECT_EQ(ValidationLine(m), "step 7: valid 2.885 bits/byte, 2.000 nats a token over 999 tokens");
  m.bits_per_byte = std::numeric_limits<double>::quiet_NaN();
  m.selected_share = {0.1};
  m.selected_share_noise = {0.2};
  EXPECT_EQ(ValidationLine(m), "step 7: valid 2.000 nats a token over 999 tokens; selected 0.10, with noise 0.20");
  m.selected_share_noise = m.selected_share;
  EXPECT_EQ(ValidationLine(m), "step 7: valid 2.000 nats a token over 999 tokens; selected 0.10");
}

}  // namespace
}  // namespace taipan
