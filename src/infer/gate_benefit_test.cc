#include "infer/gate_benefit.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "infer/test_model.h"
#include "model/selection.h"

namespace taipan {
namespace {

using testing::ElementsAre;

// Two SALs whose alpha is near 0.01, with about half of the tokens selected.
LanguageModel FaintModel(Refinement refinement) {
  ModelConfig config = TinyConfig(LayerKind::kSelectiveAttention);
  config.refinement = refinement;
  config.selection = Selection::kThreshold;
  LanguageModel model = TinyModel(config);
  model.params().ForEach([](Weight& weight) {
    if (weight.spec.name.find("gate.bias") != std::string::npos) weight.F32()[1] = -4.5f;
  });
  model.SetSelectionThreshold({-4.5, -4.5});
  return model;
}

// Along m from 0 to 1 the loss falls by the integral of -dL/dm, and the two ends are what FirstOrderBenefits gives with
// the token as it is and with it switched. With an alpha of 1 % the slope changes little and evenly between them, so
// the exact benefit is their mean but for a part of their difference: a quarter of it allows for a slope that bends.
// Behind it stands rounding: some 60 log-probabilities of size 6 in f32, each through sums that lose some bits more.
TEST(GateBenefit, SwitchingATokenIsTheIntegralOfTheFirstOrder) {
  constexpr double kRounding = 60 * 6 * 0x1p-24 * 4;
  for (const Refinement refinement : {Refinement::kMix, Refinement::kResidual}) {
    const LanguageModel model = FaintModel(refinement);
    const SelectionTrace trace = TraceSelection(model, RandomTokens(100), 60, "text");
    const std::vector<int64_t> tokens = DrawTokens(trace, 12, 1);
    const auto first_order = FirstOrderBenefits(model, trace);
    for (size_t sal = 0; sal < 2; ++sal) {
      const std::vector<double> exact = ExactBenefits(model, trace, sal, tokens);
      double sum = 0, bends = 0;
      int selected = 0;
      for (size_t k = 0; k < tokens.size(); ++k) {
        const auto token = static_cast<size_t>(tokens[k]);
        SelectionTrace switched = trace;
        switched.sals[sal].selected[token] ^= 1;
        const double here = first_order[sal][token], there = FirstOrderBenefits(model, switched)[sal][token];
        EXPECT_NEAR(exact[k], (here + there) / 2, std::abs(here - there) / 4 + kRounding)
            << NameIn(refinement) << " SAL " << sal << " token " << token;
        sum += std::abs(exact[k]);
        bends += std::abs(here - there);
        selected += trace.sals[sal].selected[token];
      }
      EXPECT_GT(sum / 12, 20 * kRounding);
      EXPECT_LT(bends, 0.25 * sum);
      EXPECT_GT(selected, 2);
      EXPECT_LT(selected, 10);
    }
  }
}

TEST(GateBenefit, SelectionsComeFromTheTrace) {
  // A rule that does not ask the gate is measured alike; the last token of a window has no benefit.
  ModelConfig config = TinyConfig(LayerKind::kSelectiveAttention);
  config.selection = Selection::kRandom;
  config.attention_budget = 0.4;
  const LanguageModel model = TinyModel(config);
  const SelectionTrace trace = TraceSelection(model, RandomTokens(90), 45, "text");
  const auto first_order = FirstOrderBenefits(model, trace);
  ASSERT_EQ(first_order[1].size(), 90u);
  EXPECT_EQ(first_order[1][44], 0);
  EXPECT_NE(first_order[1][43], 0);
  EXPECT_EQ(ExactBenefits(model, trace, 1, std::vector<int64_t>{44, 89}), (std::vector<double>{0, 0}));
  const std::vector<int64_t> one = {50}, several = {3, 17, 50, 51};
  EXPECT_EQ(ExactBenefits(model, trace, 0, one)[0], ExactBenefits(model, trace, 0, several)[2]);
}

TEST(GateBenefit, SurprisesAreOfTheTokenItself) {
  const LanguageModel model = FaintModel(Refinement::kResidual);
  const SelectionTrace trace = TraceSelection(model, RandomTokens(50), 30, "text");
  const std::vector<double> surprises = Surprises(model, trace);
  ASSERT_EQ(surprises.size(), 50u);
  Batch batch;
  batch.tokens.assign(trace.tokens.begin() + 30, trace.tokens.end());
  batch.targets.assign(trace.tokens.begin() + 31, trace.tokens.end());
  batch.targets.push_back(-1);
  batch.segments = {{.begin = 0, .length = 20, .row = 0}};
  ForwardContext context;
  std::vector<float> logprobs(20);
  model.Forward(batch, InferenceGate(model.config()), /*keep=*/false, context);
  model.Score(context, logprobs.data());
  EXPECT_EQ(surprises[0], 0);
  EXPECT_EQ(surprises[30], 0);
  for (size_t i = 0; i < 19; ++i) EXPECT_FLOAT_EQ(static_cast<float>(surprises[31 + i]), -logprobs[i]);
}

TEST(GateBenefit, DrawsDistinctTokensThatHaveASuccessor) {
  SelectionTrace trace;
  trace.tokens = RandomTokens(20);
  trace.context = 8;
  EXPECT_THAT(TokensWithSuccessor(trace), ElementsAre(0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 16, 17, 18));
  EXPECT_EQ(DrawTokens(trace, 100, 1), TokensWithSuccessor(trace));
  std::vector<int64_t> drawn = DrawTokens(trace, 6, 1);
  EXPECT_EQ(drawn.size(), 6u);
  EXPECT_TRUE(std::is_sorted(drawn.begin(), drawn.end()));
  EXPECT_EQ(std::unique(drawn.begin(), drawn.end()), drawn.end());
  EXPECT_NE(drawn, DrawTokens(trace, 6, 2));
}

TEST(GateBenefit, AucCountsPairs) {
  const std::vector<double> benefits = {5, 1, 4, 0, -2};
  // The two most useful tokens are the first and the third.
  EXPECT_EQ(RankingAuc(std::vector<double>{9, 1, 8, 2, 3}, benefits, 0.4), 1);
  EXPECT_EQ(RankingAuc(std::vector<double>{1, 9, 2, 8, 7}, benefits, 0.4), 0);
  EXPECT_EQ(RankingAuc(std::vector<double>{3, 3, 3, 3, 3}, benefits, 0.4), 0.5);
  // Against 1, 2, 4: 3 wins twice; 2.5 wins twice.
  EXPECT_DOUBLE_EQ(RankingAuc(std::vector<double>{3, 1, 2.5, 2, 4}, benefits, 0.4), 4.0 / 6);
  EXPECT_TRUE(std::isnan(RankingAuc(benefits, benefits, 0.01)));
  EXPECT_TRUE(std::isnan(RankingAuc(benefits, benefits, 1)));
}

TEST(GateBenefit, CorrelationIsOfRanks) {
  const std::vector<double> a = {1, 2, 3, 4};
  EXPECT_DOUBLE_EQ(RankCorrelation(a, std::vector<double>{1, 10, 100, 1000}), 1);
  EXPECT_DOUBLE_EQ(RankCorrelation(a, std::vector<double>{4, 3, 2, 1}), -1);
  // Ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: 4.5 / sqrt(5 * 4.5).
  EXPECT_DOUBLE_EQ(RankCorrelation(a, std::vector<double>{0, 7, 7, 9}), 4.5 / std::sqrt(22.5));
  EXPECT_TRUE(std::isnan(RankCorrelation(a, std::vector<double>{2, 2, 2, 2})));
}

}  // namespace
}  // namespace taipan
