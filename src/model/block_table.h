#pragma once
// Layer kinds and how a block of each is made from a config: the one table that a new kind adds a row to.

#include <memory>

#include "layers/block.h"
#include "model/config.h"

namespace taipan {

std::unique_ptr<Block> MakeBlock(LayerKind kind, const ModelConfig& config);

// Tokens that the SSD takes at once: the config's chunk_size, or a divisor of it near 64. On Zen 4 with d_state 128 and
// head_dim 64 chunks of 64 took 0.8 to 0.9 of the time of 128 and 0.6 of 256 (docs/performance.md); the results agree
// to rounding.
int64_t SsdChunk(int64_t chunk_size);

}  // namespace taipan
