#include "kernels/rms_norm.h"

#include <cmath>
#include <memory>

#include "kernels/elementwise.h"

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

template <class T>
struct GatedGroup {
  const T *y, *z;
  const float* weight;
  int64_t n;
};
template <class T>
GatedGroup<T> GroupAt(const GatedNormInputs& in, int64_t row, int64_t group) {
  const int64_t n = in.y.cols / in.groups, at = group * n;
  return {in.y.As<T>(row) + at, in.z.As<T>(row) + at, in.weight + at, n};
}

// v: scratch for n floats.
template <class T>
float GatedNormGroup(GatedGroup<T> g, float eps, float* HWY_RESTRICT v, T* out) {
  const FloatTag d;
  FloatVec squares = hn::Zero(d);
  ForVectors(d, g.n, [&](int64_t i, auto part) HWY_ATTR {
    const FloatVec product = hn::Mul(Load(d, g.y + i, part), Silu(d, Load(d, g.z + i, part)));
    Store(product, d, v + i, part);
    squares = hn::MulAdd(product, product, squares);
  });
  const float inv = InverseRms(SumLanes(d, squares), g.n, eps);
  ScaleGroup(v, inv, g.weight, g.n, out);
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
void GatedNormRows(const GatedNormInputs& in, MatrixView out, float* inv_rms, float* buffers) {
  const int64_t n = in.y.cols / in.groups;
  ParallelForRanges(in.y.rows, RowGrain(in.y.cols), [&](int64_t begin, int64_t end, int thread) {
    float* v = buffers + thread * GroupBuffer(n);
    for (int64_t r = begin; r < end; ++r) {
      for (int64_t g = 0; g < in.groups; ++g) {
        const float inv = GatedNormGroup(GroupAt<T>(in, r, g), in.eps, v, out.As<T>(r) + g * n);
        if (inv_rms != nullptr) inv_rms[r * in.groups + g] = inv;
      }
    }
  });
}

// Backward, with a = dout * w: dv = inv * (a - v * inv^2 * mean(a v)) and dweight += dout * v * inv.
HWY_INLINE float Pull(float inv, float dot, int64_t n) { return inv * inv * inv * (dot / static_cast<float>(n)); }

HWY_INLINE FloatVec GradientOfNormalised(FloatVec dout, FloatVec weight, FloatVec v, FloatVec inv, FloatVec pull) {
  return hn::NegMulAdd(v, pull, hn::Mul(hn::Mul(dout, weight), inv));
}

template <class X, class Y>
struct NormRowGradients {
  const X* x;
  const float* weight;
  float inv;
  const Y* dy;
  X* dx;
};

template <bool kAdd, class X, class Y>
void BackwardRow(NormRowGradients<X, Y> r, int64_t n, float* HWY_RESTRICT dweight) {
  const FloatTag d;
  const FloatVec inv = hn::Set(d, r.inv);
  FloatVec dot = hn::Zero(d);
  ForVectors(d, n, [&](int64_t i, auto part) HWY_ATTR {
    const FloatVec product = hn::Mul(Load(d, r.dy + i, part), Load(d, r.x + i, part));
    dot = hn::MulAdd(product, Load(d, r.weight + i, part), dot);
    Store(hn::MulAdd(product, inv, Load(d, dweight + i, part)), d, dweight + i, part);
  });
  const FloatVec pull = hn::Set(d, Pull(r.inv, SumLanes(d, dot), n));
  ForVectors(d, n, [&](int64_t i, auto part) HWY_ATTR {
    FloatVec gradient =
        GradientOfNormalised(Load(d, r.dy + i, part), Load(d, r.weight + i, part), Load(d, r.x + i, part), inv, pull);
    if constexpr (kAdd) gradient = hn::Add(Load(d, r.dx + i, part), gradient);
    Store(gradient, d, r.dx + i, part);
  });
}

template <class T>
struct GatedGroupGradients {
  float inv;
  const T* dout;
  T *dy, *dz;
};

// scratch: 2 n floats. The first pass keeps silu(z) and its derivative there for the second.
template <class T>
void BackwardGatedGroup(GatedGroup<T> g, GatedGroupGradients<T> gradients, float* HWY_RESTRICT scratch,
                        float* HWY_RESTRICT dweight) {
  const FloatTag d;
  const FloatVec inv = hn::Set(d, gradients.inv);
  float* HWY_RESTRICT slopes = scratch + g.n;
  FloatVec dot = hn::Zero(d);
  ForVectors(d, g.n, [&](int64_t i, auto part) HWY_ATTR {
    const FloatVec z = Load(d, g.z + i, part);
    const SigmoidPair s = Sigmoid(d, z);
    const FloatVec silu = hn::Mul(z, s.value);
    Store(silu, d, scratch + i, part);
    Store(SiluDerivative(z, s), d, slopes + i, part);
    const FloatVec product = hn::Mul(Load(d, gradients.dout + i, part), hn::Mul(Load(d, g.y + i, part), silu));
    dot = hn::MulAdd(product, Load(d, g.weight + i, part), dot);
    Store(hn::MulAdd(product, inv, Load(d, dweight + i, part)), d, dweight + i, part);
  });
  const FloatVec pull = hn::Set(d, Pull(gradients.inv, SumLanes(d, dot), g.n));
  ForVectors(d, g.n, [&](int64_t i, auto part) HWY_ATTR {
    const FloatVec y = Load(d, g.y + i, part), silu = Load(d, scratch + i, part);
    const FloatVec dout = Load(d, gradients.dout + i, part);
    const FloatVec dv = GradientOfNormalised(dout, Load(d, g.weight + i, part), hn::Mul(y, silu), inv, pull);
    Store(hn::Mul(dv, silu), d, gradients.dy + i, part);
    Store(hn::Mul(hn::Mul(dv, y), Load(d, slopes + i, part)), d, gradients.dz + i, part);
  });
}

template <class X, class Y>
void BackwardRows(ConstMatrixView x, const float* weight, const float* inv_rms, const RmsNormGradients& g,
                  TilePartials& partials) {
  ParallelForRanges(x.rows, TilePartials::kRows, [&](int64_t begin, int64_t end) {
    float* sums = partials.ClearedTile(begin);
    for (int64_t r = begin; r < end; ++r) {
      const NormRowGradients<X, Y> row = {x.As<X>(r), weight, inv_rms[r], g.dy.As<Y>(r), g.dx.As<X>(r)};
      if (g.acc == Accumulate::kAdd) {
        BackwardRow<true>(row, x.cols, sums);
      } else {
        BackwardRow<false>(row, x.cols, sums);
      }
    }
  });
}

template <class T>
void BackwardGatedRows(const GatedNormInputs& in, const float* inv_rms, const GatedNormGradients& g,
                       TilePartials& partials) {
  const int64_t n = in.y.cols / in.groups;
  ParallelForRanges(in.y.rows, TilePartials::kRows, [&](int64_t begin, int64_t end) {
    float* sums = partials.ClearedTile(begin);
    const auto scratch = std::make_unique_for_overwrite<float[]>(static_cast<size_t>(2 * n));
    for (int64_t r = begin; r < end; ++r) {
      for (int64_t i = 0; i < in.groups; ++i) {
        const int64_t at = i * n;
        const GatedGroupGradients<T> gradients = {.inv = inv_rms[r * in.groups + i],
                                                  .dout = g.dout.As<T>(r) + at,
                                                  .dy = g.dy.As<T>(r) + at,
                                                  .dz = g.dz.As<T>(r) + at};
        BackwardGatedGroup(GroupAt<T>(in, r, i), gradients, scratch.get(), sums + at);
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

void GatedRmsNormSimd(const GatedNormInputs& in, MatrixView out, float* inv_rms, float* buffers) {
  WithElementType(in.y.dtype, [&](auto t) { GatedNormRows<decltype(t)>(in, out, inv_rms, buffers); });
}

void RmsNormBackwardSimd(ConstMatrixView x, const float* weight, const float* inv_rms, const RmsNormGradients& g,
                         TilePartials& partials) {
  if (x.dtype == g.dy.dtype) {
    WithElementType(x.dtype, [&](auto t) { BackwardRows<decltype(t), decltype(t)>(x, weight, inv_rms, g, partials); });
  } else {
    BackwardRows<float, BF16>(x, weight, inv_rms, g, partials);
  }
}

void GatedRmsNormBackwardSimd(const GatedNormInputs& in, const float* inv_rms, const GatedNormGradients& g,
                              TilePartials& partials) {
  WithElementType(in.y.dtype, [&](auto t) { BackwardGatedRows<decltype(t)>(in, inv_rms, g, partials); });
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

void CheckGatedInputs(const GatedNormInputs& in) {
  CheckSameShape(in.y, in.z);
  CHECK(in.groups >= 1 && in.y.cols % in.groups == 0);
}

}  // namespace

void RmsNorm(ConstMatrixView x, const float* weight, float eps, MatrixView y, float* inv_rms) {
  CheckSameShape(x, y);
  HWY_DYNAMIC_DISPATCH(RmsNormSimd)(x, weight, eps, y, inv_rms);
}

void RmsNormBackward(ConstMatrixView x, const float* weight, const float* inv_rms, const RmsNormGradients& out) {
  CheckSameShape(x, out.dy);
  CheckSameShape(x, out.dx);
  CHECK(out.acc == Accumulate::kWrite || out.dx.data != out.dy.data);
  TilePartials partials(x.rows, x.cols);
  HWY_DYNAMIC_DISPATCH(RmsNormBackwardSimd)(x, weight, inv_rms, out, partials);
  partials.AddTo(out.dweight);
}

void GatedRmsNorm(const GatedNormInputs& in, MatrixView out, float* inv_rms, Arena& scratch) {
  CheckGatedInputs(in);
  CheckSameShape(in.y, out);
  const Arena::Scope scope(scratch);
  float* buffers = scratch.Floats(NumThreads() * GroupBuffer(in.y.cols / in.groups));
  HWY_DYNAMIC_DISPATCH(GatedRmsNormSimd)(in, out, inv_rms, buffers);
}

void GatedRmsNormBackward(const GatedNormInputs& in, const float* inv_rms, const GatedNormGradients& out) {
  CheckGatedInputs(in);
  for (const ConstMatrixView other : {out.dout, ConstMatrixView(out.dy), ConstMatrixView(out.dz)}) {
    CheckSameShape(in.y, other);
  }
  TilePartials partials(in.y.rows, in.y.cols);
  HWY_DYNAMIC_DISPATCH(GatedRmsNormBackwardSimd)(in, inv_rms, out, partials);
  partials.AddTo(out.dweight);
}

}  // namespace taipan
#endif  // HWY_ONCE
