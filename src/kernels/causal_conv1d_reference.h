#pragma once
// Plain loops over any number type, to test the kernels against: one run of tokens with its state.

#include <cstdint>
#include <vector>

#include "kernels/swiglu_reference.h"

namespace taipan::reference {

template <class T>
struct ConvInputs {
  std::vector<T> x;         // [L, C]
  std::vector<T> state_in;  // [W-1, C], oldest first; zeros for a fresh sequence
  std::vector<T> weight;    // [C, W]
  std::vector<T> bias;      // [C]
  int64_t width = 4;

  int64_t channels() const { return static_cast<int64_t>(bias.size()); }
  int64_t length() const { return static_cast<int64_t>(x.size()) / channels(); }
  // Input of virtual row v: v < 0 lies in the state.
  T Input(int64_t v, int64_t c) const {
    return v >= 0 ? x[v * channels() + c] : state_in[(v + width - 1) * channels() + c];
  }
  T PreActivation(int64_t t, int64_t c) const {
    T sum = bias[c];
    for (int64_t k = 0; k < width; ++k) sum += weight[c * width + k] * Input(t - width + 1 + k, c);
    return sum;
  }
};

template <class T>
struct ConvOutputs {
  std::vector<T> y;          // [L, C]
  std::vector<T> state_out;  // [W-1, C]
};

template <class T>
ConvOutputs<T> CausalConv1dSilu(const ConvInputs<T>& in) {
  ConvOutputs<T> out;
  for (int64_t t = 0; t < in.length(); ++t) {
    for (int64_t c = 0; c < in.channels(); ++c) out.y.push_back(Silu(in.PreActivation(t, c)));
  }
  for (int64_t v = in.length() - in.width + 1; v < in.length(); ++v) {
    for (int64_t c = 0; c < in.channels(); ++c) out.state_out.push_back(in.Input(v, c));
  }
  return out;
}

template <class T>
struct ConvGradients {
  std::vector<T> dx, dstate_in, dweight, dbias;
};

template <class T>
ConvGradients<T> CausalConv1dSiluBackward(const ConvInputs<T>& in, const std::vector<T>& dy,
                                          const std::vector<T>& dstate_out) {
  const int64_t channels = in.channels(), reach = in.width - 1;
  ConvGradients<T> out = {std::vector<T>(in.x.size()), std::vector<T>(in.state_in.size()),
                          std::vector<T>(in.weight.size()), std::vector<T>(in.bias.size())};
  const auto gradient_of_input = [&](int64_t v, int64_t c) -> T& {
    return v >= 0 ? out.dx[v * channels + c] : out.dstate_in[(v + reach) * channels + c];
  };
  for (int64_t c = 0; c < channels; ++c) {
    for (int64_t j = 0; j < reach; ++j) {
      gradient_of_input(in.length() - reach + j, c) += dstate_out[j * channels + c];
    }
    for (int64_t t = 0; t < in.length(); ++t) {
      const T dp = dy[t * channels + c] * SiluDerivative(in.PreActivation(t, c));
      for (int64_t k = 0; k < in.width; ++k) {
        gradient_of_input(t - reach + k, c) += in.weight[c * in.width + k] * dp;
        out.dweight[c * in.width + k] += dp * in.Input(t - reach + k, c);
      }
      out.dbias[c] += dp;
    }
  }
  return out;
}

}  // namespace taipan::reference
