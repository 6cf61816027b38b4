#include "train/metrics.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/test_folder.h"
#include "base/write_faults.h"

namespace taipan {
namespace {

StepMetrics StepLine(int64_t step) {
  StepMetrics m;
  m.step = step;
  m.loss = 5.0 + 1.0 / 3.0;
  m.ce = 5.0;
  m.selected_share = {0.5, 0.25};
  return m;
}

ValidMetrics ValidLine(int64_t step) {
  ValidMetrics m;
  m.step = step;
  m.ce = 2.5;
  m.bits_per_byte = 3.6;
  return m;
}

TEST(Metrics, LinesHoldTheAgreedKeys) {
  const auto line = nlohmann::json::parse(ToJsonLine(StepLine(3)));
  for (const char* key : {"step", "loss", "ce", "budget_loss", "selected_share", "grad_norm", "lr", "tokens", "seconds",
                          "tokens_per_second"}) {
    EXPECT_TRUE(line.contains(key)) << key;
  }
  EXPECT_EQ(line["loss"].get<double>(), 5.0 + 1.0 / 3.0);  // every digit
  EXPECT_EQ(line["selected_share"], (std::vector<double>{0.5, 0.25}));
  StepMetrics without = StepLine(1);
  without.selected_share.clear();
  EXPECT_EQ(nlohmann::json::parse(ToJsonLine(without))["selected_share"].dump(), "[]");
  ValidMetrics valid = ValidLine(3);
  valid.bits_per_byte = std::numeric_limits<double>::quiet_NaN();
  const auto valid_line = nlohmann::json::parse(ToJsonLine(valid));
  EXPECT_EQ(valid_line["valid_ce"], 2.5);
  EXPECT_TRUE(valid_line["valid_bits_per_byte"].is_null());
}

class CutTest : public testing::Test {
 protected:
  void SetUp() override {
    for (int64_t step = 1; step <= 4; ++step) {
      lines_.push_back(ToJsonLine(StepLine(step)));
      if (step == 2) lines_.push_back(ToJsonLine(ValidLine(step)));
    }
  }
  std::string Lines(size_t count) const {
    std::string text;
    for (size_t i = 0; i < count; ++i) text += lines_[i];
    return text;
  }

  TestFolder folder_;
  const std::string path_ = folder_ / "metrics.jsonl";
  std::vector<std::string> lines_;
};

TEST_F(CutTest, DropsLinesAfterTheStep) {
  WriteFileAtomically(path_, Lines(5));
  const MetricsHistory history = CutMetrics(path_, 2);
  EXPECT_EQ(ReadFile(path_), Lines(3));
  EXPECT_EQ(history.step, (std::vector<double>{1, 2}));
  EXPECT_EQ(history.valid_ce, (std::vector<double>{2.5}));
  ASSERT_EQ(history.selected_share.size(), 2u);
  EXPECT_EQ(history.selected_share[1], (std::vector<double>{0.25, 0.25}));
  CutMetrics(path_, 0);
  EXPECT_EQ(ReadFile(path_), "");
}

TEST_F(CutTest, DropsATornLineWhereverItIsTorn) {
  for (size_t keep = 0; keep < lines_[4].size(); keep += 7) {
    WriteFileAtomically(path_, Lines(4) + lines_[4].substr(0, keep));
    CutMetrics(path_, 100);
    EXPECT_EQ(ReadFile(path_), Lines(4)) << keep;
  }
  WriteFileAtomically(path_, Lines(4) + "{\"step\": 4, \n");
  CutMetrics(path_, 100);
  EXPECT_EQ(ReadFile(path_), Lines(4));
}

TEST_F(CutTest, KeepsAWholeFileAndRefusesAnother) {
  WriteFileAtomically(path_, Lines(5));
  CutMetrics(path_, 4);
  EXPECT_EQ(ReadFile(path_), Lines(5));
  WriteFileAtomically(path_, "a shopping list\n" + Lines(2));
  EXPECT_NE(UserErrorOf([&] { CutMetrics(path_, 4); }).find("metrics.jsonl:1"), std::string::npos);
  EXPECT_TRUE(CutMetrics(folder_ / "missing.jsonl", 4).step.empty());
  EXPECT_FALSE(PathExists(folder_ / "missing.jsonl"));
}

TEST_F(CutTest, WriterAppends) {
  WriteFileAtomically(path_, Lines(2));
  {
    MetricsWriter writer(path_);
    writer.Write(lines_[2]);
    EXPECT_EQ(ReadFile(path_), Lines(3));  // at once
    writer.Write(lines_[3]);
    writer.Sync();
  }
  EXPECT_EQ(ReadFile(path_), Lines(4));
  EXPECT_NE(UserErrorOf([&] { MetricsWriter(folder_ / "no/folder.jsonl"); }).find("no/folder.jsonl"),
            std::string::npos);
}

TEST_F(CutTest, LinesWaitForADiskThatTakesThem) {
  WriteFileAtomically(path_, Lines(1));
  MetricsWriter writer(path_);
  {
    const WriteFaults full([](WriteStage, const std::string&) { return ENOSPC; });
    EXPECT_EQ(writer.Write(lines_[1]), path_ + ": cannot write: No space left on device");
    EXPECT_NE(UserErrorOf([&] { writer.Sync(); }).find("No space left"), std::string::npos);
  }
  EXPECT_EQ(ReadFile(path_), Lines(1));
  EXPECT_EQ(writer.Write(lines_[2]), "");
  EXPECT_EQ(ReadFile(path_), Lines(3));
  writer.Sync();
}

}  // namespace
}  // namespace taipan
