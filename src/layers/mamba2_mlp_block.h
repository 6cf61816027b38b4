#pragma once
// A Mamba-2 block followed by the SwiGLU half, as hybrids with a feed-forward layer in every block have it (Bamba).

#include "layers/mamba2_block.h"
#include "layers/swiglu_mlp.h"

namespace taipan {

std::unique_ptr<Block> MakeMamba2MlpBlock(const Mamba2Dims& dims, int64_t ff);

}  // namespace taipan
