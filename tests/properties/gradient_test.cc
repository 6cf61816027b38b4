// Gradients of one step, however it is divided: pieces, micro-batches, packed documents; and against central
// differences of a reference in double precision.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <optional>
#include <tuple>

#include "support/random_model.h"
#include "support/reference_model.h"
#include "support/step_runs.h"

namespace taipan::test {
namespace {

struct Case {
  NamedPattern pattern;
  uint64_t seed = 0;
};
std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (const NamedPattern& pattern : TestPatterns(Scaled(8))) {
    for (int64_t i = 0; i < Scaled(1); ++i) cases.push_back({pattern, static_cast<uint64_t>(cases.size() + 201)});
  }
  return cases;
}

constexpr uint64_t kWeights = 9;

class Gradients : public testing::TestWithParam<Case> {
 protected:
  Gradients()
      : config_(RandomConfig(GetParam().pattern.layers, GetParam().seed)), model_(RandomModel(config_, kWeights)) {
    static std::map<uint64_t, std::pair<StepSpec, std::vector<double>>> drawn;  // one for all tests of a case
    auto [at, is_new] = drawn.try_emplace(GetParam().seed);
    if (is_new) {
      Draw(3, 3, 80);  // beyond a tile of keys and the longest chunk
      at->second = {spec_, bounds_};
    }
    std::tie(spec_, bounds_) = at->second;
  }

  // Near-ties are rare: the first or second draw has none.
  void Draw(int64_t rows, int64_t documents, int64_t length) {
    bounds_.clear();
    for (uint64_t i = 0; bounds_.empty() && i < 5; ++i) {
      spec_ = RandomStep(config_, rows, documents, length, GetParam().seed + 1000 * i);
      bounds_ = GradientBounds(config_, kWeights, spec_);
    }
    CHECK(!bounds_.empty());
  }

  void ExpectSame(const StepOutcome& expected, const StepOutcome& actual, const std::string& how) {
    EXPECT_NEAR(actual.nll, expected.nll, 1e-5 * expected.nll) << how;
    EXPECT_NEAR(actual.budget_loss, expected.budget_loss, 1e-12) << how;
    for (size_t g = 0; g < expected.sals.size(); ++g) {
      EXPECT_EQ(expected.sals[g].selected, actual.sals[g].selected) << how;
    }
    EXPECT_EQ(CompareGradients(expected, actual, bounds_), "") << how;
  }

  // <gradient, v> for a random direction v of unit length in each tensor against central differences of the loss in
  // double. The step: a truncation error of about 1e-12 of the loss's third derivative, rounding 1e-16 / 1e-6.
  void ExpectDerivatives(const StepOutcome& result, const FrozenStep& frozen) {
    constexpr double kStep = 1e-6, kRounding = 1e-8;
    ReferenceModel reference(config_, model_);
    RandomSource random(GetParam().seed);
    for (size_t i = 0; i < result.gradients.size(); ++i) {
      const NamedGradient& gradient = result.gradients[i];
      Row& weights = reference.weights().at(gradient.name);
      const Row base = weights;
      Row v(base.size());
      const double unit = 1 / std::sqrt(static_cast<double>(v.size()));
      double expected = 0, along = 0;
      for (size_t k = 0; k < v.size(); ++k) {
        v[k] = random.Below(2) != 0 ? unit : -unit;
        along += v[k] * gradient.values[k];
      }
      for (double sign : {1.0, -1.0}) {
        for (size_t k = 0; k < v.size(); ++k) weights[k] = base[k] + sign * kStep * v[k];
        expected += sign * ReferenceLoss(reference, spec_, frozen) / (2 * kStep);
      }
      weights = base;
      EXPECT_NEAR(along, expected, bounds_[i] + kRounding) << gradient.name << " of norm " << Norm(gradient.values);
    }
  }

  // Selections, loss and derivatives of the step against the reference.
  void ExpectReference();

