#include "train/step.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/op_timer.h"
#include "model/selection.h"
#include "train/non_finite.h"
#include "train/segmented.h"
#include "train/sequence_ranks.h"

namespace taipan {
namespace {

bool IsByThreshold(const ModelConfig& config) {
  return config.num_sals() > 0 && config.selection == Selection::kThreshold;
}

}  // namespace

// What the rows of a step come to. Sized beforehand: a rank that holds parts of rows may have no tokens.
struct TrainingStep::Sums {
  Sums(int64_t sals, size_t rows) {
    selection.selected.assign(static_cast<size_t>(sals), 0.0);
    budget.m.assign(static_cast<size_t>(sals), std::vector<double>(rows, 0.0));
  }
  double negative_log_p = 0;  // weighted sum over the step's targets
  SelectionCounts selection;
  BudgetSums budget;

  void AddUpBudget(Group& group) {
    if (group.alone()) return;
    std::vector<double> all;
    for (const std::vector<double>& rows : budget.m) all.insert(all.end(), rows.begin(), rows.end());
    group.Sum(std::span<double>(all));
    auto next = all.begin();
    for (std::vector<double>& rows : budget.m) {
      for (double& m : rows) m = *next++;
    }
  }
  void AddUp(Group& group) {
    if (group.alone()) return;
    std::vector<double> all = {negative_log_p, static_cast<double>(selection.tokens)};
    all.insert(all.end(), selection.selected.begin(), selection.selected.end());
    group.Sum(std::span<double>(all));
    negative_log_p = all[0];
    selection.tokens = static_cast<int64_t>(all[1]);
    std::copy(all.begin() + 2, all.end(), selection.selected.begin());
  }
};

TrainingStep::TrainingStep(LanguageModel& model, const std::string& only, OptimizerKind optimizer, Group& group,
                           MomentType moments)
    : group_(group),
      trained_(only, ParameterGroups(model.config())),
      optimizer_(model.params(), optimizer, group, moments),
      gradients_(model, optimizer_.shards(), trained_) {}

void TrainingStep::ReportNonFinite(const StepResult& r, const StepOptions& options, LanguageModel& model,
                                   std::span<const Batch> batches) {
  std::string gradient;
  size_t i = 0;
  gradients_.declared().ForEach([&](const Weight& g) {
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
  optimizer_.Step(model.params(), gradients_.own(), adamw, trained_, options.width, options.seed, options.momentum);
  gradients_.Used();
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

// Of the step, which this rank's batches are a part of; ranks that hold the same rows count them once.
StepTotals TrainingStep::Totals(std::span<const Batch> batches, const StepOptions& options) {
  const bool counts = group_.rank() % options.sequence_ranks == 0;
  StepTotals totals = TotalsOf(counts ? batches : std::span<const Batch>());
  if (group_.alone()) return totals;
  totals.row_lengths.resize(static_cast<size_t>(options.rows), 0);
  std::vector<double> all(totals.row_lengths.begin(), totals.row_lengths.end());
  all.push_back(totals.targets);
  group_.Sum(std::span<double>(all));
  totals.targets = all.back();
  std::transform(all.begin(), all.end() - 1, totals.row_lengths.begin(),
                 [](double length) { return static_cast<int64_t>(length); });
  return totals;
}

// After the forward of `tokens` tokens.
void TrainingStep::Collect(const LanguageModel& model, int64_t tokens, const StepTotals& totals, Sums& sums) {
  AddBudgetSums(context_, static_cast<int64_t>(totals.row_lengths.size()), sums.budget);
  sums.selection.Add(context_, tokens);
  if (IsByThreshold(model.config())) threshold_.Collect(context_, tokens);
}

void TrainingStep::RunRows(const LanguageModel& model, std::span<const Batch> batches, const StepOptions& options,
                           const StepTotals& totals, Sums& sums) {
  const bool once = batches.size() == 1 && SegmentedPass(batches[0], options.segment).count() == 1;
  ModelParams& gradients = gradients_.Begin(once);
  for (const Batch& batch : batches) {
    SegmentedPass pass(batch, options.segment);
    pass.Forward(model, options.gate, context_, [&](int64_t tokens) { Collect(model, tokens, totals, sums); });
    // A row lies in one micro-batch, so its sums are complete before the backward that needs them.
    sums.negative_log_p += pass.Backward(model, options.gate, context_, totals, sums.budget, options.loss, gradients,
                                         &batch == &batches.back() ? gradients_.Done() : nullptr);
  }
  gradients_.Finish();
  sums.AddUpBudget(group_);
}

// Of rows that lie on several ranks. All forwards come first, since a row's budget is known when all its parts are.
// What is summed travels at the end: during the backward ranks wait for each other's states, and not for sums.
void TrainingStep::RunParts(const LanguageModel& model, std::span<const Batch> batches, const StepOptions& options,
                            const StepTotals& totals, Sums& sums) {
  SequenceRanks ranks(group_, model, options.sequence_ranks);
  std::deque<SegmentedPass> passes;
  for (const Batch& batch : batches) passes.emplace_back(batch, options.segment, ranks.part());
  ModelParams& gradients = gradients_.Begin(/*once=*/false);
  ranks.Forward(passes, [&](SegmentedPass& pass) {
    pass.Forward(
        model, options.gate, context_, [&](int64_t tokens) { Collect(model, tokens, totals, sums); },
        /*keep=*/&pass == &passes.back());
  });
  sums.AddUpBudget(group_);
  ranks.Backward(passes, [&](SegmentedPass& pass, RowGradients& ends) {
    sums.negative_log_p +=
        pass.Backward(model, options.gate, context_, totals, sums.budget, options.loss, gradients, nullptr, &ends);
  });
  gradients_.SumAll();
  gradients_.Finish();
}

StepResult TrainingStep::Gradients(const LanguageModel& model, std::span<const Batch> batches,
                                   const StepOptions& options) {
  const StepTotals totals = Totals(batches, options);
  if (totals.targets <= 0) {
    throw Diverged({fmt::format("step {}", options.adamw.step), "none of its tokens has a label", "at least one",
                    fmt::format("{} rows without", totals.row_lengths.size())});
  }
  threshold_ = {};
  const int64_t sals = model.config().num_sals();
  Sums sums(sals, totals.row_lengths.size());
  if (options.sequence_ranks > 1) {
    RunParts(model, batches, options, totals, sums);
  } else {
    RunRows(model, batches, options, totals, sums);
  }
  sums.AddUp(group_);
  if (IsByThreshold(model.config())) threshold_.Gather(group_, sals);
  StepResult r;
  r.ce = sums.negative_log_p / totals.targets;
  r.budget_loss = sals == 0 ? 0.0 : BudgetLoss(sums.budget, totals, options.loss.budget);
  r.loss = r.ce + options.loss.budget_weight * r.budget_loss;
  r.selected_share = sums.selection.Shares();
  r.tokens = sums.selection.tokens;
  squares_ = gradients_.SquaredNorms();
  r.grad_norm = std::sqrt(std::accumulate(squares_.begin(), squares_.end(), 0.0));
  return r;
}

}  // namespace taipan
