#include "train/curve.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numbers>

#include "base/test_folder.h"

namespace taipan {
namespace {

TEST(Smooth, MeansOfNeighbours) {
  std::vector<double> at = {1, 2, 3, 4, 5}, values = {10, 20, 30, 40, 90};
  Smooth(at, values, 5);
  EXPECT_EQ(values.size(), 5u);
  Smooth(at, values, 3);
  EXPECT_EQ(at, (std::vector<double>{1.5, 3.5, 5}));
  EXPECT_EQ(values, (std::vector<double>{15, 35, 90}));
}

TEST(WriteCurve, NamesWhatItShows) {
  const TestFolder folder;
  MetricsHistory history;
  TrainSettings settings;
  settings.model = "models/some-model";
  WriteCurve(history, 1, settings, folder / "curve.svg");
  EXPECT_FALSE(PathExists(folder / "curve.svg"));
  for (int64_t step = 1; step <= 1000; ++step) {
    StepMetrics m;
    m.step = step;
    m.ce = 5.0 / static_cast<double>(step) + 1;
    m.selected_share = {0.5, 0.1};
    history.Add(m);
  }
  ValidMetrics valid;
  valid.step = 500;
  valid.ce = 2;
  valid.selected_share = {0.4, 0.2};
  history.Add(valid);
  WriteCurve(history, 1, settings, folder / "curve.svg");
  const std::string svg = ReadFile(folder / "curve.svg");
  for (const char* text : {"<svg", "</svg>", "some-model", "training", "validation", "SAL 1", "SAL 2", "bits/byte"}) {
    EXPECT_NE(svg.find(text), std::string::npos) << text;
  }
  EXPECT_NE(svg.find(">selected share<"), std::string::npos);  // an axis of its own
  EXPECT_NE(svg.find("SAL 1 with noise"), std::string::npos);
  EXPECT_LT(svg.size(), 40000u);  // not every step
  WriteCurve(history, 0, settings, folder / "curve.svg");
  EXPECT_NE(ReadFile(folder / "curve.svg").find("bits/token"), std::string::npos);
}

TEST(WriteCurve, TheFirstStepsDoNotSetTheRange) {
  const TestFolder folder;
  MetricsHistory history;
  for (int64_t step = 1; step <= 400; ++step) {
    StepMetrics m;
    m.step = step;
    m.ce = step < 10 ? 8 * std::numbers::ln2 : (2 - static_cast<double>(step) / 1000) * std::numbers::ln2;
    history.Add(m);
  }
  WriteCurve(history, 1, TrainSettings(), folder / "curve.svg");
  const std::string svg = ReadFile(folder / "curve.svg");
  EXPECT_NE(svg.find(">1.9<"), std::string::npos) << svg;  // a tick of a range of 0.4 bits
  EXPECT_EQ(svg.find(">8<"), std::string::npos);
  EXPECT_EQ(svg.find("selected share"), std::string::npos);  // no layer selects
}

}  // namespace
}  // namespace taipan
