#include "infer/selection_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/test_folder.h"
#include "infer/scoring.h"
#include "infer/test_model.h"
#include "text/token_class.h"

namespace taipan {
namespace {

using testing::ElementsAre;

ModelConfig TwoSals() { return TinyConfig(LayerKind::kSelectiveAttention); }

TEST(SelectionTrace, IsWhatScoringSelects) {
  const std::vector<int32_t> text = RandomTokens(1100);
  for (const Selection selection : {Selection::kThreshold, Selection::kRandom, Selection::kPeriodic}) {
    ModelConfig config = TwoSals();
    config.selection = selection;
    config.attention_budget = 0.3;
    config.selection_threshold = {0.1, -0.05};
    const LanguageModel model = TinyModel(config);
    for (const int64_t context : {1100, 70}) {
      const SelectionTrace trace = TraceSelection(model, text, context, "text");
      const ScoreResult scored =
          context == 1100 ? ScoreTokens(model, text) : ScoreWindows(model, text, {.context = 70, .stride = 70});
      ASSERT_EQ(trace.sals.size(), 2u);
      for (size_t s = 0; s < 2; ++s) {
        double sum = 0;
        for (size_t i = 0; i < text.size(); ++i) {
          sum += trace.sals[s].selected[i];
          EXPECT_NEAR(trace.sals[s].alpha[i], 1 / (1 + std::exp(-trace.sals[s].margin[i])), 1e-6);
        }
        EXPECT_NEAR(sum / 1100, scored.selected_share[s], 1e-12) << NameIn(selection) << " " << context;
      }
    }
  }
}

TEST(SelectionTrace, RefusesWhatHasNothingToTrace) {
  const auto error_of = [](const LanguageModel& model, const std::vector<int32_t>& text) {
    return UserErrorOf([&] { TraceSelection(model, text, 64, "book.txt"); });
  };
  EXPECT_THAT(error_of(TinyModel(LayerKind::kMamba2), RandomTokens(9)),
              testing::HasSubstr("book.txt: the model has no selective attention layers"));
  LanguageModel model = TinyModel(TwoSals());
  EXPECT_THAT(error_of(model, {}), testing::HasSubstr("nothing to read"));
  EXPECT_THAT(error_of(model, {1, 256}), testing::HasSubstr("0 to 255"));
  model.params().ForEach([](Weight& weight) {
    if (weight.spec.name.find("gate.bias") != std::string::npos) {
      weight.F32()[1] = std::numeric_limits<float>::quiet_NaN();
    }
  });
  EXPECT_THAT(error_of(model, RandomTokens(9)), testing::HasSubstr("SAL 0 gives no finite number"));
}

// "ab ab ab ab" twice, windows of 8: SAL 0 selects every a, SAL 1 every second token.
SelectionTrace HandMade() {
  const std::string text = "ab ab ab ab ab a";
  SelectionTrace trace{ByteTokenizer().Encode(text), 8, {}};
  trace.sals.resize(2);
  for (size_t i = 0; i < text.size(); ++i) {
    trace.sals[0].selected.push_back(text[i] == 'a');
    trace.sals[1].selected.push_back(i % 2 == 0);
    for (SelectionTrace::Sal& sal : trace.sals) sal.alpha.push_back(0.25f);
  }
  return trace;
}

TEST(SelectionReport, CountsByPositionClassAndToken) {
  const SelectionReport report =
      ReportSelection(HandMade(), ByteTokenizer(), {.reach = 2, .buckets = 3, .most_tokens = 2, .least_seen = 5});
  EXPECT_EQ(report.all.tokens, 16);
  EXPECT_THAT(report.all.share, ElementsAre(6.0 / 16, 0.5));
  EXPECT_THAT(report.mean_alpha, ElementsAre(0.25, 0.25));
  ASSERT_EQ(report.by_position.size(), 3u);
  EXPECT_EQ(report.by_position[0].name, "0-2");
  EXPECT_EQ(report.by_position[2].name, "6-7");
  EXPECT_EQ(report.by_position[2].tokens, 4);
  // "ab ab ab" and " ab ab a": at 0-2 "ab " and " ab", each with one a.
  EXPECT_THAT(report.by_position[0].share, ElementsAre(2.0 / 6, 4.0 / 6));

  ASSERT_EQ(report.by_class.size(), 5u);
  EXPECT_EQ(report.by_class[0].name, NamesOf(TokenClass{})[0]);
  EXPECT_EQ(report.by_class[0].tokens, 6);
  EXPECT_THAT(report.by_class[0].share, ElementsAre(1.0, 0.5));
  EXPECT_EQ(report.by_class[1].tokens, 5);
  EXPECT_EQ(report.by_class[2].name, "white space");
  // In "ab ab ab" the bigrams from the fourth token on were there three before: 4 of 7 targets; the same behind the
  // space in " ab ab a".
  EXPECT_EQ(report.by_class[3].tokens, 8);
  EXPECT_EQ(report.by_class[4].tokens, 6);
  EXPECT_FALSE(report.before_hit[7]);

  ASSERT_EQ(report.by_token.size(), 2u);
  EXPECT_EQ(report.by_token[0].name, "a");
  EXPECT_EQ(report.by_token[0].tokens, 6);
  EXPECT_EQ(report.by_token[1].tokens, 5);  // 5 each: the share of SAL 1 decides
}

TEST(SelectionReport, AgreementIsOneByChance) {
  SelectionTrace trace = HandMade();
  const SelectionReport report = ReportSelection(trace, ByteTokenizer());
  // Three of the six a stand at even places, as many as chance gives.
  EXPECT_DOUBLE_EQ(report.agreement[0][1], 1);
  EXPECT_DOUBLE_EQ(report.agreement[1][1], 2);
  std::fill(trace.sals[1].selected.begin(), trace.sals[1].selected.end(), 0);
  EXPECT_TRUE(std::isnan(ReportSelection(trace, ByteTokenizer()).agreement[0][1]));
}

}  // namespace
}  // namespace taipan
