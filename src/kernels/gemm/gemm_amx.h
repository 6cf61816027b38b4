#pragma once
// Large bf16 products on AMX. Debian's oneDNN reaches a third of the rate of these tiles.

#include "kernels/gemm/gemm_tile.h"

namespace taipan {

// As TileProduct, of bf16 operands; one thread. Call only where HasAmxBF16(). An element of C is one chain of sums over
// blocks of 32 of k: its bits depend on neither m, n nor its place.
void AmxProduct(int64_t k, TileOperand a, TileOperand b, MatrixView c, bool add);

}  // namespace taipan
