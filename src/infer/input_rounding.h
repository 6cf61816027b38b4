#pragma once
// Rounding to quantized blocks for known inputs: each weight takes up what rounding the weights before it did to the
// products (GPTQ, in the form without an inverse).

#include <vector>

#include "tensor/ggml_blocks.h"
#include "tensor/tensor.h"

namespace taipan {

// With H [K, K] = sum x x^T over inputs x, and E [N, K] what rounding changes a weight by, products change by
// tr(E H E^T) in squares. H = (U + I) D (U + I)^T, U above the diagonal, makes this sum_k D_k |n_k|^2, where n_k is how
// column k is rounded after it was moved by E_j U_jk for each column j before it.
class InputFactor {
 public:
  // `damping` of the mean of H's diagonal is added to it.
  InputFactor(const Tensor& moments, double damping);

  int64_t size() const { return static_cast<int64_t>(importance_.size()); }
  ConstMatrixView Feedback() const { return feedback_.Matrix(); }  // row k: U_jk, j < k
  const float* Importance() const { return importance_.data(); }   // D_k

 private:
  Tensor feedback_;
  std::vector<float> importance_;
};

// [N, K] to blocks of Q8_0 or a type that CanRound. False as in RoundToBlocks.
[[nodiscard]] bool RoundForInputs(GgmlType type, const Tensor& values, const InputFactor& factor, uint8_t* to);

}  // namespace taipan
