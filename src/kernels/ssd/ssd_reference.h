#pragma once
// The SSD as its recurrence, token by token, over any number type: one sequence.

#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/ssd/ssd.h"

namespace taipan::reference {

template <class T>
struct SsdProblem {
  SsdShape shape;
  int64_t length = 0;
  std::vector<T> x, dt, b, c;  // [T, H*P], [T, H], [T, G*N] twice
  std::vector<T> a, d;         // [H]
  std::vector<T> state;        // [H, P, N] on entry

  int64_t Group(int64_t head) const { return head / (shape.heads / shape.groups); }
};

template <class T>
struct SsdResult {
  std::vector<T> y;       // [T, H*P]
  std::vector<T> states;  // [T + 1, H, P, N]: after 0, 1, ... tokens
};

template <class T>
SsdResult<T> Ssd(const SsdProblem<T>& in) {
  const auto& [heads, p, n, groups, chunk] = in.shape;
  const int64_t size = in.shape.state_size();
  SsdResult<T> out{std::vector<T>(in.x.size()), in.state};
  out.states.resize(static_cast<size_t>((in.length + 1) * size));
  for (int64_t t = 0; t < in.length; ++t) {
    for (int64_t h = 0; h < heads; ++h) {
      const T dt = in.dt[t * heads + h], decay = std::exp(dt * in.a[h]);
      const T *b = in.b.data() + (t * groups + in.Group(h)) * n, *c = in.c.data() + (t * groups + in.Group(h)) * n;
      for (int64_t i = 0; i < p; ++i) {
        const T x = in.x[(t * heads + h) * p + i];
        const T* before = out.states.data() + t * size + (h * p + i) * n;
        T* after = out.states.data() + (t + 1) * size + (h * p + i) * n;
        T y = in.d[h] * x;
        for (int64_t j = 0; j < n; ++j) {
          after[j] = decay * before[j] + dt * x * b[j];
          y += after[j] * c[j];
        }
        out.y[(t * heads + h) * p + i] = y;
      }
    }
  }
  return out;
}

template <class T>
struct SsdGradient {
  std::vector<T> x, dt, b, c, a, d, state;
};

// From dL/dy and dL/d(last state).
template <class T>
SsdGradient<T> SsdBackward(const SsdProblem<T>& in, const SsdResult<T>& out, const std::vector<T>& dy,
                           const std::vector<T>& dstate) {
  const auto& [heads, p, n, groups, chunk] = in.shape;
  const int64_t size = in.shape.state_size();
  SsdGradient<T> g{std::vector<T>(in.x.size()),
                   std::vector<T>(in.dt.size()),
                   std::vector<T>(in.b.size()),
                   std::vector<T>(in.c.size()),
                   std::vector<T>(in.a.size()),
                   std::vector<T>(in.d.size()),
                   dstate};
  for (int64_t t = in.length; t-- > 0;) {
    for (int64_t h = 0; h < heads; ++h) {
      const T dt = in.dt[t * heads + h], decay = std::exp(dt * in.a[h]);
      const int64_t bc = (t * groups + in.Group(h)) * n;
      T d_dt = 0, d_log_decay = 0;
      for (int64_t i = 0; i < p; ++i) {
        const int64_t xi = (t * heads + h) * p + i, si = (h * p + i) * n;
        const T* before = out.states.data() + t * size + si;
        const T* after = out.states.data() + (t + 1) * size + si;
        T* ds = g.state.data() + si;
        T d_x = in.d[h] * dy[xi];
        g.d[h] += dy[xi] * in.x[xi];
        for (int64_t j = 0; j < n; ++j) {
          g.c[bc + j] += dy[xi] * after[j];
          ds[j] += dy[xi] * in.c[bc + j];
          d_x += ds[j] * dt * in.b[bc + j];
          g.b[bc + j] += ds[j] * dt * in.x[xi];
          d_dt += ds[j] * in.x[xi] * in.b[bc + j];
          d_log_decay += ds[j] * before[j] * decay;
          ds[j] *= decay;
        }
        g.x[xi] = d_x;
      }
      g.dt[t * heads + h] = d_dt + d_log_decay * in.a[h];
      g.a[h] += d_log_decay * dt;
    }
  }
  return g;
}

}  // namespace taipan::reference
