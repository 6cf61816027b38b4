// Rows in segments have the losses and gradients of whole rows.

#include "train/segmented.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/test_folder.h"
#include "model/training_memory.h"
#include "train/fit.h"
#include "train/test_model.h"

namespace taipan {
namespace {

struct Outcome {
  double nll = 0;
  BudgetSums sums;
  std::vector<float> gradients;
  int64_t peak_bytes = 0;
};

// Three rows: one document; two documents that meet within a segment; one that is shorter than a segment.
Batch ThreeRows() {
  Batch batch;
  const std::vector<int32_t> tokens = TestTokens(200);
  int64_t at = 0;
  const auto add = [&](int64_t n, int64_t row, int64_t row_begin) {
    AppendWindow(batch, tokens.data() + at, n, row);
    batch.segments.back().row_begin = row_begin;
    at += n;
  };
  add(80, 0, 0);
  add(37, 1, 0);
  add(43, 1, 37);
  add(11, 2, 0);
  for (size_t i = 0; i < batch.tokens.size(); ++i) batch.weights.push_back(i % 3 == 0 ? 0.5f : 1.0f);
  return batch;
}

Outcome PassOver(const LanguageModel& model, const Batch& batch, int64_t length, Recompute recompute) {
  GateOptions gate;
  gate.noise = GateNoise::kCounter;
  gate.seed = 7;
  gate.step = 3;
  const StepTotals totals = TotalsOf({&batch, 1});
  ForwardContext context;
  context.SetRecompute(recompute);
  Outcome o;
  ModelParams gradients = model.NewGradients();
  SegmentedPass pass(batch, length);
  pass.Forward(model, gate, context,
               [&](int64_t) { AddBudgetSums(context, static_cast<int64_t>(totals.row_lengths.size()), o.sums); });
  o.nll = pass.Backward(model, gate, context, totals, o.sums, {.budget = 0.15, .budget_weight = 2}, gradients);
  gradients.ForEach([&](Weight& w) { o.gradients.insert(o.gradients.end(), w.F32(), w.F32() + w.f32.size()); });
  o.peak_bytes = context.peak_bytes();
  return o;
}

double RelativeDifference(const std::vector<float>& a, const std::vector<float>& b) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2);
    norm += std::pow(static_cast<double>(a[i]), 2);
  }
  return std::sqrt(difference / norm);
}

class Segmented : public testing::TestWithParam<LayerKind> {};

TEST_P(Segmented, HasTheGradientOfTheWhole) {
  ModelConfig config = TestConfig();
  config.layer_pattern = {LayerKind::kMamba2, GetParam(), LayerKind::kMamba2, GetParam()};
  const LanguageModel model = TestModel(config);
  const Batch batch = ThreeRows();
  const Outcome whole = PassOver(model, batch, 0, Recompute::kNone);
  // 16 is the grid of chunks and the window of attention, 40 is not on it, 7 has keys of three segments in a window.
  for (const int64_t length : {16, 40, 7, 64}) {
    for (const Recompute recompute : {Recompute::kNone, Recompute::kBlock}) {
      const Outcome cut = PassOver(model, batch, length, recompute);
      EXPECT_NEAR(cut.nll, whole.nll, 2e-6 * whole.nll) << length;
      EXPECT_EQ(cut.sums.m, whole.sums.m) << length;
      // Sums of 171 rows in another order, each rounded to 2^-24: 6e-8 * sqrt(171) is 8e-7.
      EXPECT_LT(RelativeDifference(whole.gradients, cut.gradients), 1e-5) << length;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Patterns, Segmented,
                         testing::Values(LayerKind::kMamba2, LayerKind::kSelectiveAttention,
                                         LayerKind::kSlidingAttention, LayerKind::kAttention));

// Activations of a segment and the states between: a row of sixteen segments takes little more than one of two.
TEST(SegmentedMemory, GrowsWithTheSegmentNotWithTheRow) {
  const LanguageModel model = TestModel();
  const std::vector<int32_t> tokens = TestTokens(2049);
  const auto peak = [&](int64_t n, int64_t length) {
    Batch batch;
    AppendWindow(batch, tokens.data(), n, 0);
    return PassOver(model, batch, length, Recompute::kNone).peak_bytes;
  };
  EXPECT_LT(peak(2048, 128), 1.1 * static_cast<double>(peak(256, 128)));
  EXPECT_GT(peak(2048, 0), 6 * peak(2048, 128));
}

TEST(SegmentedMemory, IsPlanned) {
  const ModelConfig config = TestConfig();
  TrainSettings s = TestSettings();
  s.context = 1 << 20;
  s.batch_size = 1;
  s = ResolveSettings(s, config, /*new_weights=*/true);
  const int64_t available = int64_t{256} << 20;
  EXPECT_NE(UserErrorOf([&] { CheckFits(config, s, available); }).find("--segment 8192"), std::string::npos);
  s.segment = 8192;
  CheckFits(config, s, available);
}

// A trainer's step in segments is a step.
TEST(SegmentedTraining, IsTheSameTraining) {
  ModelConfig config = TestConfig();
  config.selection = Selection::kThreshold;
  TrainSettings settings = TestSettings();
  settings.selection = "threshold";
  TestTraining whole(settings, config);
  settings.segment = 16;
  settings.micro_batch_size = 2;
  TestTraining cut(settings, config);
  for (int step = 0; step < 5; ++step) {
    const StepMetrics a = whole.trainer.Step(), b = cut.trainer.Step();
    EXPECT_NEAR(a.ce, b.ce, 1e-5 * a.ce) << step;
    EXPECT_NEAR(a.grad_norm, b.grad_norm, 1e-4 * a.grad_norm) << step;
    EXPECT_EQ(a.tokens, b.tokens);
  }
}

}  // namespace
}  // namespace taipan
