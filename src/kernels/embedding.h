#pragma once
// Token embedding: gather, and the scatter-add of its gradient (fixed order, whatever the number of threads).

#include <span>

#include "tensor/tensor.h"

namespace taipan {

void Embed(ConstMatrixView table, std::span<const int32_t> tokens, MatrixView out);            // out [T, d]
void EmbedBackward(ConstMatrixView dout, std::span<const int32_t> tokens, MatrixView dtable);  // dtable [V, d] +=

}  // namespace taipan
