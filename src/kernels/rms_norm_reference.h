#pragma once
// Plain loops over any number type, to test the kernels against. A plain norm is one group without a gate.

#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/swiglu_reference.h"

namespace taipan::reference {

template <class T>
struct RmsNormInputs {
  std::vector<T> x;       // [rows, cols]
  std::vector<T> z;       // [rows, cols], or empty: no gate
  std::vector<T> weight;  // [cols]
  T eps = T(1e-5);
  size_t groups = 1;

  T Value(size_t i) const { return z.empty() ? x[i] : x[i] * Silu(z[i]); }
  size_t group_size() const { return weight.size() / groups; }
  size_t row_groups() const { return weight.empty() ? 0 : x.size() / group_size(); }  // rows * groups
  T InverseRms(size_t row_group) const {
    T sum = 0;
    for (size_t i = row_group * group_size(); i < (row_group + 1) * group_size(); ++i) sum += Value(i) * Value(i);
    return T(1) / std::sqrt(sum / T(group_size()) + eps);
  }
};

template <class T>
std::vector<T> RmsNorm(const RmsNormInputs<T>& in) {
  std::vector<T> out(in.x.size());
  for (size_t g = 0; g < in.row_groups(); ++g) {
    const T inv = in.InverseRms(g);
    for (size_t i = g * in.group_size(); i < (g + 1) * in.group_size(); ++i) {
      out[i] = in.Value(i) * inv * in.weight[i % in.weight.size()];
    }
  }
  return out;
}

template <class T>
struct RmsNormGradients {
  std::vector<T> dx, dz, dweight;
};

template <class T>
RmsNormGradients<T> RmsNormBackward(const RmsNormInputs<T>& in, const std::vector<T>& dout) {
  RmsNormGradients<T> out = {std::vector<T>(in.x.size()), std::vector<T>(in.z.size()),
                             std::vector<T>(in.weight.size())};
  const size_t n = in.group_size();
  for (size_t g = 0; g < in.row_groups(); ++g) {
    const T inv = in.InverseRms(g);
    T dot = 0;
    for (size_t i = g * n; i < (g + 1) * n; ++i) {
      dot += dout[i] * in.weight[i % in.weight.size()] * in.Value(i);
      out.dweight[i % in.weight.size()] += dout[i] * in.Value(i) * inv;
    }
    for (size_t i = g * n; i < (g + 1) * n; ++i) {
      const T dv = inv * (dout[i] * in.weight[i % in.weight.size()] - in.Value(i) * inv * inv * dot / T(n));
      out.dx[i] = in.z.empty() ? dv : dv * Silu(in.z[i]);
      if (!in.z.empty()) out.dz[i] = dv * in.x[i] * SiluDerivative(in.z[i]);
    }
  }
  return out;
}

}  // namespace taipan::reference
