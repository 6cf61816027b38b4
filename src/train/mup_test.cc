// Coordinate checks of muP: over a few steps of training, elements of hidden rows and logits move as much in a wide
// model as in a narrow one (docs/math/mup.md).

#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>

#include "train/schedule.h"
#include "train/test_model.h"

namespace taipan {
namespace {

constexpr int64_t kBase = 64;

struct Pattern {
  const char* name;
  LayerKind first, second;
};
constexpr Pattern kPatterns[] = {{"taipan", LayerKind::kMamba2, LayerKind::kSelectiveAttention},
                                 {"mamba2", LayerKind::kMamba2, LayerKind::kMamba2},
                                 {"transformer", LayerKind::kAttention, LayerKind::kAttention},
                                 {"jamba", LayerKind::kMamba2, LayerKind::kAttention},
                                 {"samba", LayerKind::kMamba2, LayerKind::kSlidingAttention}};

// Heads keep their size, there are more of them.
ModelConfig ConfigOf(const Pattern& pattern, int64_t width) {
  ModelConfig c = TestConfig();
  c.hidden_size = width;
  c.intermediate_size = 2 * width;
  c.num_attention_heads = c.num_key_value_heads = width / c.attention_head_dim;
  c.layer_pattern = {pattern.first, pattern.second};
  c.initializer_range = 1 / std::sqrt(static_cast<double>(kBase));
  c.selection = Selection::kAll;
  return c;
}

struct Coordinates {
  std::vector<float> hidden, logits;
};
Coordinates CoordinatesOf(const LanguageModel& model, const Batch& batch) {
  Coordinates c;
  ForwardContext context;
  GateOptions all;
  all.rule = SelectionRule::kRandom;
  all.share = 1;
  model.Forward(batch, all, /*keep=*/false, context,
                [&](int64_t, ConstMatrixView h) { c.hidden.assign(h.F32(), h.F32() + h.rows * h.cols); });
  std::vector<int64_t> rows(batch.tokens.size());
  for (size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<int64_t>(i);
  const int64_t vocab = model.config().vocab_size;
  c.logits.resize(rows.size() * static_cast<size_t>(vocab));
  model.Logits(context, rows, MatrixView(c.logits.data(), static_cast<int64_t>(rows.size()), vocab));
  return c;
}

double RmsChange(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2);
  return std::sqrt(sum / static_cast<double>(a.size()));
}

struct Moved {
  double hidden = 0, logits = 0;  // root mean square of the change
};
Moved AfterSteps(const Pattern& pattern, int64_t width, OptimizerKind optimizer, bool mup) {
  TrainSettings settings = TestSettings();
  settings.optimizer = optimizer;
  settings.learning_rate = 4e-3;
  settings.schedule = Schedule::kWsd;
  settings.warmup_steps = settings.decay_steps.emplace(0);
  settings.selection = "all";
  settings.budget_loss_weight = 0;
  settings.weight_decay = 0;
  settings.mup_base_width = mup ? kBase : 0;
  ModelConfig config = ConfigOf(pattern, width);
  config.logits_scaling = WidthRatio(settings, config);
  LanguageModel model = TestModel(config);
  ScaleNewWeights(model.params(), WidthRatio(settings, config));
  Batch batch;
  AppendWindow(batch, TestTokens(25).data(), 24, 0);
  const Coordinates before = CoordinatesOf(model, batch);
  const Corpus corpus(TestTokens(2000), 97, "test tokens");
  const WindowLoader loader(corpus, settings.context, settings.batch_size, WindowOrder::kShuffled, 3);
  ModelTrainer trainer(std::move(model), settings, MakeCorpusSource(loader, settings));
  for (int i = 0; i < 3; ++i) trainer.Step();
  const Coordinates after = CoordinatesOf(trainer.model(), batch);
  return {RmsChange(after.hidden, before.hidden), RmsChange(after.logits, before.logits)};
}

TEST(Mup, CoordinatesMoveAsMuchInAWiderModel) {
  for (const Pattern& pattern : kPatterns) {
    for (const OptimizerKind optimizer : {OptimizerKind::kAdamW, OptimizerKind::kMuon}) {
      if (optimizer == OptimizerKind::kMuon && &pattern != &kPatterns[0]) continue;  // time: see the table
      const Moved narrow = AfterSteps(pattern, kBase, optimizer, true),
                  wide = AfterSteps(pattern, 256, optimizer, true);
      const std::string name = std::string(pattern.name) + " " + NameIn(optimizer);
      EXPECT_GT(wide.hidden / narrow.hidden, 0.6) << name;
      EXPECT_LT(wide.hidden / narrow.hidden, 1.25) << name;
      // The part of the logits' change that is a sum of independent terms falls with 1/sqrt of the width.
      EXPECT_GT(wide.logits / narrow.logits, 0.3) << name;
      EXPECT_LT(wide.logits / narrow.logits, 1.5) << name;
    }
  }
}

TEST(Mup, WithoutItTheyMoveMore) {
  for (const OptimizerKind optimizer : {OptimizerKind::kAdamW, OptimizerKind::kMuon}) {
    const Moved narrow = AfterSteps(kPatterns[1], kBase, optimizer, false),
                wide = AfterSteps(kPatterns[1], 256, optimizer, false);
    EXPECT_GT(wide.logits / narrow.logits, 1.8) << NameIn(optimizer);
  }
}

// The table of docs/math/mup.md: --gtest_also_run_disabled_tests --gtest_filter='*TableOfWidths'.
TEST(Mup, DISABLED_TableOfWidths) {
  for (const OptimizerKind optimizer : {OptimizerKind::kAdamW, OptimizerKind::kMuon}) {
    for (const bool mup : {false, true}) {
      for (const Pattern& pattern : kPatterns) {
        std::printf("| %s | %s | %s |", NameIn(optimizer).c_str(), mup ? "yes" : "no", pattern.name);
        for (const int64_t width : {128, 256, 512, 1024}) {
          const Moved moved = AfterSteps(pattern, width, optimizer, mup);
          std::printf(" %.3f, %.3f |", moved.hidden, moved.logits);
        }
        std::printf("\n");
      }
    }
  }
}

}  // namespace
}  // namespace taipan
