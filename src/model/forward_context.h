#pragma once
// What a forward leaves for logits, scores and backward. Private to the model's own files.

#include "model/model.h"

namespace taipan {

struct ForwardContext::Impl {
  Arena results, scratch;
  MatrixView h;  // [T, d] residual stream; after forward: of the last block
  bool kept = false;
  std::vector<std::unique_ptr<BlockSaved>> saved;  // a block each
  std::vector<GateReport> gates;                   // a SAL each
  std::vector<LayerSegment> segments;              // of the layer at work
  std::vector<int64_t> positions;                  // of the batch's segments
};

}  // namespace taipan
