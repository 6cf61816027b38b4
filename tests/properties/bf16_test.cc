// The same computation with bf16 activations and products: close to f32, equal however it is cut, and reproducible.

#include <gtest/gtest.h>

#include <cmath>

#include "base/parallel.h"
#include "support/random_model.h"

namespace taipan::test {
namespace {

// bf16 rounds by 2^-8 of a value at most, 2^-9.3 in the mean square. Between the stream and a block's output a value is
// rounded about ten times (norm, weights, projections, convolution, scan operands and result, gate), independently, and
// the branches of up to eleven blocks add: 2^-9.3 * sqrt(10 * 11) = 1.7 % of the logits. Blocks amplify what enters
// them, here by less than 3 over all. Gradients pass everything twice.
constexpr double kLogits = 0.05, kGradients = 0.15;

ModelConfig EvenConfig(const std::vector<LayerKind>& layers, uint64_t seed) {
  ModelConfig c = RandomConfig(layers, seed);
  for (uint64_t s = seed + 1000; c.state_size % 2 || c.head_dim % 2 || c.attention_head_dim % 2; ++s) {
    c = RandomConfig(layers, s);
  }
  return c;
}

// Which tokens attend is drawn, not decided by scores that rounding moves.
GateOptions Drawn() {
  GateOptions gate;
  gate.rule = SelectionRule::kRandom;
  gate.share = 0.5;
  return gate;
}

Batch MakeBatch(const ModelConfig& config, const std::vector<int64_t>& lengths) {
  Batch batch;
  for (const int64_t n : lengths) {
    const auto tokens = RandomTokens(config, n + 1, static_cast<uint64_t>(n));
    const int64_t row = static_cast<int64_t>(batch.segments.size());
    batch.segments.push_back({batch.size(), n, row, 0});
    batch.tokens.insert(batch.tokens.end(), tokens.begin(), tokens.end() - 1);
    batch.targets.insert(batch.targets.end(), tokens.begin() + 1, tokens.end());
  }
  return batch;
}

std::vector<float> LogitsOf(const LanguageModel& model, ForwardContext& context, int64_t rows) {
  std::vector<int64_t> all;
  for (int64_t r = 0; r < rows; ++r) all.push_back(r);
  Tensor logits({rows, model.config().vocab_size});
  model.Logits(context, all, logits.Matrix());
  return {logits.F32(), logits.F32() + logits.size()};
}

double RelativeError(const std::vector<float>& got, const std::vector<float>& expected) {
  double error = 0, size = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    error += (static_cast<double>(got[i]) - expected[i]) * (static_cast<double>(got[i]) - expected[i]);
    size += static_cast<double>(expected[i]) * expected[i];
  }
  return size == 0 ? std::sqrt(error) : std::sqrt(error / size);
}

struct Result {
  std::vector<float> logits;
  std::vector<std::vector<float>> gradients;  // a tensor each
};
Result Train(LanguageModel& model, const Batch& batch, DType dtype, Recompute recompute = Recompute::kNone) {
  model.SetDType(dtype);
  ForwardContext context;
  context.SetRecompute(recompute);
  const StepTotals totals = TotalsOf({&batch, 1});
  model.Forward(batch, Drawn(), /*keep=*/true, context);
  Result result{LogitsOf(model, context, batch.size()), {}};
  BudgetSums sums;
  AddBudgetSums(context, static_cast<int64_t>(totals.row_lengths.size()), sums);
  ModelParams gradients = model.NewGradients();
  model.Backward(context, totals, sums, {.budget = 0.15, .budget_weight = 0.1}, gradients);
  gradients.ForEach(
      [&](Weight& weight) { result.gradients.emplace_back(weight.F32(), weight.F32() + weight.f32.size()); });
  return result;
}

class BF16Model : public testing::TestWithParam<NamedPattern> {
 protected:
  BF16Model() : config_(EvenConfig(GetParam().layers, 3)), model_(RandomModel(config_, 7)) {
    batch_ = MakeBatch(config_, {70, 1, 33, 64});
  }
  ModelConfig config_;
  LanguageModel model_;
  Batch batch_;
};

TEST_P(BF16Model, LogitsAndGradientsAreCloseToThoseOfF32) {
  const Result f32 = Train(model_, batch_, DType::kF32), bf16 = Train(model_, batch_, DType::kBF16);
  EXPECT_LE(RelativeError(bf16.logits, f32.logits), kLogits);
  EXPECT_GE(RelativeError(bf16.logits, f32.logits), 1e-4);  // else nothing was computed in bf16
  double error = 0, size = 0;
  for (size_t i = 0; i < f32.gradients.size(); ++i) {
    for (size_t j = 0; j < f32.gradients[i].size(); ++j) {
      const double e = f32.gradients[i][j], d = bf16.gradients[i][j] - e;
      error += d * d;
      size += e * e;
    }
  }
  EXPECT_LE(std::sqrt(error / size), kGradients);
}

TEST_P(BF16Model, PiecesAndStepsAreCloseToTheWhole) {
  model_.SetDType(DType::kBF16);
  const Batch whole = MakeBatch(config_, {70});
  ForwardContext context;
  model_.Forward(whole, Drawn(), false, context);
  const std::vector<float> expected = LogitsOf(model_, context, 70);
  for (const std::vector<int64_t>& lengths :
       {std::vector<int64_t>{32, 38}, {7, 33, 1, 29}, std::vector<int64_t>(70, 1)}) {
    SequenceState state;
    std::vector<float> got;
    int64_t at = 0;
    for (const int64_t n : lengths) {
      Batch piece;
      piece.tokens.assign(whole.tokens.begin() + at, whole.tokens.begin() + at + n);
      piece.segments.push_back({0, n, 0, at, at > 0 ? &state : nullptr, &state});
      model_.Forward(piece, Drawn(), false, context);
      const std::vector<float> logits = LogitsOf(model_, context, n);
      got.insert(got.end(), logits.begin(), logits.end());
      at += n;
    }
    EXPECT_LE(RelativeError(got, expected), kLogits) << lengths.size() << " pieces";
  }
}

TEST_P(BF16Model, RecomputationAndThreadsChangeNoBit) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const int before = NumThreads();
    SetNumThreads(1);
    const Result plain = Train(model_, batch_, dtype);
    SetNumThreads(3);
    for (const Recompute recompute : {Recompute::kNone, Recompute::kMixer, Recompute::kBlock}) {
      EXPECT_EQ(Train(model_, batch_, dtype, recompute).gradients, plain.gradients)
          << NameOf(dtype) << ", recompute " << static_cast<int>(recompute);
    }
    SetNumThreads(before);
  }
}

INSTANTIATE_TEST_SUITE_P(Patterns, BF16Model, testing::ValuesIn(TestPatterns(2)),
                         [](const auto& tested) { return tested.param.name; });

}  // namespace
}  // namespace taipan::test
