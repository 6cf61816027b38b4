#pragma once
// Plain loops over any number type, to test the kernels against.

#include <cmath>
#include <vector>

namespace taipan::reference {

template <class T>
T Sigmoid(T x) {
  return x >= 0 ? T(1) / (T(1) + std::exp(-x)) : std::exp(x) / (T(1) + std::exp(x));
}

template <class T>
T Silu(T x) {
  return x * Sigmoid(x);
}

template <class T>
T SiluDerivative(T x) {
  return Sigmoid(x) * (T(1) + x * Sigmoid(-x));
}

template <class T>
std::vector<T> Swiglu(const std::vector<T>& gate, const std::vector<T>& up) {
  std::vector<T> y(gate.size());
  for (size_t i = 0; i < y.size(); ++i) y[i] = Silu(gate[i]) * up[i];
  return y;
}

// Writes dgate and dup.
template <class T>
void SwigluBackward(const std::vector<T>& gate, const std::vector<T>& up, const std::vector<T>& dy,
                    std::vector<T>& dgate, std::vector<T>& dup) {
  dgate.resize(gate.size());
  dup.resize(gate.size());
  for (size_t i = 0; i < gate.size(); ++i) {
    dgate[i] = dy[i] * up[i] * SiluDerivative(gate[i]);
    dup[i] = dy[i] * Silu(gate[i]);
  }
}

}  // namespace taipan::reference
