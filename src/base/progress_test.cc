#include "base/progress.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <limits>

namespace taipan {
namespace {

// A FILE that collects what is written, and a clock that is set by hand.
class ProgressLineTest : public testing::Test {
 protected:
  ~ProgressLineTest() override {
    std::fclose(out_);
    std::free(buffer_);
  }
  ProgressLine::Options Options(bool live) {
    return {.out = out_,
            .live = live,
            .live_interval = 0.1,
            .plain_interval = 10,
            .clock = [this] { return now_; },
            .columns = {}};
  }
  std::string Written() {
    std::fflush(out_);
    return std::string(buffer_, size_);
  }
  char* buffer_ = nullptr;
  size_t size_ = 0;
  std::FILE* out_ = ::open_memstream(&buffer_, &size_);
  double now_ = 1000;
};

TEST_F(ProgressLineTest, LiveLineIsRewrittenInPlace) {
  {
    ProgressLine line(Options(true));
    line.Update("one");
    now_ += 0.05;
    line.Update("too soon");
    now_ += 0.06;
    line.Update("two");
    line.Update("last");
  }
  EXPECT_EQ(Written(), "\rone\x1b[K\rtwo\x1b[K\rlast\x1b[K\n");
}

TEST_F(ProgressLineTest, PlainLinesAreSeldom) {
  ProgressLine line(Options(false));
  for (int i = 0; i < 25; ++i, now_ += 1) line.Update("step " + std::to_string(i));
  EXPECT_EQ(Written(), "step 0\nstep 10\nstep 20\n");
  line.Finish();
  line.Finish();
  EXPECT_EQ(Written(), "step 0\nstep 10\nstep 20\nstep 24\n");
  line.Update("again");
  EXPECT_EQ(Written(), "step 0\nstep 10\nstep 20\nstep 24\nagain\n");
}

TEST_F(ProgressLineTest, PrintedLinesStayAbove) {
  {
    ProgressLine line(Options(true));
    line.Print("before");
    line.Update("50 %");
    line.Print("note\n");
  }
  EXPECT_EQ(Written(), "\r\x1b[Kbefore\n\r50 %\x1b[K\r\x1b[Knote\n\r50 %\x1b[K\n");
}

TEST_F(ProgressLineTest, NothingShownWithoutUpdates) {
  { ProgressLine line(Options(true)); }
  EXPECT_EQ(Written(), "");
}

TEST_F(ProgressLineTest, PartsOfLeastImportanceMakeRoom) {
  const std::vector<ProgressPart> parts = {{"step 5/9", 9}, {"loss 2.5", 5}, {"lr 1e-3", 1}, {"4m05s left", 8}};
  EXPECT_EQ(FitParts(parts, 80), "step 5/9  loss 2.5  lr 1e-3  4m05s left");
  EXPECT_EQ(FitParts(parts, 38), "step 5/9  loss 2.5  4m05s left");
  EXPECT_EQ(FitParts(parts, 29), "step 5/9  4m05s left");
  EXPECT_EQ(FitParts(parts, 19), "step 5/9");
  EXPECT_EQ(FitParts(parts, 7), "step");  // a number is whole or not there
  EXPECT_EQ(FitParts(parts, 3), "");
  ProgressLine::Options options = Options(true);
  options.columns = 30;
  {
    ProgressLine line(options);
    line.Update(parts);
  }
  EXPECT_EQ(Written(), "\rstep 5/9  4m05s left\x1b[K\n");
}

TEST(Format, Durations) {
  EXPECT_EQ(FormatDuration(0), "0.00s");
  EXPECT_EQ(FormatDuration(0.251), "0.25s");
  EXPECT_EQ(FormatDuration(0.999), "1.0s");
  EXPECT_EQ(FormatDuration(12.34), "12.3s");
  EXPECT_EQ(FormatDuration(59.97), "1m00s");
  EXPECT_EQ(FormatDuration(245), "4m05s");
  EXPECT_EQ(FormatDuration(3599.6), "1h00m");
  EXPECT_EQ(FormatDuration(3 * 3600 + 7 * 60 + 59), "3h07m");
  EXPECT_EQ(FormatDuration(2 * 86400 + 4 * 3600), "2d04h");
  EXPECT_EQ(FormatDuration(std::nan("")), "?");
  EXPECT_EQ(FormatDuration(-1), "?");
  EXPECT_EQ(FormatDuration(std::numeric_limits<double>::infinity()), "?");
}

TEST(Format, Counts) {
  EXPECT_EQ(FormatCount(0), "0");
  EXPECT_EQ(FormatCount(999), "999");
  EXPECT_EQ(FormatCount(1000), "1.0K");
  EXPECT_EQ(FormatCount(1'234'567), "1.2M");
  EXPECT_EQ(FormatCount(999'949), "999.9K");
  EXPECT_EQ(FormatCount(999'960), "1.0M");
  EXPECT_EQ(FormatCount(1'300'000'000), "1.3B");
  EXPECT_EQ(FormatCount(27'000'000'000'000), "27.0T");
  EXPECT_EQ(FormatCount(-1500), "-1.5K");
  EXPECT_EQ(FormatCount(std::numeric_limits<int64_t>::max()), "9223372.0T");
}

TEST(Format, Bytes) {
  EXPECT_EQ(FormatBytes(0), "0 B");
  EXPECT_EQ(FormatBytes(1023), "1023 B");
  EXPECT_EQ(FormatBytes(1536), "1.5 KiB");
  EXPECT_EQ(FormatBytes(int64_t{1} << 20), "1.0 MiB");
  EXPECT_EQ(FormatBytes((int64_t{1} << 20) - 1), "1.0 MiB");
  EXPECT_EQ(FormatBytes(int64_t{5} << 30), "5.0 GiB");
}

}  // namespace
}  // namespace taipan
