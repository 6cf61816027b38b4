#include "train/step.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/op_timer.h"
#include "model/selection.h"
#include "train/non_finite.h"
#include "train/segmented.h"

namespace taipan {
namespace {

bool IsByThreshold(const ModelConfig& config) {
  return config.num_sals() > 0 && config.selection == Selection::kThreshold;
}

// Adds up over the ranks what their rows came to.
void SumOverRanks(Group& group, double& negative_log_p, BudgetSums& sums, SelectionCounts& selection) {
  if (group.alone()) return;
  std::vector<double> all = {negative_log_p, static_cast<double>(selection.tokens)};
  all.insert(all.end(), selection.selected.begin(), selection.selected.end());
  for (const std::vector<double>& rows : sums.m) all.insert(all.end(), rows.begin(), rows.end());
  group.Sum(std::span<double>(all));
  auto next = all.begin();
  negative_log_p = *next++;
  selection.tokens = static_cast<int64_t>(*next++);
  for (double& selected : selection.selected) selected = *next++;
  for (std::vector<double>& rows : sums.m) {
    for (double& m : rows) m = *next++;
  }
}

}  // namespace

TrainingStep::TrainingStep(LanguageModel& model, const std::string& only, OptimizerKind optimizer, Group& group)
    : group_(group),
      trained_(only, ParameterGroups(model.config())),
      gradients_(model.NewGradients()),
      optimizer_(model.params(), optimizer, group) {}

void TrainingStep::ReportNonFinite(const StepResult& r, const StepOptions& options, LanguageModel& model,
                                   std::span<const Batch> batches) {
  std::string gradient;
  size_t i = 0;
  gradients_.ForEach([&](Weight& g) {
    if (!std::isfinite(squares_[i++]) && gradient.empty()) gradient = g.spec.name;
  });
  throw Diverged({fmt::format("step {}", options.adamw.step),
                  fmt::format("training diverged: loss {}, gradient norm {}", r.loss, r.grad_norm), "finite numbers",
                  FindNonFinite(model, gradient, batches, options.gate, context_), options.hint});
}

StepResult TrainingStep::Run(LanguageModel& model, std::span<const Batch> batches, const StepOptions& options) {
  StepResult r = Gradients(model, batches, options);
  if (options.take && !options.take(r)) return r;
  r.taken = true;
  if (!std::isfinite(r.loss) || !std::isfinite(r.grad_norm)) {
    ReportNonFinite(r, options, model, batches);
  }
  AdamWSettings adamw = options.adamw;
  if (options.clip_norm > 0 && r.grad_norm > options.clip_norm) {
    adamw.gradient_scale = static_cast<float>(options.clip_norm / r.grad_norm);
  }
  const OpTimer timer("optimizer");
  optimizer_.Step(model.params(), gradients_, adamw, trained_, options.width);
  gradients_are_zero_ = true;
  if (IsByThreshold(model.config())) MoveBiases(model, options);
  if (!group_.alone()) model.RefreshCopies();
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

// Of the step, which this rank's batches are a part of.
StepTotals TrainingStep::Totals(std::span<const Batch> batches, int64_t rows) {
  StepTotals totals = TotalsOf(batches);
  if (group_.alone()) return totals;
  totals.row_lengths.resize(static_cast<size_t>(rows), 0);
  std::vector<double> all(totals.row_lengths.begin(), totals.row_lengths.end());
  all.push_back(totals.targets);
  group_.Sum(std::span<double>(all));
  totals.targets = all.back();
  std::transform(all.begin(), all.end() - 1, totals.row_lengths.begin(),
                 [](double length) { return static_cast<int64_t>(length); });
  return totals;
}

void TrainingStep::SumGradients(StepResult& r) {
  gradients_.ForEach([&](Weight& g) {
    if (!trained_.Has(g.spec.group)) std::fill_n(g.F32(), g.f32.size(), 0.0f);
  });
  {
    const OpTimer timer("ranks");
    optimizer_.shards().SumGradients(gradients_, trained_);
  }
  const OpTimer timer("gradient norm");
  squares_ = optimizer_.shards().SquaredNorms(gradients_);
  r.grad_norm = std::sqrt(std::accumulate(squares_.begin(), squares_.end(), 0.0));
}

StepResult TrainingStep::Gradients(const LanguageModel& model, std::span<const Batch> batches,
                                   const StepOptions& options) {
  const StepTotals totals = Totals(batches, options.rows);
  if (totals.targets <= 0) {
    throw Diverged({fmt::format("step {}", options.adamw.step), "none of its tokens has a label", "at least one",
                    fmt::format("{} rows without", totals.row_lengths.size())});
  }
  if (!gradients_are_zero_) gradients_.Zero();
  gradients_are_zero_ = false;
  threshold_ = {};
  StepResult r;
  BudgetSums sums;
  SelectionCounts selection;
  double negative_log_p = 0;  // weighted sum over the step's targets
  for (const Batch& batch : batches) {
    SegmentedPass pass(batch, options.segment);
    pass.Forward(model, options.gate, context_, [&](int64_t tokens) {
      AddBudgetSums(context_, static_cast<int64_t>(totals.row_lengths.size()), sums);
      selection.Add(context_, tokens);
      if (IsByThreshold(model.config())) threshold_.Collect(context_, tokens);
    });
    // A row lies in one micro-batch, so its sums are complete before the backward that needs them.
    negative_log_p += pass.Backward(model, options.gate, context_, totals, sums, options.loss, gradients_);
  }
  SumOverRanks(group_, negative_log_p, sums, selection);
  if (IsByThreshold(model.config())) threshold_.Gather(group_);
  r.ce = negative_log_p / totals.targets;
  r.budget_loss = sums.m.empty() ? 0.0 : BudgetLoss(sums, totals, options.loss.budget);
  r.loss = r.ce + options.loss.budget_weight * r.budget_loss;
  r.selected_share = selection.Shares();
  r.tokens = selection.tokens;
  SumGradients(r);
  return r;
}

}  // namespace taipan
