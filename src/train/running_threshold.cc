#include "train/running_threshold.h"

#include "model/selection_quantiles.h"

namespace taipan {
namespace {

// Weight of the newest step. All margins drift together while the learning rate is high, as fast as their spread is
// wide: an average would lag behind. At the end it is a batch's texts that make its quantile stray.
double Rate(double pace) { return 0.1 + 0.4 * pace; }

}  // namespace

void RunningThreshold::Collect(const ForwardContext& context, int64_t tokens) {
  const std::vector<GateReport>& gates = context.gates();
  margins_.resize(gates.size());
  for (size_t s = 0; s < gates.size(); ++s) {
    margins_[s].insert(margins_[s].end(), gates[s].margin, gates[s].margin + tokens);
  }
}

void RunningThreshold::Gather(Group& group, int64_t sals) {
  if (group.alone()) return;
  margins_.resize(static_cast<size_t>(sals));  // a rank may have had no tokens
  for (std::vector<float>& margins : margins_) margins = GatherFloats(group, margins);
}

std::vector<double> RunningThreshold::Falls(const std::vector<double>& delta, double budget, double pace) {
  std::vector<double> falls;
  for (size_t s = 0; s < margins_.size(); ++s) {
    falls.push_back(Rate(pace) * (MarginQuantile(margins_[s], budget) - (delta.empty() ? 0 : delta[s])));
    margins_[s].clear();
  }
  return falls;
}

}  // namespace taipan
