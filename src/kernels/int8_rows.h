#pragma once
// Keys and values as 8-bit integers with a scale for each token and head.

#include <cstdint>

#include "tensor/tensor.h"

namespace taipan {

// Each of the `heads` equal parts of a row of x [n, width], f32 or bf16: its largest magnitude is 127 times the scale,
// to [n, width] has the nearest integers, ties to even. Zeros have scale 0; a part with something that is no finite
// number has the scale NaN, so that it is seen.
void QuantizeHeads(ConstMatrixView x, int64_t heads, int8_t* to, float* scales);

}  // namespace taipan
