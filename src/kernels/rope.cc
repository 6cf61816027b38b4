#include "kernels/rope.h"

#include <cmath>

#include "base/parallel.h"
#include "kernels/element_type.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/rope.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace taipan {
namespace HWY_NAMESPACE {
namespace {

// (low, high) <- (low cos - high sin, high cos + low sin) for n pairs.
template <class T>
void RotatePairs(const float* cosine, const float* sine, int64_t n, T* low, T* high) {
  const FloatTag d;
  ForVectors(d, n, [&](int64_t i, auto part) HWY_ATTR {
    const FloatVec c = Load(d, cosine + i, part), s = Load(d, sine + i, part);
    const FloatVec a = Load(d, low + i, part), b = Load(d, high + i, part);
    Store(hn::NegMulAdd(b, s, hn::Mul(a, c)), d, low + i, part);
    Store(hn::MulAdd(a, s, hn::Mul(b, c)), d, high + i, part);
  });
}

// All heads of one row share the sines and cosines, which cost far more than the rotation.
template <class T>
void RopeRow(T* row, int64_t heads, int64_t head_dim, std::span<const double> frequencies, int64_t position,
             int direction) {
  constexpr int64_t kChunk = 128;  // frequencies at a time: all of them at head widths up to 256
  const int64_t half = static_cast<int64_t>(frequencies.size());
  float cosine[kChunk], sine[kChunk];
  for (int64_t begin = 0; begin < half; begin += kChunk) {
    const int64_t n = half - begin < kChunk ? half - begin : kChunk;
    for (int64_t j = 0; j < n; ++j) {
      const double angle = static_cast<double>(position) * frequencies[static_cast<size_t>(begin + j)];
      cosine[j] = static_cast<float>(std::cos(angle));
      sine[j] = static_cast<float>(direction * std::sin(angle));
    }
    for (int64_t h = 0; h < heads; ++h) {
      T* low = row + h * head_dim + begin;
      RotatePairs(cosine, sine, n, low, low + half);
    }
  }
}

template <class T>
void RopeRows(MatrixView x, int64_t head_dim, std::span<const double> frequencies, std::span<const int64_t> positions,
              int direction) {
  constexpr int64_t kRows = 16;  // some 20 microseconds of sines
  ParallelForRanges(x.rows, kRows, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      RopeRow(x.As<T>(r), x.cols / head_dim, head_dim, frequencies, positions[static_cast<size_t>(r)], direction);
    }
  });
}

void RopeSimd(MatrixView x, int64_t head_dim, std::span<const double> frequencies, std::span<const int64_t> positions,
              int direction) {
  WithElementType(x.dtype, [&](auto t) { RopeRows<decltype(t)>(x, head_dim, frequencies, positions, direction); });
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace taipan
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace taipan {
namespace {

HWY_EXPORT(RopeSimd);

}  // namespace

std::vector<double> RopeInverseFrequencies(double theta, int64_t rotary_dim) {
  CHECK(rotary_dim >= 0 && rotary_dim % 2 == 0);
  std::vector<double> out(static_cast<size_t>(rotary_dim / 2));
  for (size_t j = 0; j < out.size(); ++j) {
    out[j] = std::pow(theta, -2.0 * static_cast<double>(j) / static_cast<double>(rotary_dim));
  }
  return out;
}

void Rope(MatrixView x, int64_t head_dim, std::span<const double> inverse_frequencies,
          std::span<const int64_t> positions, int direction) {
  CHECK(head_dim >= 1 && x.cols % head_dim == 0);
  CHECK_LE(2 * static_cast<int64_t>(inverse_frequencies.size()), head_dim);
  CHECK_EQ(static_cast<int64_t>(positions.size()), x.rows);
  CHECK(direction == 1 || direction == -1);
  HWY_DYNAMIC_DISPATCH(RopeSimd)(x, head_dim, inverse_frequencies, positions, direction);
}

}  // namespace taipan
#endif  // HWY_ONCE
