#include "kernels/rms_norm.h"

#include <cmath>

#include "base/parallel.h"
#include "kernels/tile_partials.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/rms_norm.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace taipan {
namespace HWY_NAMESPACE {
namespace {

// One group of one row, n channels. With a gate, what is normalised is v = x * silu(z).
template <bool kGated>
HWY_INLINE FloatVec Normalised(FloatTag d, FloatVec x, FloatVec z) {
  if constexpr (kGated) return hn::Mul(x, Silu(d, z));
  return x;
}

template <bool kGated>
float NormGroup(const float* x, const float* z, const float* weight, float eps, int64_t n, float* out) {
  const FloatTag d;
  FloatVec squares = hn::Zero(d);
  ForVectors(d, n, [&](int64_t i, auto part) HWY_ATTR {
    FloatVec v = Load(d, x + i, part);
    if constexpr (kGated) {
      v = Normalised<true>(d, v, Load(d, z + i, part));
      Store(v, d, out + i, part);  // the second pass reads it back
    }
    squares = hn::MulAdd(v, v, squares);
  });
  const float inv = 1.0f / std::sqrt(SumLanes(d, squares) / static_cast<float>(n) + eps);
  const FloatVec scale = hn::Set(d, inv);
  const float* v = kGated ? out : x;
  ForVectors(d, n, [&](int64_t i, auto part) HWY_ATTR {
    Store(hn::Mul(hn::Mul(Load(d, v + i, part), scale), Load(d, weight + i, part)), d, out + i, part);
  });
  return inv;
}

template <bool kGated>
void NormRows(ConstMatrixView x, ConstMatrixView z, const float* weight, float eps, int64_t groups, MatrixView out,
              float* inv_rms) {
  const int64_t n = x.cols / groups;
  ParallelForRanges(x.rows, RowGrain(x.cols), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      for (int64_t g = 0; g < groups; ++g) {
        const float* gate = kGated ? z.F32(r) + g * n : nullptr;
        const float inv = NormGroup<kGated>(x.F32(r) + g * n, gate, weight + g * n, eps, n, out.F32(r) + g * n);
        if (inv_rms != nullptr) inv_rms[r * groups + g] = inv;
      }
    }
  });
}

struct GroupBackward {
  const float *x, *z, *weight, *dout;
  float inv;
  int64_t n;
};

// With a = dout * w: dv = inv * (a - v * inv^2 * mean(a v)). This is inv^3 * mean(a v), and dweight += dout * v * inv.
template <bool kGated>
float SumsOfGroup(const GroupBackward& g, float* dweight) {
  const FloatTag d;
  const FloatVec inv = hn::Set(d, g.inv);
  FloatVec dot = hn::Zero(d);
  ForVectors(d, g.n, [&](int64_t i, auto part) HWY_ATTR {
    const FloatVec z = kGated ? Load(d, g.z + i, part) : hn::Zero(d);
    const FloatVec v = Normalised<kGated>(d, Load(d, g.x + i, part), z);
    const FloatVec product = hn::Mul(Load(d, g.dout + i, part), v);
    dot = hn::MulAdd(product, Load(d, g.weight + i, part), dot);
    Store(hn::MulAdd(product, inv, Load(d, dweight + i, part)), d, dweight + i, part);
  });
  return g.inv * g.inv * g.inv * (SumLanes(d, dot) / static_cast<float>(g.n));
}

HWY_INLINE FloatVec GradientOfNormalised(FloatVec dout, FloatVec weight, FloatVec v, FloatVec inv, FloatVec pull) {
  return hn::NegMulAdd(v, pull, hn::Mul(hn::Mul(dout, weight), inv));
}

template <bool kAdd>
void BackwardGroup(const GroupBackward& g, float* dx, float* dweight) {
  const FloatTag d;
  const FloatVec pull = hn::Set(d, SumsOfGroup<false>(g, dweight)), inv = hn::Set(d, g.inv);
  ForVectors(d, g.n, [&](int64_t i, auto part) HWY_ATTR {
    FloatVec gradient =
        GradientOfNormalised(Load(d, g.dout + i, part), Load(d, g.weight + i, part), Load(d, g.x + i, part), inv, pull);
    if constexpr (kAdd) gradient = hn::Add(Load(d, dx + i, part), gradient);
    Store(gradient, d, dx + i, part);
  });
}

