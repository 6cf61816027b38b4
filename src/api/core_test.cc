// The library's own classes and the public ones in one file: no name stands for two things, and both trainers make the
// same steps.
#include "api/core.h"

#include <gtest/gtest.h>

#include <type_traits>

#include "model/presets.h"
#include "train/trainer.h"

namespace taipan {
namespace {

static_assert(!std::is_same_v<Model, LanguageModel> && !std::is_same_v<Trainer, ModelTrainer>);

class FixedRows : public BatchSource {
 public:
  explicit FixedRows(std::vector<Tokens> rows) : rows_(std::move(rows)) {}
  int64_t batch_size() const override { return static_cast<int64_t>(rows_.size()); }
  void Fill(int64_t, int64_t first_row, int64_t rows, Batch& batch) const override {
    ClearBatch(batch);
    for (int64_t row = first_row; row < first_row + rows; ++row) {
      const Tokens& tokens = rows_[static_cast<size_t>(row)];
      AppendWindow(batch, tokens.data(), static_cast<int64_t>(tokens.size()) - 1, row);
    }
  }

 private:
  std::vector<Tokens> rows_;
};

TEST(Trainers, MakeTheSameSteps) {
  const ModelConfig config = FindPreset("taipan-1m").config;
  const Model shared = Model::FromPreset("taipan-1m", 1);
  const std::vector<Tokens> rows = {shared.Encode("one two three one two three"), shared.Encode("a b c d e f g h i")};
  Trainer public_trainer(shared);
  LanguageModel model(config);
  model.Initialise(1, /*gate_bias=*/3);
  TrainSettings settings;
  settings.batch_size = 2;
  settings.learning_rate = 2e-3;
  settings.min_learning_rate = 2e-3;
  settings.warmup_steps = 0;
  ModelTrainer trainer(std::move(model), settings, std::make_shared<FixedRows>(rows));
  for (int step = 1; step <= 3; ++step) {
    const TrainResult a =
        public_trainer.Step(rows, {.learning_rate = 2e-3, .budget_loss_weight = config.budget_loss_weight});
    const StepMetrics b = trainer.Step();
    EXPECT_EQ(a.step, b.step);
    EXPECT_EQ(a.loss, b.loss);
    EXPECT_EQ(a.gradient_norm, b.grad_norm);
    EXPECT_EQ(a.selected_share, b.selected_share);
  }
}

}  // namespace
}  // namespace taipan
