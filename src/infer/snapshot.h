#pragma once
// A sequence as it can be kept, forked and restored: what reading its tokens came to.

#include <vector>

#include "infer/token_digest.h"
#include "model/model.h"

namespace taipan {

struct SequenceSnapshot {
  SequenceState state;
  std::vector<int32_t> tokens = {};         // all that were read; empty: not kept
  uint64_t token_digest = kNoTokensDigest;  // of those that were read
  std::vector<float> logits = {};           // [V] after the last of them; empty: not kept
};

}  // namespace taipan
