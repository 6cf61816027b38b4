#include "infer/calibration.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/files.h"
#include "base/test_folder.h"
#include "infer/scoring.h"
#include "infer/test_model.h"

namespace taipan {
namespace {

ModelConfig TwoSals() { return TinyConfig(LayerKind::kSelectiveAttention); }

TEST(Calibration, GivesEverySalTheBudget) {
  for (const Refinement refinement : {Refinement::kMix, Refinement::kResidual}) {
    ModelConfig config = TwoSals();
    config.refinement = refinement;
    LanguageModel model = TinyModel(config);
    const std::vector<int32_t> text = RandomTokens(600);
    for (const double budget : {0.1, 0.37}) {
      const SelectionQuantiles q = Calibrate(model, text, budget, "text");
      ASSERT_EQ(model.config().selection_threshold.size(), 2u);
      for (const double share : ScoreTokens(model, text).selected_share) EXPECT_NEAR(share, budget, 1.0 / 600);
      // At a share of the table its thresholds are the calibrated ones.
      EXPECT_EQ(q.ThresholdsAt(budget), model.config().selection_threshold);
    }
  }
}

TEST(Calibration, QuantilesAreKeptBesideTheModel) {
  const ModelConfig config = TwoSals();
  LanguageModel model = TinyModel(config);
  const std::vector<int32_t> text = RandomTokens(600);
  const TestFolder folder;
  EXPECT_NE(UserErrorOf([&] { UseBudget(model, folder.path(), 0.2); }).find("taipan calibrate"), std::string::npos);
  const SelectionQuantiles q = Calibrate(model, text, 0.15, "text");
  SaveSelectionQuantiles(q, folder.path());
  UseBudget(model, folder.path(), 0.5);
  const ScoreResult scored = ScoreTokens(model, text);
  EXPECT_NEAR(scored.selected_share[0], 0.5, 1.0 / 600);
  UseBudget(model, folder.path(), 0.155);  // between two shares
  EXPECT_GT(model.config().selection_threshold[0], q.ThresholdsAt(0.16)[0]);
  EXPECT_LT(model.config().selection_threshold[0], q.ThresholdsAt(0.15)[0]);

  WriteFileAtomically(folder / "selection.json", R"({"tokens": 5, "shares": [0.1, 0.2], "margins_0": [1, 0]})");
  EXPECT_NE(UserErrorOf([&] { UseBudget(model, folder.path(), 0.2); }).find("margins_1"), std::string::npos);
  WriteFileAtomically(folder / "selection.json",
                      R"({"tokens": 5, "shares": [0.2, 0.1], "margins_0": [1, 0], "margins_1": [1, 0]})");
  EXPECT_NE(UserErrorOf([&] { UseBudget(model, folder.path(), 0.2); }).find("do not rise"), std::string::npos);
}

TEST(Calibration, RefusesWhatCannotBeCalibrated) {
  const auto error_of = [](const ModelConfig& config, int64_t tokens, double budget) {
    LanguageModel model = TinyModel(config);
    const std::vector<int32_t> text = RandomTokens(tokens);
    const std::string error = UserErrorOf([&] { Calibrate(model, text, budget, "book.txt"); });
    EXPECT_EQ(model.config().selection_threshold.empty(), error != "");
    return error;
  };
  EXPECT_EQ(
      error_of(TwoSals(), 133, 0.15).rfind("book.txt: too few tokens for a quantile at 0.15, expected at least 134", 0),
      0u);
  EXPECT_EQ(error_of(TwoSals(), 134, 0.15), "");
  ModelConfig none = TwoSals();
  none.layer_pattern = {LayerKind::kMamba2};
  EXPECT_NE(error_of(none, 500, 0.15).find("no selective attention layers"), std::string::npos);
  ModelConfig drawn = TwoSals();
  drawn.selection = Selection::kRandom;
  EXPECT_NE(error_of(drawn, 500, 0.15).find("does not ask its gates, expected argmax or threshold, found random"),
            std::string::npos);
}

}  // namespace
}  // namespace taipan
