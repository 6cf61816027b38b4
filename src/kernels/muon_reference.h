#pragma once
// Muon in plain loops and double precision, as published, for tests. Matrices are row-major.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/muon.h"

namespace taipan::reference {

using Matrix = std::vector<double>;

// A [m, k] B [k, n].
inline Matrix Product(const Matrix& a, const Matrix& b, int64_t m, int64_t k, int64_t n) {
  Matrix c(static_cast<size_t>(m * n));
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t p = 0; p < k; ++p) {
      for (int64_t j = 0; j < n; ++j) {
        c[static_cast<size_t>(i * n + j)] += a[static_cast<size_t>(i * k + p)] * b[static_cast<size_t>(p * n + j)];
      }
    }
  }
  return c;
}

inline Matrix Transposed(const Matrix& a, int64_t m, int64_t n) {
  Matrix t(a.size());
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) t[static_cast<size_t>(j * m + i)] = a[static_cast<size_t>(i * n + j)];
  }
  return t;
}

inline double FrobeniusNorm(const Matrix& a) {
  double sum = 0;
  for (const double value : a) sum += value * value;
  return std::sqrt(sum);
}

// X <- X / 1.01 (sum of the singular values' eighth powers)^(1/8), then X <- a X + b (X X^T) X + c (X X^T)^2 X twice.
inline Matrix Orthogonalise(Matrix x, int64_t m, int64_t n) {
  const auto gram_of = [&](const Matrix& a) { return Product(a, Transposed(a, m, n), m, n, m); };
  const Matrix first = gram_of(x);
  const double norm = 1.01 * std::pow(FrobeniusNorm(Product(first, first, m, m, m)), 0.25);
  for (double& value : x) value = norm > 0 ? value / norm : 0;
  for (const auto& [a, b, c] : {std::array{7.3625, -20.7434, 15.1606}, {2.9175, -2.1824, 0.4755}}) {
    const Matrix gram = gram_of(x), cubic = Product(gram, x, m, m, n), quintic = Product(gram, cubic, m, m, n);
    for (size_t j = 0; j < x.size(); ++j) x[j] = a * x[j] + b * cubic[j] + c * quintic[j];
  }
  return x;
}

inline void Muon(Matrix& param, const Matrix& gradient, Matrix& momentum, int64_t m, int64_t n,
                 const MuonSettings& settings) {
  Matrix direction(param.size());
  for (size_t i = 0; i < param.size(); ++i) {
    const double g = gradient[i] * static_cast<double>(settings.gradient_scale);
    momentum[i] = settings.momentum * momentum[i] + g;
    direction[i] = g + settings.momentum * momentum[i];
  }
  const double norm = FrobeniusNorm(direction);
  for (double& value : direction) value = norm > 0 ? value / norm : 0;
  direction = Orthogonalise(direction, m, n);
  const double rate = settings.lr * 0.2 * std::sqrt(static_cast<double>(std::max(m, n)));
  for (size_t i = 0; i < param.size(); ++i) {
    param[i] -= settings.lr * settings.weight_decay * param[i] + rate * direction[i];
  }
}

}  // namespace taipan::reference
