#include "kernels/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

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

constexpr int64_t kChunk = 128;  // frequencies at a time: all of them at head widths up to 256
struct Rotation {
  HWY_ALIGN float cosine[kChunk + hn::MaxLanes(FloatTag())], sine[kChunk + hn::MaxLanes(FloatTag())];
};

// Of the angles position * frequencies[j] for j < n, to about one unit in the last place. The frequencies are followed
// by zeros to the end of a vector. The angle is taken modulo pi / 2 in double, which leaves 1e-10 at a million tokens.
void Rotate(const double* HWY_RESTRICT frequencies, int64_t n, int64_t position, int direction,
            Rotation& HWY_RESTRICT out) {
  const hn::ScalableTag<double> d;
  const hn::Rebind<float, decltype(d)> df;
  const hn::Rebind<int32_t, decltype(d)> di;
  const auto turns = hn::Set(d, static_cast<double>(position) * (2 / std::numbers::pi)),
             at = hn::Set(d, 1.0 * position);
  const auto one = hn::Set(di, 1), two = hn::Set(di, 2);
  const auto sign_of_sine = hn::Set(di, direction < 0 ? INT32_MIN : 0);
  for (int64_t j = 0; j < n; j += static_cast<int64_t>(hn::Lanes(d))) {
    const auto frequency = hn::Load(d, frequencies + j);
    const auto quarters = hn::Round(hn::Mul(turns, frequency));
    const auto rest = hn::NegMulAdd(quarters, hn::Set(d, std::numbers::pi / 2), hn::Mul(at, frequency));
    const auto r = hn::DemoteTo(df, rest), r2 = hn::Mul(r, r);
    // Minimax on |r| <= pi / 4, off by 2^-26.8 of the sine and 2^-32 of the cosine; the first coefficients are fixed.
    auto s = hn::MulAdd(hn::Set(df, -0.00019515153f), r2, hn::Set(df, 0.008332159f));
    s = hn::MulAdd(hn::MulAdd(s, r2, hn::Set(df, -0.16666655f)), hn::Mul(r2, r), r);
    auto c = hn::MulAdd(hn::Set(df, 2.4433008e-05f), r2, hn::Set(df, -0.0013887315f));
    c = hn::MulAdd(hn::MulAdd(c, r2, hn::Set(df, 0.041666646f)), r2, hn::Set(df, -0.5f));
    c = hn::MulAdd(c, r2, hn::Set(df, 1.0f));
    // Each quarter turn swaps the two; the bit of two quarters is the sign.
    const auto q = hn::DemoteTo(di, quarters);
    const auto swapped = hn::RebindMask(df, hn::Eq(hn::And(q, one), one));
    const auto sine = hn::BitCast(di, hn::IfThenElse(swapped, c, s));
    const auto cosine = hn::BitCast(di, hn::IfThenElse(swapped, s, c));
    const auto sine_sign = hn::Xor(hn::ShiftLeft<30>(hn::And(q, two)), sign_of_sine);
    const auto cosine_sign = hn::ShiftLeft<30>(hn::And(hn::Add(q, one), two));
    hn::StoreU(hn::BitCast(df, hn::Xor(sine, sine_sign)), df, out.sine + j);
    hn::StoreU(hn::BitCast(df, hn::Xor(cosine, cosine_sign)), df, out.cosine + j);
  }
}

// All heads of a row share its sines and cosines, which cost more than the rotation.
template <class T>
void RopeRows(MatrixView x, int64_t head_dim, std::span<const double> frequencies, std::span<const int64_t> positions,
              int direction) {
  constexpr int64_t kRows = 32;  // some 20 microseconds
  const int64_t half = static_cast<int64_t>(frequencies.size()), heads = x.cols / head_dim;
  ParallelForRanges(x.rows, kRows, [&](int64_t first, int64_t last) {
    HWY_ALIGN double padded[kChunk + hn::MaxLanes(hn::ScalableTag<double>())];
    Rotation rotation;
    for (int64_t begin = 0; begin < half; begin += kChunk) {
      const int64_t n = std::min(kChunk, half - begin);
      std::fill(std::copy_n(frequencies.data() + begin, n, padded), std::end(padded), 0.0);
      for (int64_t r = first; r < last; ++r) {
        Rotate(padded, n, positions[static_cast<size_t>(r)], direction, rotation);
        for (int64_t h = 0; h < heads; ++h) {
          T* low = x.As<T>(r) + h * head_dim + begin;
          RotatePairs(rotation.cosine, rotation.sine, n, low, low + half);
        }
      }
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
