#pragma once
// The losses of a training step, whose divisors are those of the whole step, however it is cut into batches.

#include <cstdint>
#include <span>
#include <vector>

namespace taipan {

struct Batch;
class ForwardContext;

// The divisors of the whole step, of which a batch may be a part.
struct StepTotals {
  double targets = 0;                // sum of the weights of all labelled tokens
  std::vector<int64_t> row_lengths;  // tokens of each row of the step
};
StepTotals TotalsOf(std::span<const Batch> batches);  // all of the step

struct LossOptions {
  double budget = 0.15;      // C
  double budget_weight = 0;  // lambda
};

// Per-row sums of m of every SAL over the batches of a step so far.
struct BudgetSums {
  std::vector<std::vector<double>> m;  // [SAL][row]
};
// Adds the sums of m of the context's last forward.
void AddBudgetSums(const ForwardContext& context, int64_t rows, BudgetSums& sums);
// sum over SALs of the mean over rows of (budget - mean of m over the row's tokens)^2, unweighted.
double BudgetLoss(const BudgetSums& sums, const StepTotals& totals, double budget);
// d (lambda * budget loss) / d m of one SAL, a row of the step each.
std::vector<float> BudgetGradient(const std::vector<double>& row_sums, const StepTotals& totals,
                                  const LossOptions& loss);

// The rows of a batch that carry a label, with targets and weights.
struct Labels {
  std::vector<int64_t> rows;
  std::vector<int32_t> targets;
  std::vector<float> weights;  // empty: all 1
};
Labels LabelsOf(const Batch& batch, int64_t vocab_size);  // UserError for a target outside the vocabulary

}  // namespace taipan
