#pragma once
// Keys or values of a cache in one piece, for files.

#include "layers/state.h"

namespace taipan {

struct CachedRows {
  Tensor rows;    // [count, width]
  Tensor scales;  // [count, heads], of int8
};
// dtype: of an empty cache's rows; any other must be of it.
CachedRows CopyCache(const KvCache& kv, DType dtype, bool values);

}  // namespace taipan
