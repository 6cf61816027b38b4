#include "train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace taipan {
namespace {

double Ramped(const TrainSettings& s, double start, double full, int64_t step) {
  const BudgetRamp ramp = ParseRamp(s.budget_ramp);
  if (step >= ramp.end) return full;
  if (step <= ramp.begin) return start;
  return start + (full - start) * static_cast<double>(step - ramp.begin) / static_cast<double>(ramp.end - ramp.begin);
}

}  // namespace

double LearningRate(const TrainSettings& s, int64_t step) {
  if (!s.lr_range.empty()) {
    const RatePair rates = ParseRates(s.lr_range);
    const double share = s.steps > 1 ? static_cast<double>(step - 1) / static_cast<double>(s.steps - 1) : 0;
    return rates.low * std::pow(rates.high / rates.low, share);
  }
  const double peak = s.learning_rate, low = s.min_learning_rate.value();
  const int64_t warmup = s.warmup_steps.value();
  if (step <= warmup) return peak * static_cast<double>(step) / static_cast<double>(warmup);
  if (s.steps <= warmup) return low;  // beyond the end of a run that only warmed up
  const bool cosine = s.schedule == Schedule::kCosine;
  const int64_t begin = cosine ? warmup : std::max(warmup, s.steps - DecaySteps(s));
  if (step <= begin) return peak;
  if (step >= s.steps && !cosine) return low;
  const double share = static_cast<double>(std::min(step, s.steps) - begin) / static_cast<double>(s.steps - begin);
  return low + (peak - low) * (cosine ? (1 + std::cos(std::numbers::pi * share)) / 2 : 1 - std::sqrt(share));
}

Stages ContextStages(const TrainSettings& s) {
  return ParseStages("--context-schedule", s.context_schedule, s.context);
}

Stages BatchStages(const TrainSettings& s) {
  return ParseStages("--batch-size-schedule", s.batch_size_schedule, s.batch_size);
}

double BudgetLossWeight(const TrainSettings& s, int64_t step) {
  return Ramped(s, s.budget_loss_weight_start.value(), s.budget_loss_weight.value(), step);
}

double Budget(const TrainSettings& s, int64_t step) {
  return s.selection == NameIn(Selection::kThreshold) ? Ramped(s, 1, s.budget.value(), step) : s.budget.value();
}

}  // namespace taipan
