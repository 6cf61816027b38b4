#pragma once
// What holds the budget of `selection: threshold`. The threshold stands in the gate's bias: it moves with a running
// quantile of the margins s1 - s0, so that the budget's share of the tokens is above 0 (or above the config's
// selection_threshold), in training and in use alike; alpha, the sigmoid of the margin, is 1/2 at the threshold and has
// a gradient wherever a choice is close.

#include <vector>

#include "dist/group.h"
#include "model/model.h"

namespace taipan {

// Collects the margins of a step, micro-batch by micro-batch. The result depends on the step's margins alone, not on
// how they were cut into batches.
class RunningThreshold {
 public:
  void Collect(const ForwardContext& context, int64_t tokens);
  void Gather(Group& group, int64_t sals);  // the margins of all ranks' rows
  // By how much s1 of each SAL shall fall for `budget` of the tokens to be above delta (empty: 0). pace: the step's
  // learning rate as a share of its peak.
  std::vector<double> Falls(const std::vector<double>& delta, double budget, double pace);

 private:
  std::vector<std::vector<float>> margins_;  // [SAL]
};

}  // namespace taipan