  ModelConfig config_;
  LanguageModel model_;
  StepSpec spec_;
  std::vector<double> bounds_;  // of each tensor
};

// Bounds that could not fail would prove nothing: a thousandth of each gradient at most, where it is not tiny
// itself.
TEST_P(Gradients, BoundsAreSmall) {
  const StepOutcome whole = RunStep(model_, spec_, WholeStep(spec_));
  for (size_t i = 0; i < bounds_.size(); ++i) {
    const double norm = Norm(whole.gradients[i].values);
    if (norm > 1e-2 * whole.grad_norm) {
      EXPECT_LT(bounds_[i], 1e-3 * norm) << whole.gradients[i].name;
    }
  }
}

TEST_P(Gradients, MicroBatchesAddUp) {
  const StepOutcome whole = RunStep(model_, spec_, WholeStep(spec_));
  ExpectSame(whole, RunStep(model_, spec_, RowByRow(spec_)), "a batch a row");
  ExpectSame(whole, RunStep(model_, spec_, DocumentByDocument(spec_)), "a batch a document");
}

TEST_P(Gradients, PiecesWithStateGradientsAreTheWhole) {
  const StepOutcome whole = RunStep(model_, spec_, WholeStep(spec_));
  for (uint64_t i = 0; i < 3; ++i) {
    ExpectSame(whole, RunStep(model_, spec_, StepInPieces(spec_, GetParam().seed + i)), fmt::format("cut {}", i));
  }
}

TEST_P(Gradients, EveryCutOfOneDocument) {
  StepSpec one;
  one.rows = {{NextTokenDocument(RandomTokens(config_, 21, GetParam().seed))}};
  one.gate = spec_.gate;
  one.gate.noise = GateNoise::kCounter;
  one.gate.seed = GetParam().seed;
  one.loss = spec_.loss;
  const std::vector<double> bounds = GradientBounds(config_, kWeights, one);
  if (bounds.empty()) GTEST_SKIP() << "a near-tie";
  const StepOutcome whole = RunStep(model_, one, WholeStep(one));
  for (int64_t cut = 1; cut < 21; ++cut) {
    const StepOutcome two = RunStep(model_, one, {{{0, 0, 0, cut}}, {{0, 0, cut, 21 - cut}}});
    EXPECT_EQ(CompareGradients(whole, two, bounds), "") << "cut at " << cut;
  }
}

// Documents in one row = the same documents as steps of their own, weighted by their share of the targets. Not bit for
// bit: a weight's gradient is one product over all rows of the batch, so that the sums run in another order.
TEST_P(Gradients, PackedDocumentsAreTheSumOfSeparateOnes) {
  spec_.loss.budget_weight = 0;  // the budget's sequence is the row, not the document
  const StepOutcome packed = RunStep(model_, spec_, WholeStep(spec_));
  const double targets = spec_.totals().targets;
  StepOutcome sum;
  int64_t flat = 0;
  for (const auto& row : spec_.rows) {
    for (const Document& document : row) {
      const int64_t n = static_cast<int64_t>(document.tokens.size());
      StepSpec own;
      own.rows = {{document}};
      own.gate = spec_.gate;
      for (const auto& noise : spec_.noise) {
        own.noise.emplace_back(noise.begin() + 2 * flat, noise.begin() + 2 * (flat + n));
      }
      if (!spec_.weights.empty()) own.weights.assign(spec_.weights.begin() + flat, spec_.weights.begin() + flat + n);
      flat += n;
      const StepOutcome part = RunStep(model_, own, WholeStep(own));
      const double share = own.totals().targets / targets;
      if (sum.gradients.empty()) {
        sum.gradients = part.gradients;
        for (NamedGradient& g : sum.gradients) std::fill(g.values.begin(), g.values.end(), 0.0f);
      }
      for (size_t i = 0; i < part.gradients.size(); ++i) {
        for (size_t k = 0; k < part.gradients[i].values.size(); ++k) {
          sum.gradients[i].values[k] += static_cast<float>(share * part.gradients[i].values[k]);
        }
      }
    }
  }
  EXPECT_EQ(CompareGradients(packed, sum, bounds_), "");
}

// With the state's gradient dropped, the state a piece starts from is a constant.
TEST_P(Gradients, DroppedStateGradientsStopAtThePiece) {
  constexpr int64_t kPiece = 7;
  Draw(2, 2, 20);
  StepPlan plan;
  for (const auto& batch : RowByRow(spec_)) {
    for (const StepPiece& whole : batch) {
      for (int64_t begin = 0; begin < whole.length; begin += kPiece) {
        const size_t k = static_cast<size_t>(begin / kPiece);
        if (plan.size() <= k) plan.emplace_back();
        plan[k].push_back({whole.row, whole.document, begin, std::min(kPiece, whole.length - begin)});
      }
    }
  }
  const StepOutcome exact = RunStep(model_, spec_, plan);
  const StepOutcome dropped = RunStep(model_, spec_, plan, StateGradients::kDropped);
  EXPECT_EQ(exact.nll, dropped.nll);
  if (HasMamba2(config_)) {
    EXPECT_NE(CompareGradients(exact, dropped, bounds_), "") << "the state carried no gradient";
  }
  const ReferenceModel reference(config_, model_);
  ExpectDerivatives(dropped, Freeze(reference, spec_, kPiece));
}

void Gradients::ExpectReference() {
  const ReferenceModel reference(config_, model_);
  const FrozenStep frozen = Freeze(reference, spec_);
  const StepOutcome result = RunStep(model_, spec_, WholeStep(spec_));
  size_t flat = 0;
  for (const auto& row : frozen.documents) {
    for (const auto& pieces : row) {
      const FrozenPiece& whole = pieces.at(0);
      for (size_t i = 0; i < static_cast<size_t>(whole.length); ++i, ++flat) {
        for (size_t g = 0; g < result.sals.size(); ++g) {
          ASSERT_EQ(int{result.sals[g].selected[flat]}, whole.gates[g].hard[i]) << "SAL " << g << " token " << flat;
        }
      }
    }
  }
  const double loss = ReferenceLoss(reference, spec_, frozen);
  EXPECT_NEAR(result.total, loss, 1e-5 * loss);
  ExpectDerivatives(result, frozen);
}

TEST_P(Gradients, DerivativesOfTheReference) {
  Draw(2, 3, 20);
  ExpectReference();
}

// The other straight-through mode than the one drawn.
TEST_P(Gradients, DerivativesOfTheReferenceInTheOtherMode) {
  if (config_.num_sals() == 0) GTEST_SKIP() << "no gate";
  Draw(2, 3, 20);
  spec_.gate.attend_all = !spec_.gate.attend_all;
  bounds_ = GradientBounds(config_, kWeights, spec_);
  ASSERT_FALSE(bounds_.empty()) << "the mode changes no selection";
  ExpectReference();
}

INSTANTIATE_TEST_SUITE_P(Patterns, Gradients, testing::ValuesIn(Cases()),
                         [](const auto& c) { return fmt::format("{}_{}", c.param.pattern.name, c.param.seed); });

}  // namespace
}  // namespace taipan::test
