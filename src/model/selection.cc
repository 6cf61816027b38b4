#include "model/selection.h"

namespace taipan {

GateOptions InferenceGate(const ModelConfig& config) {
  GateOptions gate;
  gate.tau = static_cast<float>(config.gumbel_temperature);
  gate.delta.assign(config.selection_threshold.begin(), config.selection_threshold.end());
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

std::vector<double> SelectionCounts::Shares() const {
  std::vector<double> shares(selected.size(), 0.0);
  for (size_t sal = 0; sal < selected.size() && tokens > 0; ++sal) {
    shares[sal] = selected[sal] / static_cast<double>(tokens);
  }
  return shares;
}

}  // namespace taipan
