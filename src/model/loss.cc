#include "model/loss.h"

#include "model/model.h"

namespace taipan {

Labels LabelsOf(const Batch& batch, int64_t vocab_size) {
  Labels l;
  if (!batch.targets.empty()) CHECK_EQ(batch.targets.size(), batch.tokens.size());
  if (!batch.weights.empty()) CHECK_EQ(batch.weights.size(), batch.tokens.size());
  for (size_t i = 0; i < batch.targets.size(); ++i) {
    if (batch.targets[i] < 0) continue;
    if (batch.targets[i] >= vocab_size) {
      throw UserError({fmt::format("target {}", i), "id out of range", fmt::format("-1 to {}", vocab_size - 1),
                       fmt::format("{}", batch.targets[i])});
    }
    l.rows.push_back(static_cast<int64_t>(i));
    l.targets.push_back(batch.targets[i]);
    if (!batch.weights.empty()) l.weights.push_back(batch.weights[i]);
  }
  return l;
}

std::vector<float> BudgetGradient(const std::vector<double>& row_sums, const StepTotals& totals,
                                  const LossOptions& loss) {
  const size_t rows = totals.row_lengths.size();
  std::vector<float> dm(rows, 0.0f);
  if (loss.budget_weight == 0) return dm;
  CHECK_EQ(row_sums.size(), rows);
  for (size_t r = 0; r < rows; ++r) {
    const double length = static_cast<double>(totals.row_lengths[r]);
    if (length == 0) continue;
    dm[r] = static_cast<float>(loss.budget_weight * 2 * (row_sums[r] / length - loss.budget) /
                               (length * static_cast<double>(rows)));
  }
  return dm;
}

StepTotals TotalsOf(std::span<const Batch> batches) {
  StepTotals totals;
  for (const Batch& batch : batches) {
    for (size_t i = 0; i < batch.targets.size(); ++i) {
      if (batch.targets[i] >= 0) totals.targets += batch.weights.empty() ? 1.0 : double{batch.weights[i]};
    }
    for (const Segment& s : batch.segments) {
      const size_t rows = static_cast<size_t>(s.row) + 1;
      if (totals.row_lengths.size() < rows) totals.row_lengths.resize(rows, 0);
      totals.row_lengths[rows - 1] += s.length;
    }
  }
  return totals;
}

double BudgetLoss(const BudgetSums& sums, const StepTotals& totals, double budget) {
  double loss = 0;
  const size_t rows = totals.row_lengths.size();
  for (const std::vector<double>& m : sums.m) {
    double over_rows = 0;
    for (size_t r = 0; r < rows; ++r) {
      if (totals.row_lengths[r] == 0) continue;
      const double gap = budget - (r < m.size() ? m[r] : 0.0) / static_cast<double>(totals.row_lengths[r]);
      over_rows += gap * gap;
    }
    if (rows > 0) loss += over_rows / static_cast<double>(rows);
  }
  return loss;
}

void AddBudgetSums(const ForwardContext& context, int64_t rows, BudgetSums& sums) {
  sums.m.resize(context.gates().size());
  for (size_t s = 0; s < sums.m.size(); ++s) {
    const std::vector<double>& from = context.gates()[s].row_sums;
    CHECK_LE(static_cast<int64_t>(from.size()), rows);
    sums.m[s].resize(static_cast<size_t>(rows), 0.0);
    for (size_t r = 0; r < from.size(); ++r) sums.m[s][r] += from[r];
  }
}

}  // namespace taipan
