#pragma once
// Rounding to quantized blocks: of each block the scales with the least weighted squared error among many tried.

#include "tensor/ggml_blocks.h"

namespace taipan {

// Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K, IQ4_NL.
bool CanRound(GgmlType type);
// n weights, whole blocks. False where one is not finite or beyond the type's range; `to` is void then.
[[nodiscard]] bool RoundToBlocks(GgmlType type, const float* from, int64_t n, uint8_t* to);

}  // namespace taipan
