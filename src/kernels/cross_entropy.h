#pragma once
// LM head and cross entropy together, in chunks of rows: no [T, V] tensor is ever held.

#include <span>

#include "kernels/gemm/gemm.h"
#include "tensor/tensor.h"

namespace taipan {

struct HeadGradient {
  MatrixView dh;  // [n, d], written; f32, or bf16 where h is
  MatrixView dw;  // [V, d], added to
};

// Rows whose logits exist at a time.
int64_t HeadChunkRows(int64_t vocab);

// h [n, d]: the normalised hidden rows that carry a label (the caller gathered them), f32 or bf16, whose products are
// of that type (the gradients of the logits are rounded to it; the logits are f32); targets [n] in [0, V). Writes log
// p(target) of each row to logprobs [n] where not null and returns sum_i weight_i * -log p_i in double (weights empty:
// all 1), summed in row order. With `gradient`, also d(scale * that sum): scale is 1 / divisor of the whole step.
// Softmax statistics are f32 with the row maximum taken out, their sums in double.
double HeadCrossEntropy(ConstMatrixView h, const LinearWeight& head, std::span<const int32_t> targets,
                        std::span<const float> weights, float scale, const HeadGradient* gradient, float* logprobs,
                        Arena& scratch);

}  // namespace taipan
