#pragma once
// Muon in plain loops and double precision, as published, for tests. Matrices are row-major.

#include <algorithm>
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

// X <- a X + b (X X^T) X + c (X X^T)^2 X, five times.
inline Matrix Orthogonalise(Matrix x, int64_t m, int64_t n) {
  for (int i = 0; i < 5; ++i) {
    const Matrix gram = Product(x, Transposed(x, m, n), m, n, m);
    const Matrix cubic = Product(gram, x, m, m, n), quintic = Product(gram, cubic, m, m, n);
    for (size_t j = 0; j < x.size(); ++j) x[j] = 3.4445 * x[j] - 4.7750 * cubic[j] + 2.0315 * quintic[j];
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
