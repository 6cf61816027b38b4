// dt = clamp(softplus(raw + bias)): H values a token. In double vectors: they are few, and all decays come from them.

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/parallel.h"
#include "kernels/element_type.h"
#include "kernels/ssd/ssd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/ssd/ssd_time_step.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace taipan {
namespace HWY_NAMESPACE {
namespace {

using DoubleTag = hn::ScalableTag<double>;
using DoubleVec = hn::Vec<DoubleTag>;
using HalfTag = hn::Rebind<float, DoubleTag>;  // as many floats as a vector has doubles

// softplus(v) = max(v, 0) + log1p(exp(-|v|)) and its derivative, sigmoid(v).
struct SoftplusPair {
  DoubleVec value, slope;
};
HWY_INLINE SoftplusPair Softplus(DoubleTag d, DoubleVec v) {
  const DoubleVec zero = hn::Zero(d), one = hn::Set(d, 1.0);
  const DoubleVec e = hn::Exp(d, hn::Neg(hn::Abs(v)));
  const DoubleVec value = hn::Add(hn::Max(v, zero), hn::Log1p(d, e));
  return {hn::IfThenElse(hn::Eq(v, v), value, v),  // a NaN comes through
          hn::Div(hn::IfThenElse(hn::Lt(v, zero), e, one), hn::Add(one, e))};
}

// f(h, Whole or Part): h in steps of a vector over the heads.
template <class F>
HWY_INLINE void ForHeads(int64_t heads, const F& f) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(DoubleTag()));
  int64_t h = 0;
  for (; h + lanes <= heads; h += lanes) f(h, Whole());
  if (h < heads) f(h, Part{heads - h});
}

template <class T>
HWY_INLINE DoubleVec LoadDoubles(const T* p, Whole) {
  return hn::PromoteTo(DoubleTag(), LoadFloats(HalfTag(), p));
}
template <class T>
HWY_INLINE DoubleVec LoadDoubles(const T* p, Part part) {
  return hn::PromoteTo(DoubleTag(), LoadPartial(HalfTag(), p, part.n, 0.0f));
}
template <class T>
HWY_INLINE void StoreHalf(hn::Vec<HalfTag> v, T* p, Whole) {
  StoreFloats(v, HalfTag(), p);
}
template <class T>
HWY_INLINE void StoreHalf(hn::Vec<HalfTag> v, T* p, Part part) {
  StorePartial(v, HalfTag(), p, part.n);
}
HWY_INLINE void AddTo(double* sums, hn::Vec<HalfTag> v, Whole) {
  const DoubleTag d;
  hn::StoreU(hn::Add(hn::LoadU(d, sums), hn::PromoteTo(d, v)), d, sums);
}
HWY_INLINE void AddTo(double* sums, hn::Vec<HalfTag> v, Part part) {
  HWY_ALIGN float lanes[hn::MaxLanes(HalfTag())];
  hn::Store(v, HalfTag(), lanes);
  for (int64_t i = 0; i < part.n; ++i) sums[i] += static_cast<double>(lanes[i]);
}

template <class T>
void TimeStepRow(const TimeStepInputs& in, int64_t row, float* dt) {
  const DoubleTag d;
  const HalfTag df;
  const T* raw = in.raw.As<T>(row);
  ForHeads(in.raw.cols, [&](int64_t h, auto part) HWY_ATTR {
    const DoubleVec v = hn::Add(LoadDoubles(raw + h, part), LoadDoubles(in.dt_bias + h, part));
    const auto value = hn::DemoteTo(df, Softplus(d, v).value);
    const auto least = hn::Set(df, in.lo), most = hn::Set(df, in.hi);
    const auto raised = hn::IfThenElse(hn::Lt(value, least), least, value);
    StoreHalf(hn::IfThenElse(hn::Gt(value, most), most, raised), dt + h, part);
  });
}

// draw of one row, which sums [heads] take in.
template <class T>
void TimeStepBackwardRow(const TimeStepInputs& in, int64_t row, const float* ddt, T* draw, double* sums) {
  const DoubleTag d;
  const HalfTag df;
  const T* raw = in.raw.As<T>(row);
  ForHeads(in.raw.cols, [&](int64_t h, auto part) HWY_ATTR {
    const DoubleVec v = hn::Add(LoadDoubles(raw + h, part), LoadDoubles(in.dt_bias + h, part));
    const SoftplusPair softplus = Softplus(d, v);
    const auto dt = hn::DemoteTo(df, softplus.value);
    const auto inside = hn::And(hn::Ge(dt, hn::Set(df, in.lo)), hn::Le(dt, hn::Set(df, in.hi)));
    const auto slope = hn::DemoteTo(df, hn::Mul(LoadDoubles(ddt + h, part), softplus.slope));
    const auto gradient = hn::IfThenElseZero(inside, slope);
    StoreHalf(gradient, draw + h, part);
    AddTo(sums + h, gradient, part);
  });
}

// Rows [begin, end).
void TimeStepSimd(const TimeStepInputs& in, int64_t begin, int64_t end, MatrixView dt) {
  WithElementType(in.raw.dtype, [&](auto t) {
    for (int64_t r = begin; r < end; ++r) TimeStepRow<decltype(t)>(in, r, dt.F32(r));
  });
}

void TimeStepBackwardSimd(const TimeStepInputs& in, int64_t begin, int64_t end, const TimeStepGradients& out,
                          double* sums) {
  WithElementType(in.raw.dtype, [&](auto t) {
    using T = decltype(t);
    for (int64_t r = begin; r < end; ++r) TimeStepBackwardRow(in, r, out.ddt.F32(r), out.draw.As<T>(r), sums);
  });
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace taipan
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace taipan {
namespace {

HWY_EXPORT(TimeStepSimd);
HWY_EXPORT(TimeStepBackwardSimd);

constexpr int64_t kRowTile = 64;

}  // namespace

void SsdTimeStep(const TimeStepInputs& in, MatrixView dt) {
  ParallelForRanges(in.raw.rows, kRowTile, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(TimeStepSimd)(in, begin, end, dt);
  });
}

void SsdTimeStepBackward(const TimeStepInputs& in, const TimeStepGradients& out) {
  const int64_t heads = in.raw.cols, tiles = (in.raw.rows + kRowTile - 1) / kRowTile;
  std::vector<double> partial(static_cast<size_t>(tiles * heads), 0.0);
  ParallelFor(tiles, [&](int64_t tile) {
    const int64_t begin = tile * kRowTile, end = std::min(begin + kRowTile, in.raw.rows);
    HWY_DYNAMIC_DISPATCH(TimeStepBackwardSimd)(in, begin, end, out, partial.data() + tile * heads);
  });
  for (int64_t h = 0; h < heads; ++h) {
    double sum = 0;
    for (int64_t tile = 0; tile < tiles; ++tile) sum += partial[static_cast<size_t>(tile * heads + h)];
    out.ddt_bias[h] += static_cast<float>(sum);
  }
}

void DecayRates(const float* A_log, int64_t heads, float* a) {
  for (int64_t h = 0; h < heads; ++h) a[h] = -std::exp(A_log[h]);
}

void DecayRatesBackward(const float* a, const float* da, int64_t heads, float* dA_log) {
  for (int64_t h = 0; h < heads; ++h) dA_log[h] += da[h] * a[h];
}

}  // namespace taipan
#endif  // HWY_ONCE
