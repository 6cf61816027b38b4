#pragma once
// Rotary position embedding, half-split pairs (j, j + r/2) as Llama and transformers have it; angles in double.

#include <span>
#include <vector>

#include "tensor/tensor.h"

namespace taipan {

// theta^(-2j/r) for j < r/2, in double.
std::vector<double> RopeInverseFrequencies(double theta, int64_t rotary_dim);

// Rotates, in place, the first rotary_dim = 2 * inverse_frequencies.size() values of each of the heads of x
// [n, heads * head_dim] (f32 or bf16; row i at position positions[i]). direction -1 rotates back: the gradient's way.
void Rope(MatrixView x, int64_t head_dim, std::span<const double> inverse_frequencies,
          std::span<const int64_t> positions, int direction = 1);

}  // namespace taipan
