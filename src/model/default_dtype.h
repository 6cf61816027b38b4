#pragma once
// What a model computes in where nobody says.

#include <string>

#include "formats/tensor_source.h"
#include "model/config.h"

namespace taipan {

// bf16 where this CPU has instructions for its products (AVX512-BF16 or AMX, and they are allowed) and the sizes are
// even; there it is several times as fast. Elsewhere it would be the slower one: f32.
DType FastDType(const ModelConfig& config);

// FastDType, except that weights that are all stored in f32 are used as they are: rounding them is for the user to
// decide. Others were rounded already, to 16 bits or fewer.
DType DefaultInferenceDType(const ModelConfig& config, const TensorSource& stored);

}  // namespace taipan
