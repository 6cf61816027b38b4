// A loop over the vectors of a row with its remainder, and silu; compiled once for each target: include it after
// foreach_target.h (hence no ordinary include guard).

#if defined(TAIPAN_KERNELS_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TAIPAN_KERNELS_SIMD_INL_H_
#undef TAIPAN_KERNELS_SIMD_INL_H_
#else
#define TAIPAN_KERNELS_SIMD_INL_H_
#endif

#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

#include <cstdint>

#include "kernels/partial-inl.h"

HWY_BEFORE_NAMESPACE();
namespace taipan {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using FloatTag = hn::ScalableTag<float>;
using FloatVec = hn::Vec<FloatTag>;

// How much of a vector a loop body works on: all of it, or the first n lanes.
struct Whole {};
struct Part {
  int64_t n;
};

// T: float or BF16; arithmetic is in float.
template <class T>
HWY_INLINE FloatVec Load(FloatTag d, const T* p, Whole) {
  return LoadFloats(d, p);
}
template <class T>
HWY_INLINE FloatVec Load(FloatTag d, const T* p, Part part) {
  return LoadPartial(d, p, part.n, 0.0f);
}
template <class T>
HWY_INLINE void Store(FloatVec v, FloatTag d, T* p, Whole) {
  StoreFloats(v, d, p);
}
template <class T>
HWY_INLINE void Store(FloatVec v, FloatTag d, T* p, Part part) {
  StorePartial(v, d, p, part.n);
}

// f(i, Whole or Part) over [0, n). f: a generic lambda marked HWY_ATTR.
template <class F>
HWY_INLINE void ForVectors(FloatTag d, int64_t n, const F& f) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) f(i, Whole());
  if (i < n) f(i, Part{n - i});
}

HWY_INLINE float SumLanes(FloatTag d, FloatVec v) { return hn::GetLane(hn::SumOfLanes(d, v)); }

// exp(x) for x <= 0 within 1 ulp; 0 where that would be below the normal numbers (x < -87.33), and for a NaN. Half the
// instructions of Highway's, which has the positive and the subnormal numbers too.
HWY_INLINE FloatVec ExpOfNegative(FloatTag d, FloatVec x) {
  const hn::Rebind<int32_t, FloatTag> di;
  // Adding 1.5 * 2^23 rounds x / ln 2 to a whole number n and leaves it in the low bits.
  const FloatVec round = hn::Set(d, 12582912.0f);
  const FloatVec shifted = hn::MulAdd(x, hn::Set(d, 1.44269504f), round);
  const FloatVec n = hn::Sub(shifted, round);
  // ln 2 in two parts, of which n times the first is exact.
  FloatVec r = hn::MulAdd(n, hn::Set(d, -0.693145751953125f), x);
  r = hn::MulAdd(n, hn::Set(d, -1.428606765330187045e-6f), r);
  // Minimax on |r| <= ln 2 / 2, off by 2^-28 of e^r; the first two coefficients are 1.
  FloatVec p = hn::MulAdd(hn::Set(d, 0.0013814584f), r, hn::Set(d, 0.008368724f));
  p = hn::MulAdd(p, r, hn::Set(d, 0.04166839f));
  p = hn::MulAdd(p, r, hn::Set(d, 0.16666521f));
  p = hn::MulAdd(p, r, hn::Set(d, 0.49999994f));
  p = hn::MulAdd(hn::MulAdd(p, r, hn::Set(d, 1.0f)), r, hn::Set(d, 1.0f));
  const auto scaled = hn::Add(hn::BitCast(di, p), hn::ShiftLeft<23>(hn::BitCast(di, shifted)));
  return hn::IfThenElseZero(hn::Ge(x, hn::Set(d, -87.33f)), hn::BitCast(d, scaled));
}

// sigmoid(x) and 1 - sigmoid(x), both to a few ulp: exp sees -|x| only, so it cannot overflow, and nothing cancels.
struct SigmoidPair {
  FloatVec value, complement;
};
HWY_INLINE SigmoidPair Sigmoid(FloatTag d, FloatVec x) {
  const FloatVec one = hn::Set(d, 1.0f);
  const FloatVec e = ExpOfNegative(d, hn::Or(x, hn::Set(d, -0.0f)));  // of -|x|
  const FloatVec large = hn::Div(one, hn::Add(one, e));               // of |x|
  const FloatVec small = hn::Mul(e, large);
  const auto negative = hn::Lt(x, hn::Zero(d));
  return {hn::IfThenElse(negative, small, large), hn::IfThenElse(negative, large, small)};
}

HWY_INLINE FloatVec Silu(FloatTag d, FloatVec x) { return hn::Mul(x, Sigmoid(d, x).value); }

// d silu / dx = s + x s (1 - s), s = sigmoid(x).
HWY_INLINE FloatVec SiluDerivative(FloatVec x, SigmoidPair s) {
  return hn::MulAdd(hn::Mul(x, s.value), s.complement, s.value);
}

}  // namespace HWY_NAMESPACE
}  // namespace taipan
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
