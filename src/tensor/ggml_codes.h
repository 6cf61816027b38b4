#pragma once
// The codes in quantized blocks, apart from their scales: one unsigned byte a weight.

#include "tensor/ggml_blocks.h"

namespace taipan {

constexpr int64_t kMostBlockElements = 256;

// Types of which codes can be asked: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 (128 more than its signed bytes), Q4_K, Q5_K, Q6_K,
// IQ4_NL (places in its table).
bool HasBlockCodes(GgmlType type);
// BlockElements(type) codes of a block, and back; scales are left alone.
void BlockCodes(GgmlType type, const uint8_t* block, uint8_t* codes);
void SetBlockCodes(GgmlType type, const uint8_t* codes, uint8_t* block);

}  // namespace taipan
