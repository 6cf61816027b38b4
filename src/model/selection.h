#pragma once
// How a config's selective layers select, and a count of what they did.

#include <vector>

#include "model/model.h"

namespace taipan {

// In use: no noise; the thresholds of training or calibration; draws by the position in the sequence.
GateOptions InferenceGate(const ModelConfig& config);
// In training, before noise: another draw for every row and step; thresholds only where training sets them.
GateOptions TrainingGate(const ModelConfig& config);

// How many tokens each SAL selected so far.
struct SelectionCounts {
  std::vector<double> selected;  // [SAL]
  int64_t tokens = 0;

  void Add(const ForwardContext& context, int64_t batch_tokens);
  void Add(const SelectionCounts& other);
  void AddRows(const ForwardContext& context, int64_t begin, int64_t count);  // of the last forward
  std::vector<double> Shares() const;                                         // [SAL], 0 before any token
};

}  // namespace taipan
