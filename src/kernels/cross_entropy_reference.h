#pragma once
// Head and cross entropy in plain loops, for tests.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

namespace taipan::reference {

template <class Real>
struct HeadProblem {
  int64_t n = 0, d = 0, vocab = 0;
  std::vector<Real> h;           // [n, d]
  std::vector<Real> w;           // [V, d]
  std::vector<int32_t> targets;  // [n]
  std::vector<Real> weights;     // [n], or empty: all 1
  Real scale = 1;

  Real weight(int64_t i) const { return weights.empty() ? Real(1) : weights[static_cast<size_t>(i)]; }
};

// Natural logarithm of the softmax of row i, [V].
template <class Real>
std::vector<Real> LogSoftmaxRow(const HeadProblem<Real>& p, int64_t i) {
  std::vector<Real> logits(static_cast<size_t>(p.vocab));
  for (int64_t v = 0; v < p.vocab; ++v) {
    for (int64_t c = 0; c < p.d; ++c) {
      logits[static_cast<size_t>(v)] += p.h[static_cast<size_t>(i * p.d + c)] * p.w[static_cast<size_t>(v * p.d + c)];
    }
  }
  const Real top = *std::max_element(logits.begin(), logits.end());
  Real sum = 0;
  for (Real x : logits) sum += std::exp(x - top);
  for (Real& x : logits) x -= top + std::log(sum);
  return logits;
}

// sum_i weight_i * -log p(target_i); log p of each row into logprobs where not null.
template <class Real>
Real HeadCrossEntropy(const HeadProblem<Real>& p, std::vector<Real>* logprobs = nullptr) {
  Real loss = 0;
  for (int64_t i = 0; i < p.n; ++i) {
    const Real logprob = LogSoftmaxRow(p, i)[static_cast<size_t>(p.targets[static_cast<size_t>(i)])];
    loss -= p.weight(i) * logprob;
    if (logprobs != nullptr) logprobs->push_back(logprob);
  }
  return loss;
}

// d(scale * loss): dh [n, d] and dw [V, d] are added to.
template <class Real>
void HeadCrossEntropyBackward(const HeadProblem<Real>& p, std::vector<Real>& dh, std::vector<Real>& dw) {
  for (int64_t i = 0; i < p.n; ++i) {
    const std::vector<Real> logprobs = LogSoftmaxRow(p, i);
    for (int64_t v = 0; v < p.vocab; ++v) {
      const Real hit = p.targets[static_cast<size_t>(i)] == v ? Real(1) : Real(0);
      const Real dlogit = p.scale * p.weight(i) * (std::exp(logprobs[static_cast<size_t>(v)]) - hit);
      for (int64_t c = 0; c < p.d; ++c) {
        dh[static_cast<size_t>(i * p.d + c)] += dlogit * p.w[static_cast<size_t>(v * p.d + c)];
        dw[static_cast<size_t>(v * p.d + c)] += dlogit * p.h[static_cast<size_t>(i * p.d + c)];
      }
    }
  }
}

}  // namespace taipan::reference
