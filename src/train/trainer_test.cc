#include "train/trainer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <set>

#include "base/test_folder.h"
#include "train/schedule.h"
#include "train/test_model.h"

namespace taipan {
namespace {

TEST(Trainer, LearnsAndReports) {
  TrainSettings settings = TestSettings();
  settings.steps = 60;
  settings.budget_ramp = "0:0";
  TestTraining t(settings);
  StepMetrics first = t.trainer.Step(), last;
  EXPECT_EQ(first.step, 1);
  EXPECT_NEAR(first.ce, std::log(97.0), 0.2);  // small random weights predict nothing
  ASSERT_EQ(first.selected_share.size(), 1u);
  const double off = 0.15 - first.selected_share[0];
  EXPECT_GT(first.selected_share[0], 0.3);
  EXPECT_GT(first.budget_loss, 0.9 * off * off);  // the mean of squares over rows is at least the square of the mean
  EXPECT_DOUBLE_EQ(first.loss, first.ce + first.budget_loss);
  EXPECT_EQ(first.tokens, 4 * 24);
  for (int i = 0; i < 59; ++i) last = t.trainer.Step();
  EXPECT_EQ(last.tokens, 60 * 4 * 24);
  EXPECT_LT(last.ce, first.ce - 0.5);
  EXPECT_LT(last.selected_share[0], first.selected_share[0]);
  EXPECT_DOUBLE_EQ(last.lr, settings.learning_rate / 50);
}

// Margins of a model that hardly learns stand still, near the bias: their quantile comes to 0 slowly.
TEST(Trainer, BiasesFollowAsFastAsTheLearningRateAsks) {
  ModelConfig config = TestConfig();
  config.selection = Selection::kThreshold;
  TrainSettings settings = TestSettings();
  settings.selection = "threshold";
  settings.budget_ramp = "0:0";
  settings.steps = 100;
  settings.warmup_steps = 50;
  const auto bias_after_a_step = [&](double start) {
    LanguageModel model = TestModel(config);
    model.Initialise(/*seed=*/5, /*gate_bias=*/start);
    const Corpus corpus(TestTokens(2000, config.vocab_size), config.vocab_size, "test tokens");
    ModelTrainer trainer(std::move(model), settings,
                         std::make_shared<CorpusSource>(
                             WindowLoader(corpus, settings.context, settings.batch_size, WindowOrder::kShuffled, 3)));
    trainer.Step();  // at a fiftieth of the peak
    double s1_minus_s0 = 0;
    trainer.model().params().ForEach([&](Weight& w) {
      if (w.spec.init == Init::kGateBias) s1_minus_s0 = w.F32()[1] - w.F32()[0];
    });
    return s1_minus_s0;
  };
  EXPECT_NEAR(bias_after_a_step(100), 100 - (0.1 + 0.4 / 50) * 100, 0.5);
  EXPECT_NEAR(bias_after_a_step(-100), -100 + (0.1 + 0.4 / 50) * 100, 0.5);
}

TEST(Trainer, TrainsOneGroupOfWeightsAlone) {
  TrainSettings settings = TestSettings();
  settings.train_only = "gate";
  TestTraining t(settings);
  LanguageModel before = TestModel(t.trainer.model().config());
  for (int i = 0; i < 3; ++i) EXPECT_GT(t.trainer.Step().grad_norm, 0);
  std::vector<const Weight*> old;
  before.params().ForEach([&](Weight& w) { old.push_back(&w); });
  size_t i = 0, changed = 0;
  t.trainer.model().params().ForEach([&](Weight& w) {
    const bool same = std::equal(w.F32(), w.F32() + w.f32.size(), old[i++]->f32.F32());
    EXPECT_EQ(same, w.spec.group != "gate") << w.spec.name;
    changed += !same;
  });
  EXPECT_EQ(changed, 2u);
  settings.train_only = "gates";
  EXPECT_THAT(UserErrorOf([&] { TestTraining{settings}; }), testing::HasSubstr("--train-only"));
}

TEST(Trainer, PatternsWithoutGatesHaveNoShares) {
  ModelConfig config = TestConfig();
  config.layer_pattern = {LayerKind::kMamba2, LayerKind::kSlidingAttention};
  TestTraining t(TestSettings(), config);
  for (int i = 0; i < 5; ++i) {
    const StepMetrics m = t.trainer.Step();
    EXPECT_TRUE(m.selected_share.empty());
    EXPECT_EQ(m.budget_loss, 0);
    EXPECT_EQ(m.loss, m.ce);
  }
}

// The same tokens and weights at every step: only the noise can make a difference.
TEST(Trainer, NoiseIsNewAtEveryStepAndForEverySeed) {
  const Corpus corpus(TestTokens(25), 97, "one window");
  TrainSettings settings = TestSettings();
  settings.learning_rate = settings.weight_decay = 0;
  const auto losses = [&](const TrainSettings& s) {
    const WindowLoader loader(corpus, s.context, s.batch_size, WindowOrder::kSequential, 0);
    ModelTrainer trainer(TestModel(), s, std::make_shared<CorpusSource>(loader));
    std::set<double> different;
    for (int i = 0; i < 10; ++i) different.insert(trainer.Step().ce);
    return different;
  };
  const std::set<double> first = losses(settings);
  EXPECT_EQ(first.size(), 10u);
  EXPECT_EQ(losses(settings), first);
  settings.seed = 1;
  EXPECT_NE(losses(settings), first);
  settings.gumbel_noise = "off";
  EXPECT_EQ(losses(settings).size(), 1u);
}

// What a step does, written out again: norm over all gradients, one factor for all, decay only where declared.
TEST(Trainer, ClipsByTheNormOfAllGradients) {
  TrainSettings settings = TestSettings();
  settings.steps = 1;
  settings.warmup_steps = 1;
  settings.clip_norm = 1e-3;  // far below
  settings.weight_decay = 0.5;
  settings.eps = 1e3;  // makes the update nearly linear in the gradient: lr * g / eps
  TestTraining t(settings);
  const std::vector<float> before = Weights(t.trainer);
  std::vector<double> decay;
  t.trainer.model().params().ForEach([&](Weight& weight) {
    decay.insert(decay.end(), static_cast<size_t>(weight.f32.size()), weight.spec.decay ? 1 - 1e-2 * 0.5 : 1);
  });
  const StepMetrics m = t.trainer.Step();
  EXPECT_GT(m.grad_norm, 0.1);
  const std::vector<float> after = Weights(t.trainer);
  double largest = 0;
  for (size_t i = 0; i < before.size(); ++i) largest = std::max(largest, std::abs(after[i] - decay[i] * before[i]));
  // Updates are at most lr * clip / eps = 1e-8, below the rounding of weights up to 3 (dt_bias, A_log): 3 * 2^-23.
  EXPECT_LT(largest, 1e-8 + 3 * 1.2e-7);
}

TEST(Trainer, MicroBatchesAddUpToTheBatch) {
  TrainSettings settings = TestSettings();
  settings.batch_size = 5;
  settings.budget_ramp = "0:0";  // lambda from the first step: sums of a row must be right
  settings.learning_rate = 1e-4;
  TestTraining whole(settings);
  const StepMetrics b = whole.trainer.Step();
  for (int64_t micro : {1, 2, 3}) {
    settings.micro_batch_size = micro;
    TestTraining parts(settings);
    const StepMetrics a = parts.trainer.Step();
    // The same products, summed over rows in another grouping: a relative error of a few roundings of f32 (6e-8) times
    // the square root of the 120 terms of a sum; the norm adds up 10^4 such values.
    EXPECT_NEAR(a.loss, b.loss, 1e-5 * b.loss) << micro;
    EXPECT_NEAR(a.budget_loss, b.budget_loss, 1e-9) << micro;  // counts: exact but for the order of doubles
    EXPECT_NEAR(a.grad_norm, b.grad_norm, 1e-5 * b.grad_norm) << micro;
    EXPECT_EQ(a.selected_share, b.selected_share) << micro;
    EXPECT_EQ(a.tokens, b.tokens);
  }
}

TEST(Trainer, SaveAndLoadContinueBitForBit) {
  const TrainSettings settings = TestSettings();
  const TestFolder folder;
  TestTraining straight(settings);
  for (int i = 0; i < 5; ++i) straight.trainer.Step();
  straight.trainer.Save(folder.path());
  TestTraining resumed(settings);
  resumed.trainer.Load(folder.path());
  EXPECT_EQ(resumed.trainer.step(), 5);
  for (int i = 0; i < 5; ++i) {
    const StepMetrics a = straight.trainer.Step(), b = resumed.trainer.Step();
    EXPECT_EQ(a.step, b.step);
    EXPECT_EQ(a.loss, b.loss);
    EXPECT_EQ(a.grad_norm, b.grad_norm);
    EXPECT_EQ(a.lr, b.lr);
    EXPECT_EQ(a.tokens, b.tokens);
  }
  EXPECT_EQ(Weights(straight.trainer), Weights(resumed.trainer));
}

TEST(Trainer, RefusesTheStateOfAnotherModel) {
  const TestFolder folder;
  TestTraining t(TestSettings());
  t.trainer.Save(folder.path());
  ModelConfig config = TestConfig();
  config.layer_pattern.push_back(LayerKind::kMamba2);
  TestTraining other(TestSettings(), config);
  EXPECT_NE(UserErrorOf([&] { other.trainer.Load(folder.path()); }).find(folder.path()), std::string::npos);
  WriteFileAtomically(folder / "trainer.json", "{\"step\": -1}");
  EXPECT_NE(UserErrorOf([&] { t.trainer.Load(folder.path()); }).find("trainer.json"), std::string::npos);
}

// Names the weight where one is bad, and leaves the weights alone.
TEST(Trainer, StopsAtNonFiniteValuesAndNamesTheTensor) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();
  for (const char* name : {"model.layers.1.mixer.out_proj.weight", "model.layers.2.gate.bias", "model.norm.weight"}) {
    for (const float bad : {nan, infinity}) {
      // A gate with an infinite bias is closed for good and everything else stays finite.
      if (bad == infinity && std::string(name).ends_with("bias")) continue;
      TestTraining t(TestSettings());
      t.trainer.Step();
      bool found = false;
      t.trainer.model().params().ForEach([&](Weight& weight) {
        if (weight.spec.name != name) return;
        weight.F32()[0] = bad;
        found = true;
      });
      ASSERT_TRUE(found) << name;
      const std::vector<float> before = Weights(t.trainer);
      const std::string error = UserErrorOf([&] { t.trainer.Step(); });
      EXPECT_EQ(error.rfind("step 2: training diverged", 0), 0u) << error;
      EXPECT_NE(error.find(fmt::format("weight {} ", name)), std::string::npos) << error;
      EXPECT_EQ(t.trainer.step(), 1);
      const std::vector<float> after = Weights(t.trainer);
      EXPECT_EQ(std::memcmp(before.data(), after.data(), before.size() * 4), 0);
      const TestFolder folder;
      EXPECT_NE(UserErrorOf([&] { t.trainer.Save(folder.path()); }).find(name), std::string::npos);
      EXPECT_TRUE(ListDirectory(folder.path()).empty());
    }
  }
}

// Rows of different lengths, packed documents and tokens without a target, as an example may provide them.
class OddSource : public BatchSource {
 public:
  int64_t batch_size() const override { return 3; }
  void Fill(int64_t step, int64_t first_row, int64_t rows, Batch& batch) const override {
    ClearBatch(batch);
    const std::vector<int32_t> tokens = TestTokens(200);
    for (int64_t row = first_row; row < first_row + rows; ++row) {
      AppendWindow(batch, &tokens[static_cast<size_t>(10 * row)], 8 + 5 * row, row);
      AppendWindow(batch, &tokens[static_cast<size_t>(100 + step)], 4, row);  // a second document of the row
      batch.segments.back().row_begin = 8 + 5 * row;
      batch.targets.back() = -1;
    }
    batch.weights.assign(batch.tokens.size(), 0.5f);
  }
};

TEST(Trainer, TakesAnySourceOfRows) {
  TrainSettings settings = TestSettings();
  settings.batch_size = 3;
  settings.budget_ramp = "0:0";
  ModelTrainer whole(TestModel(), settings, std::make_shared<OddSource>());
  settings.micro_batch_size = 1;
  ModelTrainer parts(TestModel(), settings, std::make_shared<OddSource>());
  const StepMetrics a = whole.Step(), b = parts.Step();
  EXPECT_EQ(a.tokens, 8 + 13 + 18 + 3 * 4);
  EXPECT_NEAR(a.ce, std::log(97.0), 0.2);
  EXPECT_NEAR(a.loss, b.loss, 1e-5 * a.loss);  // as in MicroBatchesAddUpToTheBatch
  EXPECT_NEAR(a.grad_norm, b.grad_norm, 1e-5 * a.grad_norm);
}

TEST(TotalsOf, CountsLabelsAndRowLengthsOfEveryBatch) {
  std::vector<Batch> batches(2);
  OddSource().Fill(0, 0, 2, batches[0]);
  OddSource().Fill(0, 2, 1, batches[1]);
  const StepTotals totals = TotalsOf(batches);
  EXPECT_EQ(totals.row_lengths, (std::vector<int64_t>{12, 17, 22}));
  EXPECT_EQ(totals.targets, 0.5 * (12 + 17 + 22 - 3));
}

TEST(Optimizer, MomentsSurviveTheFile) {
  const TestFolder folder;
  TestTraining t(TestSettings());
  Optimizer a(t.trainer.model().params());
  ModelParams gradients = t.trainer.model().NewGradients();
  gradients.ForEach([](Weight& weight) { std::fill(weight.F32(), weight.F32() + weight.f32.size(), 0.25f); });
  double squares = 0;
  gradients.ForEach([&](Weight& weight) { squares += 0.0625 * static_cast<double>(weight.f32.size()); });
  EXPECT_DOUBLE_EQ(GradientNorm(gradients), std::sqrt(squares));  // exact: powers of two
  const AdamWSettings settings{.lr = 0.1, .step = 1};
  a.Step(t.trainer.model().params(), Elements(gradients), settings);
  EXPECT_EQ(GradientNorm(gradients), 0);
  a.Save(folder / "o.safetensors");
  Optimizer b(t.trainer.model().params());
  b.Load(folder / "o.safetensors");
  b.Save(folder / "p.safetensors");
  EXPECT_EQ(ReadFile(folder / "o.safetensors"), ReadFile(folder / "p.safetensors"));
}

}  // namespace
}  // namespace taipan
