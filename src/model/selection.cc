#include "model/selection.h"

#include <algorithm>

namespace taipan {

namespace {

SelectionRule RuleOf(Selection selection) {
  switch (selection) {
    case Selection::kRandom:
      return SelectionRule::kRandom;
    case Selection::kPeriodic:
    case Selection::kAll:
    case Selection::kNone:
      return SelectionRule::kPeriodic;
    default:
      return SelectionRule::kMargin;
  }
}

}  // namespace

GateOptions InferenceGate(const ModelConfig& config) {
  GateOptions gate;
  gate.rule = RuleOf(config.selection);
  gate.share = config.expected_share();
  gate.by_position = true;
  gate.tau = static_cast<float>(config.gumbel_temperature);
  gate.delta.assign(config.selection_threshold.begin(), config.selection_threshold.end());
  return gate;
}

GateOptions TrainingGate(const ModelConfig& config) {
  GateOptions gate = InferenceGate(config);
  gate.by_position = false;
  if (config.selection != Selection::kThreshold) gate.delta.clear();
  gate.attend_all = config.straight_through_all && gate.rule == SelectionRule::kMargin;
  return gate;
}

void SelectionCounts::Add(const ForwardContext& context, int64_t batch_tokens) {
  const std::vector<GateReport>& gates = context.gates();
  selected.resize(gates.size(), 0.0);
  for (size_t sal = 0; sal < gates.size(); ++sal) {
    for (const double sum : gates[sal].row_sums) selected[sal] += sum;
  }
  tokens += batch_tokens;
}

void SelectionCounts::Add(const SelectionCounts& other) {
  selected.resize(std::max(selected.size(), other.selected.size()), 0.0);
  for (size_t sal = 0; sal < other.selected.size(); ++sal) selected[sal] += other.selected[sal];
  tokens += other.tokens;
}

void SelectionCounts::AddRows(const ForwardContext& context, int64_t begin, int64_t count) {
  const std::vector<GateReport>& gates = context.gates();
  selected.resize(gates.size(), 0.0);
  for (size_t sal = 0; sal < gates.size(); ++sal) {
    for (int64_t row = begin; row < begin + count; ++row) selected[sal] += gates[sal].selected[row];
  }
  tokens += count;
}

std::vector<double> SelectionCounts::Shares() const {
  std::vector<double> shares(selected.size(), 0.0);
  for (size_t sal = 0; sal < selected.size() && tokens > 0; ++sal) {
    shares[sal] = selected[sal] / static_cast<double>(tokens);
  }
  return shares;
}

}  // namespace taipan
