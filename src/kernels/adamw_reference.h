#pragma once
// AdamW in plain loops, as published, for tests.

#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/adamw.h"

namespace taipan::reference {

template <class Real>
void AdamW(std::vector<Real>& param, const std::vector<Real>& gradient, std::vector<Real>& m, std::vector<Real>& v,
           const AdamWSettings& settings) {
  const Real lr = Real(settings.lr), beta1 = Real(settings.beta1), beta2 = Real(settings.beta2);
  const Real correct1 = 1 - std::pow(beta1, Real(settings.step)), correct2 = 1 - std::pow(beta2, Real(settings.step));
  for (size_t i = 0; i < param.size(); ++i) {
    const Real g = gradient[i] * Real(settings.gradient_scale);
    param[i] -= lr * Real(settings.weight_decay) * param[i];
    m[i] = beta1 * m[i] + (1 - beta1) * g;
    v[i] = beta2 * v[i] + (1 - beta2) * g * g;
    param[i] -= lr * (m[i] / correct1) / (std::sqrt(v[i] / correct2) + Real(settings.eps));
  }
}

template <class Real>
Real SquaredNorm(const std::vector<Real>& x) {
  Real sum = 0;
  for (Real value : x) sum += value * value;
  return sum;
}

}  // namespace taipan::reference
