#pragma once
// LM head and cross entropy together, in chunks of rows: no [T, V] tensor is ever held.

#include <span>

#include "kernels/gemm/gemm.h"
#include "tensor/tensor.h"

namespace taipan {

struct HeadInputs {
  ConstMatrixView h;  // [n, d]: the normalised hidden rows that carry a label (the caller gathered them), f32 or bf16
  LinearWeight head;  // [V, d]
  std::span<const int32_t> targets;     // [n] in [0, V)
  std::span<const float> weights = {};  // [n]; empty: all 1
};

struct HeadGradients {
  float scale = 1;  // of the loss: 1 / divisor of the whole step
  MatrixView dh;    // [n, d], written; f32, or bf16 where h is
  MatrixView dw;    // [V, d], added to
};

// Rows whose logits exist at a time.
int64_t HeadChunkRows(int64_t vocab);

// Returns sum_i weight_i * -log p_i in double, summed in row order, and writes log p(target) of each row to logprobs
// [n] where not null. With `gradients`, also d(scale * that sum). Products are of the type of h (the gradients of the
// logits are rounded to it; the logits are f32). Softmax statistics are f32 with the row maximum taken out, their sums
// in double.
double HeadCrossEntropy(const HeadInputs& in, float* logprobs, const HeadGradients* gradients, Arena& scratch);

}  // namespace taipan
