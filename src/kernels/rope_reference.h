#pragma once
// Plain loops over any number type, to test the kernel against.

#include <cmath>
#include <cstdint>
#include <vector>

namespace taipan::reference {

// x [n, heads * head_dim], row i at positions[i]; pairs (j, j + r/2) of the first r values of each head turn by
// position * theta^(-2j/r). The gradient is the rotation by the negative angles: direction -1.
template <class T>
std::vector<T> Rope(std::vector<T> x, int64_t head_dim, int64_t rotary_dim, double theta,
                    const std::vector<int64_t>& positions, int direction = 1) {
  if (positions.empty()) return x;
  const int64_t half = rotary_dim / 2, cols = static_cast<int64_t>(x.size() / positions.size());
  for (size_t row = 0; row < positions.size(); ++row) {
    for (int64_t head = 0; head < cols / head_dim; ++head) {
      T* values = x.data() + static_cast<int64_t>(row) * cols + head * head_dim;
      for (int64_t j = 0; j < half; ++j) {
        const double frequency = std::pow(theta, -2.0 * static_cast<double>(j) / static_cast<double>(rotary_dim));
        const double angle = direction * static_cast<double>(positions[row]) * frequency;
        const T c = T(std::cos(angle)), s = T(std::sin(angle)), a = values[j], b = values[j + half];
        values[j] = a * c - b * s;
        values[j + half] = b * c + a * s;
      }
    }
  }
  return x;
}

}  // namespace taipan::reference
