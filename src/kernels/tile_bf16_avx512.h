#pragma once
// TileGemmBF16 with AVX512-BF16. Call only where HasAvx512BF16().

#include "kernels/bf16_instructions.h"
#include "kernels/tile_bf16.h"

namespace taipan {

void TileGemmAvx512BF16(int64_t m, int64_t n, int64_t k, TilePairs a, const uint32_t* b, int64_t ldb, float* c,
                        int64_t ldc, bool accumulate);

}  // namespace taipan
