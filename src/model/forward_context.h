#pragma once
// What a forward leaves for logits, scores and backward. Private to the model's own files.

#include "model/model.h"

namespace taipan {

struct ForwardContext::Impl {
  Arena results, scratch;
  Arena again;  // what a block computed again leaves for its backward
  Recompute recompute = Recompute::kNone;
  std::vector<MatrixView> entries;  // kBlock: [T, d] the residual stream at the entry of each block
  MatrixView h;                     // [T, d] residual stream; after forward: of the last block
  bool kept = false;
  std::vector<std::unique_ptr<BlockSaved>> saved;  // a block each
  std::vector<GateReport> gates;                   // a SAL each
  std::vector<LayerSegment> segments;              // of the layer at work
  std::vector<int64_t> positions;                  // of the batch's segments
};

// The batch's segments with the states of one layer; positions: of the segments' first tokens.
std::vector<LayerSegment> LayerSegments(const Batch& batch, const std::vector<int64_t>& positions, size_t layer);

}  // namespace taipan
