#include "train/step.h"

#include <algorithm>
#include <cmath>

#include "base/op_timer.h"
#include "model/selection.h"

namespace taipan {
namespace {

[[noreturn]] void ReportNonFinite(const StepResult& r, const StepOptions& options, ModelParams& weights,
                                  ModelParams& gradients) {
  // A bad weight makes every gradient bad: it is the cause.
  std::string tensor = FirstNonFinite(weights);
  std::string culprit = "weight " + tensor;
  if (tensor.empty()) {
    tensor = FirstNonFinite(gradients);
    culprit = tensor.empty() ? "no weight and no gradient, the loss alone" : "gradient of " + tensor;
  }
  throw UserError({fmt::format("step {}", options.adamw.step),
                   fmt::format("training diverged: loss {}, gradient norm {}", r.loss, r.grad_norm), "finite numbers",
                   culprit + " (the first that is not finite)", options.hint});
}

bool IsByThreshold(const ModelConfig& config) {
  return config.num_sals() > 0 && config.selection == Selection::kThreshold;
}

}  // namespace

TrainingStep::TrainingStep(LanguageModel& model, const std::string& only, OptimizerKind optimizer)
    : trained_(only, ParameterGroups(model.config())),
      gradients_(model.NewGradients()),
      optimizer_(model.params(), optimizer) {}

StepResult TrainingStep::Run(LanguageModel& model, std::span<const Batch> batches, const StepOptions& options) {
  const StepResult r = Gradients(model, batches, options);
  if (!std::isfinite(r.loss) || !std::isfinite(r.grad_norm)) {
    ReportNonFinite(r, options, model.params(), gradients_);
  }
  AdamWSettings adamw = options.adamw;
  if (options.clip_norm > 0 && r.grad_norm > options.clip_norm) {
    adamw.gradient_scale = static_cast<float>(options.clip_norm / r.grad_norm);
  }
  const OpTimer timer("optimizer");
  optimizer_.Step(model.params(), gradients_, adamw, trained_, options.width);
  gradients_are_zero_ = true;
  if (IsByThreshold(model.config())) MoveBiases(model, options);
  return r;
}

void TrainingStep::MoveBiases(LanguageModel& model, const StepOptions& options) {
  const std::vector<double> falls =
      threshold_.Falls(model.config().selection_threshold, options.loss.budget, options.pace);
  size_t sal = 0;
  model.params().ForEach([&](Weight& w) {
    if (w.spec.init != Init::kGateBias) return;
    if (trained_.Has(w.spec.group)) w.F32()[1] -= static_cast<float>(falls[sal]);
    ++sal;
  });
}

StepResult TrainingStep::Gradients(const LanguageModel& model, std::span<const Batch> batches,
                                   const StepOptions& options) {
  const StepTotals totals = TotalsOf(batches);
  CHECK_GT(totals.targets, 0);
  if (!gradients_are_zero_) gradients_.Zero();
  gradients_are_zero_ = false;
  threshold_ = {};
  StepResult r;
  BudgetSums sums;
  SelectionCounts selection;
  double negative_log_p = 0;  // weighted sum over the step's targets
  for (const Batch& batch : batches) {
    model.Forward(batch, options.gate, /*keep=*/true, context_);
    // A row lies in one micro-batch, so its sums are complete before the backward that needs them.
    AddBudgetSums(context_, static_cast<int64_t>(totals.row_lengths.size()), sums);
    negative_log_p += model.Backward(context_, totals, sums, options.loss, gradients_);
    selection.Add(context_, batch.size());
    if (IsByThreshold(model.config())) threshold_.Collect(context_, batch.size());
  }
  r.ce = negative_log_p / totals.targets;
  r.budget_loss = sums.m.empty() ? 0.0 : BudgetLoss(sums, totals, options.loss.budget);
  r.loss = r.ce + options.loss.budget_weight * r.budget_loss;
  r.selected_share = selection.Shares();
  r.tokens = selection.tokens;
  const OpTimer timer("gradient norm");
  gradients_.ForEach([&](Weight& g) {
    if (!trained_.Has(g.spec.group)) std::fill_n(g.F32(), g.f32.size(), 0.0f);
  });
  r.grad_norm = GradientNorm(gradients_);
  return r;
}

}  // namespace taipan
