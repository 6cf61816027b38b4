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

HWY_INLINE FloatVec Load(FloatTag d, const float* p, Whole) { return hn::LoadU(d, p); }
HWY_INLINE FloatVec Load(FloatTag d, const float* p, Part part) { return LoadPartial(d, p, part.n, 0.0f); }
HWY_INLINE void Store(FloatVec v, FloatTag d, float* p, Whole) { hn::StoreU(v, d, p); }
HWY_INLINE void Store(FloatVec v, FloatTag d, float* p, Part part) { StorePartial(v, d, p, part.n); }

// f(i, Whole or Part) over [0, n). f: a generic lambda marked HWY_ATTR.
template <class F>
HWY_INLINE void ForVectors(FloatTag d, int64_t n, const F& f) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) f(i, Whole());
  if (i < n) f(i, Part{n - i});
}

HWY_INLINE float SumLanes(FloatTag d, FloatVec v) { return hn::GetLane(hn::SumOfLanes(d, v)); }

// sigmoid(x) and 1 - sigmoid(x), both to a few ulp: exp sees -|x| only, so it cannot overflow, and nothing cancels.
struct SigmoidPair {
  FloatVec value, complement;
};
HWY_INLINE SigmoidPair Sigmoid(FloatTag d, FloatVec x) {
  const FloatVec one = hn::Set(d, 1.0f);
  const FloatVec e = hn::Exp(d, hn::Neg(hn::Abs(x)));
  const FloatVec large = hn::Div(one, hn::Add(one, e));  // of |x|
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
