#pragma once
// One update of a model's weights, as `taipan train` and the library's Trainer make it: forward and backward of every
// micro-batch with the divisors of the whole step, clipping, AdamW or Muon, and the thresholds of selective layers. Of
// several ranks each computes its own rows; results and weights are the same on all.

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "model/model.h"
#include "train/optimizer.h"
#include "train/running_threshold.h"
#include "train/step_gradients.h"

namespace taipan {

struct StepResult {
  double loss = 0, ce = 0, budget_loss = 0;  // nats a token; before the update
  double grad_norm = 0;                      // before clipping
  std::vector<double> selected_share;        // of each SAL, with the noise of training
  int64_t tokens = 0;
  bool taken = false;  // the weights were updated
};

struct StepOptions {
  GateOptions gate;
  LossOptions loss;
  AdamWSettings adamw;  // step: the number of this update, from 1
  double momentum = MuonSettings().momentum;
  double clip_norm = 0;        // 0: no clipping
  int64_t segment = 0;         // tokens of a row in memory at a time, 0: all
  double width = 1;            // of the model, over the width that the learning rate is for
  double pace = 1;             // the learning rate as a share of its peak, for running thresholds
  uint64_t seed = 0;           // of the rounding of moments in bf16
  std::string hint;            // what to change where training diverges; may be empty
  int64_t rows = 0;            // of the step, over all ranks; 0: those of the batches
  int64_t sequence_ranks = 1;  // consecutive ranks that hold the same rows, a part of each
  // Asked before the update; false leaves the weights and the moments as they are. Null: always. The same on all ranks.
  std::function<bool(const StepResult&)> take = nullptr;
};

// A step that cannot be made: its loss or gradient is not finite, or nothing in it has a label. All ranks notice it in
// the same place.
class Diverged : public UserError {
 public:
  using UserError::UserError;
};

class TrainingStep {
 public:
  // Takes the memory of gradients and moments. only: the groups of weights that are trained, separated by commas;
  // empty: all. A group that the model has not is a UserError.
  explicit TrainingStep(LanguageModel& model, const std::string& only = "",
                        OptimizerKind optimizer = OptimizerKind::kAdamW, Group& group = Alone(),
                        MomentType moments = MomentType::kF32);

  // This rank's micro-batches of one step, with the whole of its rows; a row of the step lies in one of them. A loss or
  // gradient norm that is not finite throws Diverged, naming the step and what went wrong first (non_finite.h); the
  // weights are then as before the step.
  StepResult Run(LanguageModel& model, std::span<const Batch> batches, const StepOptions& options);

  Optimizer& optimizer() { return optimizer_; }
  ForwardContext& context() { return context_; }

 private:
  StepResult Gradients(const LanguageModel& model, std::span<const Batch> batches, const StepOptions& options);
  struct Sums;
  StepTotals Totals(std::span<const Batch> batches, const StepOptions& options);
  void Collect(const LanguageModel& model, int64_t tokens, const StepTotals& totals, Sums& sums);
  void RunRows(const LanguageModel& model, std::span<const Batch> batches, const StepOptions& options,
               const StepTotals& totals, Sums& sums);
  void RunParts(const LanguageModel& model, std::span<const Batch> batches, const StepOptions& options,
                const StepTotals& totals, Sums& sums);
  [[noreturn]] void ReportNonFinite(const StepResult& r, const StepOptions& options, LanguageModel& model,
                                    std::span<const Batch> batches);
  void MoveBiases(LanguageModel& model, const StepOptions& options);

  Group& group_;
  WeightGroups trained_;
  Optimizer optimizer_;
  StepGradients gradients_;
  std::vector<double> squares_;  // of each weight's gradient
  ForwardContext context_;
  RunningThreshold threshold_;
};

}  // namespace taipan
