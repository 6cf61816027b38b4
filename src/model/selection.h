#pragma once
// The gates at inference: no noise, calibrated thresholds, and a count of what they selected.

#include <vector>

#include "model/model.h"

namespace taipan {

// No Gumbel noise; the thresholds of the config where calibration wrote some.
GateOptions InferenceGate(const ModelConfig& config);

// How many tokens each SAL selected so far.
struct SelectionCounts {
  std::vector<double> selected;  // [SAL]
  int64_t tokens = 0;

  void Add(const ForwardContext& context, int64_t batch_tokens);
  std::vector<double> Shares() const;  // [SAL], 0 before any token
};

}  // namespace taipan
