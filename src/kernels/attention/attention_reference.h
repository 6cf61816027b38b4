#pragma once
// Attention with its whole score row, over any number type: one sequence whose keys have positions 0 ... n_keys - 1.

#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/attention/attention.h"

namespace taipan::reference {

template <class T>
struct AttentionProblem {
  AttentionShape shape;
  std::vector<int64_t> positions;  // of the queries
  std::vector<T> q;                // [n, heads * dh]
  std::vector<T> k, v;             // [n_keys, kv_heads * dh]

  bool Sees(int64_t position, int64_t key) const {
    return key <= position && (shape.window == 0 || position - key < shape.window);
  }
  T Scale() const { return shape.scale > 0 ? T(shape.scale) : T(1) / std::sqrt(static_cast<T>(shape.head_dim)); }
  const T* Row(const std::vector<T>& m, int64_t row, int64_t heads, int64_t head) const {
    return m.data() + (row * heads + head) * shape.head_dim;
  }
};

template <class T>
struct AttentionGradient {
  std::vector<T> q, k, v;
};

// Probabilities of one query and head over all keys (0 where unseen).
template <class T>
std::vector<T> Probabilities(const AttentionProblem<T>& in, int64_t query, int64_t head) {
  const int64_t dh = in.shape.head_dim, kvh = in.shape.kv_heads, kv_head = head / (in.shape.heads / kvh);
  std::vector<T> p(in.k.size() / static_cast<size_t>(kvh * dh), T(0));
  const T* q = in.Row(in.q, query, in.shape.heads, head);
  T max = -std::numeric_limits<T>::infinity(), sum = 0;
  for (size_t j = 0; j < p.size(); ++j) {
    if (!in.Sees(in.positions[query], static_cast<int64_t>(j))) continue;
    const T* k = in.Row(in.k, static_cast<int64_t>(j), kvh, kv_head);
    for (int64_t c = 0; c < dh; ++c) p[j] += q[c] * k[c];
    p[j] *= in.Scale();
    max = std::max(max, p[j]);
  }
  for (size_t j = 0; j < p.size(); ++j) {
    p[j] = in.Sees(in.positions[query], static_cast<int64_t>(j)) ? std::exp(p[j] - max) : T(0);
    sum += p[j];
  }
  for (T& x : p) x /= sum;
  return p;
}

template <class T>
std::vector<T> Attention(const AttentionProblem<T>& in) {
  const int64_t dh = in.shape.head_dim, heads = in.shape.heads, kvh = in.shape.kv_heads;
  std::vector<T> out(in.q.size(), T(0));
  for (size_t i = 0; i < in.positions.size(); ++i) {
    for (int64_t h = 0; h < heads; ++h) {
      const std::vector<T> p = Probabilities(in, static_cast<int64_t>(i), h);
      T* o = out.data() + (static_cast<int64_t>(i) * heads + h) * dh;
      for (size_t j = 0; j < p.size(); ++j) {
        const T* v = in.Row(in.v, static_cast<int64_t>(j), kvh, h / (heads / kvh));
        for (int64_t c = 0; c < dh; ++c) o[c] += p[j] * v[c];
      }
    }
  }
  return out;
}

template <class T>
AttentionGradient<T> AttentionBackward(const AttentionProblem<T>& in, const std::vector<T>& dout) {
  const int64_t dh = in.shape.head_dim, heads = in.shape.heads, kvh = in.shape.kv_heads;
  const T scale = in.Scale();
  AttentionGradient<T> g{std::vector<T>(in.q.size()), std::vector<T>(in.k.size()), std::vector<T>(in.v.size())};
  for (size_t i = 0; i < in.positions.size(); ++i) {
    for (int64_t h = 0; h < heads; ++h) {
      const std::vector<T> p = Probabilities(in, static_cast<int64_t>(i), h);
      const int64_t qi = (static_cast<int64_t>(i) * heads + h) * dh, kv_head = h / (heads / kvh);
      std::vector<T> dp(p.size(), T(0));
      T mean = 0;
      for (size_t j = 0; j < p.size(); ++j) {
        for (int64_t c = 0; c < dh; ++c)
          dp[j] += dout[qi + c] * in.v[(static_cast<int64_t>(j) * kvh + kv_head) * dh + c];
        mean += p[j] * dp[j];
      }
      for (size_t j = 0; j < p.size(); ++j) {
        const T ds = p[j] * (dp[j] - mean) * scale;
        const int64_t ki = (static_cast<int64_t>(j) * kvh + kv_head) * dh;
        for (int64_t c = 0; c < dh; ++c) {
          g.q[qi + c] += ds * in.k[ki + c];
          g.k[ki + c] += ds * in.q[qi + c];
          g.v[ki + c] += p[j] * dout[qi + c];
        }
      }
    }
  }
  return g;
}

}  // namespace taipan::reference
