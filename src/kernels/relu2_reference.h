#pragma once
// Plain loops over any number type, to test the kernel against.

#include <vector>

namespace taipan::reference {

template <class T>
std::vector<T> Relu2(const std::vector<T>& x) {
  std::vector<T> y(x.size());
  for (size_t i = 0; i < y.size(); ++i) y[i] = x[i] > 0 ? x[i] * x[i] : T(0);
  return y;
}

template <class T>
std::vector<T> Relu2Backward(const std::vector<T>& x, const std::vector<T>& dy) {
  std::vector<T> dx(x.size());
  for (size_t i = 0; i < dx.size(); ++i) dx[i] = x[i] > 0 ? 2 * x[i] * dy[i] : T(0);
  return dx;
}

}  // namespace taipan::reference
