#pragma once
// Weights of a softmax in double precision, as draws need them of a whole vocabulary.

#include <span>

namespace taipan {

// to[i] = exp((x[i] - largest) / temperature), relative error 1e-15; 0 for -inf. No x is above `largest`; temperature
// is positive.
void Exponentials(std::span<const float> x, float largest, double temperature, double* to);

}  // namespace taipan
