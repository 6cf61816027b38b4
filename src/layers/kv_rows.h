#pragma once
// Keys or values of a layer in one piece, for files and messages. KvCache::Restore takes them back.

#include "layers/state.h"

namespace taipan {

struct CachedRows {
  Tensor rows;    // [count, width]
  Tensor scales;  // [count, heads], of int8
};
// spec: of its keys or its values. dtype: of an empty cache's rows; any other must be of it.
CachedRows CopyCache(const LayerState& layer, const StateSpec& spec, DType dtype);

}  // namespace taipan
