#pragma once
// The token gate in plain loops, for tests.

#include <cmath>
#include <cstdint>
#include <vector>

namespace taipan::reference {

template <class Real>
struct GateProblem {
  int64_t rows = 0, d = 0;
  std::vector<Real> u;       // [T, d]
  std::vector<Real> weight;  // [2, d]
  std::vector<Real> bias;    // [2]
  std::vector<Real> noise;   // [T, 2], or empty: zero
  Real tau = 1, delta = 0;
};

template <class Real>
struct GateResult {
  std::vector<Real> margin, alpha, m_soft, noisy_margin;  // [T]
  std::vector<uint8_t> selected;                          // [T]
};

template <class Real>
GateResult<Real> TokenGate(const GateProblem<Real>& p) {
  GateResult<Real> out;
  for (int64_t t = 0; t < p.rows; ++t) {
    Real s[2], g[2] = {0, 0};
    for (int64_t k = 0; k < 2; ++k) {
      s[k] = p.bias[static_cast<size_t>(k)];
      for (int64_t c = 0; c < p.d; ++c) {
        s[k] += p.weight[static_cast<size_t>(k * p.d + c)] * p.u[static_cast<size_t>(t * p.d + c)];
      }
      if (!p.noise.empty()) g[k] = p.noise[static_cast<size_t>(2 * t + k)];
    }
    const Real noisy = (s[1] + g[1]) - (s[0] + g[0]);
    out.margin.push_back(s[1] - s[0]);
    out.noisy_margin.push_back(noisy);
    out.alpha.push_back(std::exp(s[1]) / (std::exp(s[0]) + std::exp(s[1])));
    out.m_soft.push_back(1 / (1 + std::exp((p.delta - noisy) / p.tau)));
    out.selected.push_back(noisy > p.delta ? 1 : 0);
  }
  return out;
}

template <class Real>
struct GateGradients {
  std::vector<Real> du, dweight, dbias;  // of the shapes of GateProblem, zero at first
};

// From dm and dalpha [T], m being the surrogate m_hard + m_soft - stopgrad(m_soft).
template <class Real>
GateGradients<Real> TokenGateBackward(const GateProblem<Real>& p, const GateResult<Real>& saved,
                                      const std::vector<Real>& dm, const std::vector<Real>& dalpha) {
  GateGradients<Real> out{std::vector<Real>(p.u.size()), std::vector<Real>(p.weight.size()), std::vector<Real>(2)};
  for (int64_t t = 0; t < p.rows; ++t) {
    const size_t at = static_cast<size_t>(t);
    const Real ds1 = dalpha[at] * saved.alpha[at] * (1 - saved.alpha[at]) +
                     dm[at] * saved.m_soft[at] * (1 - saved.m_soft[at]) / p.tau;
    const Real ds[2] = {-ds1, ds1};
    for (int64_t k = 0; k < 2; ++k) {
      out.dbias[static_cast<size_t>(k)] += ds[k];
      for (int64_t c = 0; c < p.d; ++c) {
        out.du[static_cast<size_t>(t * p.d + c)] += ds[k] * p.weight[static_cast<size_t>(k * p.d + c)];
        out.dweight[static_cast<size_t>(k * p.d + c)] += ds[k] * p.u[static_cast<size_t>(t * p.d + c)];
      }
    }
  }
  return out;
}

}  // namespace taipan::reference
