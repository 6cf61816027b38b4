#pragma once
// The product of tile_bf16.h with AMX, the matrix tiles of Intel's Xeons. Call only where HasAmxBF16().

#include "kernels/bf16_instructions.h"
#include "kernels/gemm/tile_bf16.h"

namespace taipan {

constexpr int64_t kMostAmxDepth = 512;  // k

// Blocks of 32 of k, from its start on, are a chain of sums.
void TileGemmAmxBF16(TileShape shape, TilePairs a, TileB<uint32_t> b, TileC c);

// The registers stay set up between products of this thread; calls nest.
void HoldAmxTiles();
void ReleaseAmxTiles();

}  // namespace taipan
