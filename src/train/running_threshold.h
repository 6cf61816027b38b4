#pragma once
// The thresholds of `selection: threshold`: each SAL's is a running quantile of its margins s1 - s0 at 1 - budget, so
// that the budget's share of the tokens is above it, in training and in use alike.

#include <vector>

#include "model/model.h"

namespace taipan {

// Collects the margins of a step, micro-batch by micro-batch, and moves the thresholds at its end. The result depends
// on the step's margins alone, not on how they were cut into batches.
class RunningThreshold {
 public:
  void Collect(const ForwardContext& context, int64_t tokens);
  // The thresholds after the step, a SAL each; before: empty at the first step, which sets them. pace: the step's
  // learning rate as a share of its peak.
  std::vector<double> Update(const std::vector<double>& before, double budget, double pace);

 private:
  std::vector<std::vector<float>> margins_;  // [SAL]
};

}  // namespace taipan
