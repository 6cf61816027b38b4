// Gates over rows of a step: the budget's sequence is the row, and noise is indexed by row and position in the row.

#include <gtest/gtest.h>

#include <cmath>

#include "support/random_model.h"
#include "support/step_runs.h"

namespace taipan::test {
namespace {

class Gates : public testing::TestWithParam<uint64_t> {
 protected:
  Gates() : config_(RandomConfig(TestPatterns(0)[0].layers, GetParam())), model_(RandomModel(config_, GetParam())) {
    spec_ = RandomStep(config_, 4, 3, 30, GetParam());
  }
  void UseCounterNoise(uint32_t step) {
    spec_.noise.clear();
    spec_.gate.noise = GateNoise::kCounter;
    spec_.gate.seed = 77;
    spec_.gate.step = step;
  }

  ModelConfig config_;
  LanguageModel model_;
  StepSpec spec_;
};

TEST_P(Gates, BudgetCountsRowsNotDocuments) {
  const StepOutcome result = RunStep(model_, spec_, WholeStep(spec_));
  double expected = 0;
  for (const SalValues& sal : result.sals) {
    size_t flat = 0;
    for (const auto& row : spec_.rows) {
      double m = 0, tokens = 0;
      for (const Document& document : row) {
        for (size_t i = 0; i < document.tokens.size(); ++i, ++tokens) m += sal.selected[flat++];
      }
      const double off = spec_.loss.budget - m / tokens;
      expected += off * off / static_cast<double>(spec_.rows.size());
    }
  }
  EXPECT_NEAR(result.budget_loss, expected, 1e-12);
  EXPECT_NEAR(result.total, result.ce + spec_.loss.budget_weight * expected, 1e-12);
}

TEST_P(Gates, AlphaIsTheSigmoidOfTheMargin) {
  const StepOutcome result = RunStep(model_, spec_, WholeStep(spec_));
  for (const SalValues& sal : result.sals) {
    for (size_t i = 0; i < sal.margin.size(); ++i) {
      // A sigmoid of an f32 margin: a few units in the last place, and the margin's own rounding times 1/4.
      const double alpha = 1 / (1 + std::exp(-static_cast<double>(sal.margin[i])));
      EXPECT_NEAR(sal.alpha[i], alpha, 1e-6);
    }
  }
}

// The noise of a token is the stated counter's, wherever in a batch it is computed.
TEST_P(Gates, CounterNoiseIsIndexedByRowAndPosition) {
  UseCounterNoise(12);
  StepSpec given = spec_;
  given.gate.noise = GateNoise::kGiven;
  for (int64_t sal = 0; sal < config_.num_sals(); ++sal) {
    const RandomKey key{.seed = 77, .stream = kGumbelStream + static_cast<uint32_t>(sal), .step = 12};
    given.noise.emplace_back();
    for (size_t row = 0; row < spec_.rows.size(); ++row) {
      uint64_t position = 0;
      for (const Document& document : spec_.rows[row]) {
        for (size_t i = 0; i < document.tokens.size(); ++i, ++position) {
          const auto pair = RandomGumbelPair(key, static_cast<uint64_t>(row) << 32 | position);
          given.noise.back().insert(given.noise.back().end(), pair.begin(), pair.end());
        }
      }
    }
  }
  const StepOutcome expected = RunStep(model_, given, WholeStep(given));
  for (const StepPlan& plan : {WholeStep(spec_), RowByRow(spec_), DocumentByDocument(spec_)}) {
    const StepOutcome result = RunStep(model_, spec_, plan);
    for (size_t g = 0; g < result.sals.size(); ++g) {
      EXPECT_EQ(result.sals[g].selected, expected.sals[g].selected);
      EXPECT_EQ(result.sals[g].margin, expected.sals[g].margin);
    }
  }
}

TEST_P(Gates, CounterNoiseChangesWithStepSeedAndRow) {
  const std::vector<int32_t> tokens = RandomTokens(config_, 200, 5);
  spec_.rows = {{NextTokenDocument(tokens)}, {NextTokenDocument(tokens)}};
  spec_.weights.clear();
  UseCounterNoise(1);
  const StepOutcome first = RunStep(model_, spec_, WholeStep(spec_));
  const std::vector<uint8_t>& selected = first.sals[0].selected;
  EXPECT_FALSE(std::equal(selected.begin(), selected.begin() + 200, selected.begin() + 200)) << "two rows, one noise";
  UseCounterNoise(2);
  EXPECT_NE(RunStep(model_, spec_, WholeStep(spec_)).sals[0].selected, selected) << "two steps, one noise";
  UseCounterNoise(1);
  spec_.gate.seed = 78;
  EXPECT_NE(RunStep(model_, spec_, WholeStep(spec_)).sals[0].selected, selected) << "two seeds, one noise";
}

// With lambda > 0 the sums of a row that is spread over batches count as a whole.
TEST_P(Gates, LambdaReachesTheGateAlone) {
  StepSpec without = spec_;
  without.loss.budget_weight = 0;
  const StepOutcome on = RunStep(model_, spec_, WholeStep(spec_)), off = RunStep(model_, without, WholeStep(without));
  // Nothing behind the last SAL's gate sees its budget.
  EXPECT_EQ(on.Of("model.norm.weight").values, off.Of("model.norm.weight").values);
  const std::string last = "model.layers." + std::to_string(config_.num_layers() - 1);
  EXPECT_EQ(on.Of(last + ".mlp.down_proj.weight").values, off.Of(last + ".mlp.down_proj.weight").values);
  EXPECT_NE(on.Of(last + ".gate.weight").values, off.Of(last + ".gate.weight").values);
  EXPECT_NE(on.Of("model.layers.0.mixer.in_proj.weight").values, off.Of("model.layers.0.mixer.in_proj.weight").values);
}

INSTANTIATE_TEST_SUITE_P(Seeds, Gates, testing::Range<uint64_t>(1, 4));

}  // namespace
}  // namespace taipan::test
