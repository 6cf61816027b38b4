#pragma once
// Token embedding: gather, and the scatter-add of its gradient (fixed order, whatever the number of threads).

#include <functional>
#include <span>

#include "tensor/tensor.h"

namespace taipan {

// out [T, d] f32: rows of the table, f32 or bf16.
void Embed(ConstMatrixView table, std::span<const int32_t> tokens, MatrixView out);
// The same of a table of `vocab` rows that are made when they are asked for.
void Embed(const std::function<void(int64_t row, float* to)>& table, int64_t vocab, std::span<const int32_t> tokens,
           MatrixView out);
void EmbedBackward(ConstMatrixView dout, std::span<const int32_t> tokens, MatrixView dtable);  // dtable [V, d] +=

}  // namespace taipan
