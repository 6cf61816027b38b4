#pragma once
// Parts of tile_bf16.h with AVX512-BF16. Call only where HasAvx512BF16().

#include "kernels/bf16_instructions.h"
#include "kernels/gemm/tile_bf16.h"

namespace taipan {

void TileGemmAvx512BF16(TileShape shape, TilePairs a, TileB<uint32_t> b, TileC c);

// PackPairsTransposed of n rows of 2 * pairs elements; both counts multiples of 16.
void TransposePairsAvx512BF16(int64_t pairs, int64_t n, const BF16* from, int64_t ld, uint32_t* to, int64_t ld_to);
void TransposePairsAvx512BF16(int64_t pairs, int64_t n, const float* from, int64_t ld, uint32_t* to, int64_t ld_to);

}  // namespace taipan