// silu(z) is computed in both passes: that is cheaper than the memory to keep it.
void BackwardGatedGroup(const GroupBackward& g, float* dy, float* dz, float* dweight) {
  const FloatTag d;
  const FloatVec pull = hn::Set(d, SumsOfGroup<true>(g, dweight)), inv = hn::Set(d, g.inv);
  ForVectors(d, g.n, [&](int64_t i, auto part) HWY_ATTR {
    const FloatVec y = Load(d, g.x + i, part), z = Load(d, g.z + i, part);
    const SigmoidPair s = Sigmoid(d, z);
    const FloatVec silu = hn::Mul(z, s.value);
    const FloatVec dv =
        GradientOfNormalised(Load(d, g.dout + i, part), Load(d, g.weight + i, part), hn::Mul(y, silu), inv, pull);
    Store(hn::Mul(dv, silu), d, dy + i, part);
    Store(hn::Mul(hn::Mul(dv, y), SiluDerivative(z, s)), d, dz + i, part);
  });
}

void RmsNormSimd(ConstMatrixView x, const float* weight, float eps, MatrixView y, float* inv_rms) {
  NormRows<false>(x, {}, weight, eps, 1, y, inv_rms);
}

void GatedRmsNormSimd(ConstMatrixView y, ConstMatrixView z, const float* weight, float eps, int64_t groups,
                      MatrixView out, float* inv_rms) {
  NormRows<true>(y, z, weight, eps, groups, out, inv_rms);
}

void RmsNormBackwardSimd(ConstMatrixView x, const float* weight, const float* inv_rms, ConstMatrixView dy,
                         MatrixView dx, Accumulate acc, float* dweight) {
  TilePartials partials(x.rows, x.cols);
  ParallelForRanges(x.rows, TilePartials::kRows, [&](int64_t begin, int64_t end) {
    float* sums = partials.Tile(begin);
    for (int64_t r = begin; r < end; ++r) {
      const GroupBackward row = {x.F32(r), nullptr, weight, dy.F32(r), inv_rms[r], x.cols};
      if (acc == Accumulate::kAdd) {
        BackwardGroup<true>(row, dx.F32(r), sums);
      } else {
        BackwardGroup<false>(row, dx.F32(r), sums);
      }
    }
  });
  partials.AddTo(dweight);
}

void GatedRmsNormBackwardSimd(ConstMatrixView y, ConstMatrixView z, const float* weight, const float* inv_rms,
                              int64_t groups, ConstMatrixView dout, MatrixView dy, MatrixView dz, float* dweight) {
  TilePartials partials(y.rows, y.cols);
  const int64_t n = y.cols / groups;
  ParallelForRanges(y.rows, TilePartials::kRows, [&](int64_t begin, int64_t end) {
    float* sums = partials.Tile(begin);
    for (int64_t r = begin; r < end; ++r) {
      for (int64_t g = 0; g < groups; ++g) {
        const int64_t at = g * n;
        const GroupBackward group = {y.F32(r) + at,    z.F32(r) + at,           weight + at,
                                     dout.F32(r) + at, inv_rms[r * groups + g], n};
        BackwardGatedGroup(group, dy.F32(r) + at, dz.F32(r) + at, sums + at);
      }
    }
  });
  partials.AddTo(dweight);
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
  HWY_DYNAMIC_DISPATCH(RmsNormBackwardSimd)(x, weight, inv_rms, dy, dx, acc, dweight);
}

void GatedRmsNorm(ConstMatrixView y, ConstMatrixView z, const float* weight, float eps, int64_t groups, MatrixView out,
                  float* inv_rms) {
  CheckSameShape(y, z);
  CheckSameShape(y, out);
  CHECK(groups >= 1 && y.cols % groups == 0);
  HWY_DYNAMIC_DISPATCH(GatedRmsNormSimd)(y, z, weight, eps, groups, out, inv_rms);
}

void GatedRmsNormBackward(ConstMatrixView y, ConstMatrixView z, const float* weight, const float* inv_rms,
                          int64_t groups, ConstMatrixView dout, MatrixView dy, MatrixView dz, float* dweight) {
  CheckSameShape(y, z);
  CheckSameShape(y, dout);
  CheckSameShape(y, dy);
  CheckSameShape(y, dz);
  CHECK(groups >= 1 && y.cols % groups == 0);
  HWY_DYNAMIC_DISPATCH(GatedRmsNormBackwardSimd)(y, z, weight, inv_rms, groups, dout, dy, dz, dweight);
}

}  // namespace taipan
#endif  // HWY_ONCE
