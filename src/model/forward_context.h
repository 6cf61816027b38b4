#pragma once
// What a forward leaves for logits, scores and backward. Private to the model's own files.

#include "model/model.h"

namespace taipan {

struct ForwardContext::Impl {
  Batch batch;
  Arena results, scratch;
  Arena again;  // what a layer computed again leaves for its backward
  Recompute recompute = Recompute::kNone;
  std::vector<MatrixView> entries;  // kBlock: [T, d] the residual stream at the entry of each layer
  MatrixView h;                     // [T, d] residual stream; after forward: of the last layer
  bool kept = false;
  std::vector<std::vector<std::unique_ptr<BranchSaved>>> saved;  // a branch each
  std::vector<GateControls> controls;                            // a SAL each
  std::vector<GateReport> gates;                                 // a SAL each
  std::vector<GateGradientReport> gate_gradients;                // a SAL each
  std::vector<TimeStepReport> time_steps;                        // a layer each
  bool watches_time_steps = false;
  bool reporting = true;               // off while a layer is computed again
  std::vector<LayerSegment> segments;  // of the layer at work
  std::vector<int64_t> positions;      // of the batch's segments
};

}  // namespace taipan
