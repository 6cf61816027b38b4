#include "kernels/scale.h"

#include "base/parallel.h"
#include "kernels/element_type.h"
#include "kernels/gemm/tile_partials.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/scale.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace taipan {
namespace HWY_NAMESPACE {
namespace {

template <class From, class To>
void ScaleRow(const From* from, float s, int64_t n, To* to) {
  const FloatTag d;
  const FloatVec factor = hn::Set(d, s);
  ForVectors(d, n,
             [&](int64_t i, auto part) HWY_ATTR { Store(hn::Mul(factor, Load(d, from + i, part)), d, to + i, part); });
}

void AddScaledRow(const float* x, float s, int64_t n, float* y) {
  const FloatTag d;
  const FloatVec factor = hn::Set(d, s);
  ForVectors(d, n, [&](int64_t i, auto part) HWY_ATTR {
    Store(hn::MulAdd(factor, Load(d, x + i, part), Load(d, y + i, part)), d, y + i, part);
  });
}

void MoveRow(const float* x, float share, int64_t n, float* y) {
  const FloatTag d;
  const FloatVec factor = hn::Set(d, share);
  ForVectors(d, n, [&](int64_t i, auto part) HWY_ATTR {
    const FloatVec old = Load(d, y + i, part);
    Store(hn::MulAdd(factor, hn::Sub(Load(d, x + i, part), old), old), d, y + i, part);
  });
}

void ScaleSimd(ConstMatrixView from, float s, MatrixView to) {
  WithElementType(from.dtype, [&](auto f) {
    WithElementType(to.dtype, [&](auto t) {
      ParallelForRanges(to.rows, RowGrain(to.cols), [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
          ScaleRow(from.As<decltype(f)>(r), s, to.cols, to.As<decltype(t)>(r));
        }
      });
    });
  });
}

void AddScaledSimd(ConstMatrixView x, float s, MatrixView y) {
  ParallelForRanges(y.rows, RowGrain(y.cols), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) AddScaledRow(x.F32(r), s, y.cols, y.F32(r));
  });
}

void MoveTowardsSimd(ConstMatrixView x, float share, MatrixView y) {
  ParallelForRanges(y.rows, RowGrain(y.cols), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) MoveRow(x.F32(r), share, y.cols, y.F32(r));
  });
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace taipan
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace taipan {
namespace {

HWY_EXPORT(ScaleSimd);
HWY_EXPORT(AddScaledSimd);
HWY_EXPORT(MoveTowardsSimd);

}  // namespace

void Scale(ConstMatrixView from, float s, MatrixView to) {
  CHECK_EQ(from.rows, to.rows);
  CHECK_EQ(from.cols, to.cols);
  HWY_DYNAMIC_DISPATCH(ScaleSimd)(from, s, to);
}

void AddScaled(ConstMatrixView x, float s, MatrixView y) {
  CHECK_EQ(x.rows, y.rows);
  CHECK_EQ(x.cols, y.cols);
  HWY_DYNAMIC_DISPATCH(AddScaledSimd)(x, s, y);
}

void MoveTowards(ConstMatrixView x, float share, MatrixView y) {
  CHECK_EQ(x.rows, y.rows);
  CHECK_EQ(x.cols, y.cols);
  HWY_DYNAMIC_DISPATCH(MoveTowardsSimd)(x, share, y);
}

}  // namespace taipan
#endif  // HWY_ONCE
