#pragma once
// Layer kinds and how a block of each is made from a config: the one table that a new kind adds a row to.

#include <memory>

#include "layers/block.h"
#include "model/config.h"

namespace taipan {

std::unique_ptr<Block> MakeBlock(LayerKind kind, const ModelConfig& config);

}  // namespace taipan
