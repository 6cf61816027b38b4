#include "kernels/rms_norm.h"

#include <cmath>
#include <memory>

#include "base/parallel.h"
#include "kernels/element_type.h"
#include "kernels/gemm/tile_partials.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/rms_norm.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/simd-inl.h"

#ifndef TAIPAN_KERNELS_RMS_NORM_TARGET_INDEPENDENT
#define TAIPAN_KERNELS_RMS_NORM_TARGET_INDEPENDENT
namespace taipan {
namespace {

// Floats of a thread's scratch for groups of n channels: threads do not share a cache line.
inline int64_t GroupBuffer(int64_t n) { return (n + 15) / 16 * 16; }

}  // namespace
}  // namespace taipan
#endif

HWY_BEFORE_NAMESPACE();
namespace taipan {
namespace HWY_NAMESPACE {
namespace {

// X, Y, T: the element types of the views, float or BF16. A group is the n channels of one row that share a norm.

HWY_INLINE float InverseRms(float sum_of_squares, int64_t n, float eps) {
  return 1.0f / std::sqrt(sum_of_squares / static_cast<float>(n) + eps);
}

// out = v * inv * weight.
template <class V, class Y>
HWY_INLINE void ScaleGroup(const V* v, float inv, const float* weight, int64_t n, Y* out) {
  const FloatTag d;
  const FloatVec scale = hn::Set(d, inv);
  ForVectors(d, n, [&](int64_t i, auto part) HWY_ATTR {
    Store(hn::Mul(hn::Mul(Load(d, v + i, part), scale), Load(d, weight + i, part)), d, out + i, part);
  });
}

template <class X, class Y>
float NormRow(const X* x, const float* weight, float eps, int64_t n, Y* out) {
  const FloatTag d;
  FloatVec squares = hn::Zero(d);
  ForVectors(d, n, [&](int64_t i, auto part) HWY_ATTR {
    const FloatVec v = Load(d, x + i, part);
    squares = hn::MulAdd(v, v, squares);
  });
  const float inv = InverseRms(SumLanes(d, squares), n, eps);
  ScaleGroup(x, inv, weight, n, out);
  return inv;
}

// v: scratch for n floats.
template <class T>
float GatedNormGroup(const T* y, const T* z, const float* weight, float eps, int64_t n, float* HWY_RESTRICT v, T* out) {
  const FloatTag d;
  FloatVec squares = hn::Zero(d);
  ForVectors(d, n, [&](int64_t i, auto part) HWY_ATTR {
    const FloatVec product = hn::Mul(Load(d, y + i, part), Silu(d, Load(d, z + i, part)));
    Store(product, d, v + i, part);
    squares = hn::MulAdd(product, product, squares);
  });
  const float inv = InverseRms(SumLanes(d, squares), n, eps);
  ScaleGroup(v, inv, weight, n, out);
  return inv;
}

template <class X, class Y>
void NormRows(ConstMatrixView x, const float* weight, float eps, MatrixView y, float* inv_rms) {
  ParallelForRanges(x.rows, RowGrain(x.cols), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const float inv = NormRow(x.As<X>(r), weight, eps, x.cols, y.As<Y>(r));
      if (inv_rms != nullptr) inv_rms[r] = inv;
    }
  });
}

template <class T>
void GatedNormRows(ConstMatrixView y, ConstMatrixView z, const float* weight, float eps, int64_t groups, MatrixView out,
                   float* inv_rms, float* buffers) {
  const int64_t n = y.cols / groups;
  ParallelForRanges(y.rows, RowGrain(y.cols), [&](int64_t begin, int64_t end, int thread) {
    float* v = buffers + thread * GroupBuffer(n);
    for (int64_t r = begin; r < end; ++r) {
      for (int64_t g = 0; g < groups; ++g) {
        const int64_t at = g * n;
        const float inv = GatedNormGroup(y.As<T>(r) + at, z.As<T>(r) + at, weight + at, eps, n, v, out.As<T>(r) + at);
        if (inv_rms != nullptr) inv_rms[r * groups + g] = inv;
      }
    }
  });
}

// Backward, with a = dout * w: dv = inv * (a - v * inv^2 * mean(a v)) and dweight += dout * v * inv.
HWY_INLINE float Pull(float inv, float dot, int64_t n) { return inv * inv * inv * (dot / static_cast<float>(n)); }

HWY_INLINE FloatVec GradientOfNormalised(FloatVec dout, FloatVec weight, FloatVec v, FloatVec inv, FloatVec pull) {
  return hn::NegMulAdd(v, pull, hn::Mul(hn::Mul(dout, weight), inv));
}

template <bool kAdd, class X, class Y>
void BackwardRow(const X* x, const float* weight, float inv_rms, const Y* dy, int64_t n, X* dx,
                 float* HWY_RESTRICT dweight) {
  const FloatTag d;
  const FloatVec inv = hn::Set(d, inv_rms);
  FloatVec dot = hn::Zero(d);
  ForVectors(d, n, [&](int64_t i, auto part) HWY_ATTR {
    const FloatVec product = hn::Mul(Load(d, dy + i, part), Load(d, x + i, part));
    dot = hn::MulAdd(product, Load(d, weight + i, part), dot);
    Store(hn::MulAdd(product, inv, Load(d, dweight + i, part)), d, dweight + i, part);
  });
  const FloatVec pull = hn::Set(d, Pull(inv_rms, SumLanes(d, dot), n));
  ForVectors(d, n, [&](int64_t i, auto part) HWY_ATTR {
    FloatVec gradient =
        GradientOfNormalised(Load(d, dy + i, part), Load(d, weight + i, part), Load(d, x + i, part), inv, pull);
    if constexpr (kAdd) gradient = hn::Add(Load(d, dx + i, part), gradient);
    Store(gradient, d, dx + i, part);
  });
}

template <class T>
struct GatedGroup {
  const T *y, *z, *dout;
  const float* weight;
  float inv;
  int64_t n;
  T *dy, *dz;
};

// scratch: 2 n floats. The first pass keeps silu(z) and its derivative there for the second.
template <class T>
void BackwardGatedGroup(const GatedGroup<T>& g, float* HWY_RESTRICT scratch, float* HWY_RESTRICT dweight) {
  const FloatTag d;
  const FloatVec inv = hn::Set(d, g.inv);
  float* HWY_RESTRICT slopes = scratch + g.n;
  FloatVec dot = hn::Zero(d);
  ForVectors(d, g.n, [&](int64_t i, auto part) HWY_ATTR {
    const FloatVec z = Load(d, g.z + i, part);
    const SigmoidPair s = Sigmoid(d, z);
    const FloatVec silu = hn::Mul(z, s.value);
    Store(silu, d, scratch + i, part);
    Store(SiluDerivative(z, s), d, slopes + i, part);
    const FloatVec product = hn::Mul(Load(d, g.dout + i, part), hn::Mul(Load(d, g.y + i, part), silu));
    dot = hn::MulAdd(product, Load(d, g.weight + i, part), dot);
    Store(hn::MulAdd(product, inv, Load(d, dweight + i, part)), d, dweight + i, part);
  });
  const FloatVec pull = hn::Set(d, Pull(g.inv, SumLanes(d, dot), g.n));
  ForVectors(d, g.n, [&](int64_t i, auto part) HWY_ATTR {
    const FloatVec y = Load(d, g.y + i, part), silu = Load(d, scratch + i, part);
    const FloatVec dv =
        GradientOfNormalised(Load(d, g.dout + i, part), Load(d, g.weight + i, part), hn::Mul(y, silu), inv, pull);
    Store(hn::Mul(dv, silu), d, g.dy + i, part);
    Store(hn::Mul(hn::Mul(dv, y), Load(d, slopes + i, part)), d, g.dz + i, part);
  });
}

template <class X, class Y>
void BackwardRows(ConstMatrixView x, const float* weight, const float* inv_rms, ConstMatrixView dy, MatrixView dx,
                  Accumulate acc, TilePartials& partials) {
  ParallelForRanges(x.rows, TilePartials::kRows, [&](int64_t begin, int64_t end) {
    float* sums = partials.ClearedTile(begin);
    for (int64_t r = begin; r < end; ++r) {
      if (acc == Accumulate::kAdd) {
        BackwardRow<true>(x.As<X>(r), weight, inv_rms[r], dy.As<Y>(r), x.cols, dx.As<X>(r), sums);
      } else {
        BackwardRow<false>(x.As<X>(r), weight, inv_rms[r], dy.As<Y>(r), x.cols, dx.As<X>(r), sums);
      }
    }
  });
}

template <class T>
void BackwardGatedRows(ConstMatrixView y, ConstMatrixView z, const float* weight, const float* inv_rms, int64_t groups,
                       ConstMatrixView dout, MatrixView dy, MatrixView dz, TilePartials& partials) {
  const int64_t n = y.cols / groups;
  ParallelForRanges(y.rows, TilePartials::kRows, [&](int64_t begin, int64_t end) {
    float* sums = partials.ClearedTile(begin);
    const auto scratch = std::make_unique_for_overwrite<float[]>(static_cast<size_t>(2 * n));
    for (int64_t r = begin; r < end; ++r) {
      for (int64_t g = 0; g < groups; ++g) {
        const int64_t at = g * n;
        const GatedGroup<T> group = {.y = y.As<T>(r) + at,
                                     .z = z.As<T>(r) + at,
                                     .dout = dout.As<T>(r) + at,
                                     .weight = weight + at,
                                     .inv = inv_rms[r * groups + g],
                                     .n = n,
                                     .dy = dy.As<T>(r) + at,
                                     .dz = dz.As<T>(r) + at};
        BackwardGatedGroup(group, scratch.get(), sums + at);
      }
    }
  });
}

void RmsNormSimd(ConstMatrixView x, const float* weight, float eps, MatrixView y, float* inv_rms) {
  if (x.dtype == y.dtype) {
    WithElementType(x.dtype, [&](auto t) { NormRows<decltype(t), decltype(t)>(x, weight, eps, y, inv_rms); });
  } else {
    NormRows<float, BF16>(x, weight, eps, y, inv_rms);
  }
}

void GatedRmsNormSimd(ConstMatrixView y, ConstMatrixView z, const float* weight, float eps, int64_t groups,
                      MatrixView out, float* inv_rms, float* buffers) {
  WithElementType(y.dtype,
                  [&](auto t) { GatedNormRows<decltype(t)>(y, z, weight, eps, groups, out, inv_rms, buffers); });
}

void RmsNormBackwardSimd(ConstMatrixView x, const float* weight, const float* inv_rms, ConstMatrixView dy,
                         MatrixView dx, Accumulate acc, TilePartials& partials) {
  if (x.dtype == dy.dtype) {
    WithElementType(x.dtype,
                    [&](auto t) { BackwardRows<decltype(t), decltype(t)>(x, weight, inv_rms, dy, dx, acc, partials); });
  } else {
    BackwardRows<float, BF16>(x, weight, inv_rms, dy, dx, acc, partials);
  }
}

void GatedRmsNormBackwardSimd(ConstMatrixView y, ConstMatrixView z, const float* weight, const float* inv_rms,
                              int64_t groups, ConstMatrixView dout, MatrixView dy, MatrixView dz,
                              TilePartials& partials) {
  WithElementType(
      y.dtype, [&](auto t) { BackwardGatedRows<decltype(t)>(y, z, weight, inv_rms, groups, dout, dy, dz, partials); });
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace taipan
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace taipan {
namespace {

HWY_EXPORT(RmsNormSimd);
HWY_EXPORT(RmsNormBackwardSimd);
HWY_EXPORT(GatedRmsNormSimd);
HWY_EXPORT(GatedRmsNormBackwardSimd);

void CheckSameShape(ConstMatrixView a, ConstMatrixView b) {
  CHECK_EQ(a.rows, b.rows);
  CHECK_EQ(a.cols, b.cols);
}

}  // namespace

void RmsNorm(ConstMatrixView x, const float* weight, float eps, MatrixView y, float* inv_rms) {
  CheckSameShape(x, y);
  HWY_DYNAMIC_DISPATCH(RmsNormSimd)(x, weight, eps, y, inv_rms);
}

void RmsNormBackward(ConstMatrixView x, const float* weight, const float* inv_rms, ConstMatrixView dy, MatrixView dx,
                     Accumulate acc, float* dweight) {
  CheckSameShape(x, dy);
  CheckSameShape(x, dx);
  CHECK(acc == Accumulate::kWrite || dx.data != dy.data);
  TilePartials partials(x.rows, x.cols);
  HWY_DYNAMIC_DISPATCH(RmsNormBackwardSimd)(x, weight, inv_rms, dy, dx, acc, partials);
  partials.AddTo(dweight);
}

void GatedRmsNorm(ConstMatrixView y, ConstMatrixView z, const float* weight, float eps, int64_t groups, MatrixView out,
                  float* inv_rms, Arena& scratch) {
  CheckSameShape(y, z);
  CheckSameShape(y, out);
  CHECK(groups >= 1 && y.cols % groups == 0);
  const Arena::Scope scope(scratch);
  float* buffers = scratch.Floats(NumThreads() * GroupBuffer(y.cols / groups));
  HWY_DYNAMIC_DISPATCH(GatedRmsNormSimd)(y, z, weight, eps, groups, out, inv_rms, buffers);
}

void GatedRmsNormBackward(ConstMatrixView y, ConstMatrixView z, const float* weight, const float* inv_rms,
                          int64_t groups, ConstMatrixView dout, MatrixView dy, MatrixView dz, float* dweight) {
  CheckSameShape(y, z);
  CheckSameShape(y, dout);
  CheckSameShape(y, dy);
  CheckSameShape(y, dz);
  CHECK(groups >= 1 && y.cols % groups == 0);
  TilePartials partials(y.rows, y.cols);
  HWY_DYNAMIC_DISPATCH(GatedRmsNormBackwardSimd)(y, z, weight, inv_rms, groups, dout, dy, dz, partials);
  partials.AddTo(dweight);
}

}  // namespace taipan
#endif  // HWY_ONCE
