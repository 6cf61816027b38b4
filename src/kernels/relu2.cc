#include "kernels/relu2.h"

#include "kernels/elementwise.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/relu2.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace taipan {
namespace HWY_NAMESPACE {
namespace {

template <class T>
void ForwardRow(const T* x, int64_t n, T* y) {
  const FloatTag d;
  ForVectors(d, n, [&](int64_t i, auto part) HWY_ATTR {
    const FloatVec positive = hn::Max(Load(d, x + i, part), hn::Zero(d));
    Store(hn::Mul(positive, positive), d, y + i, part);
  });
}

template <class T>
void BackwardRow(const T* x, const T* dy, int64_t n, T* dx) {
  const FloatTag d;
  ForVectors(d, n, [&](int64_t i, auto part) HWY_ATTR {
    const FloatVec positive = hn::Max(Load(d, x + i, part), hn::Zero(d));
    Store(hn::Mul(hn::Add(positive, positive), Load(d, dy + i, part)), d, dx + i, part);
  });
}

void Relu2Simd(ConstMatrixView x, MatrixView y) {
  ForRows(x, [&](int64_t r, auto t) {
    using T = decltype(t);
    ForwardRow(x.As<T>(r), x.cols, y.As<T>(r));
  });
}

void Relu2BackwardSimd(ConstMatrixView x, ConstMatrixView dy, MatrixView dx) {
  ForRows(x, [&](int64_t r, auto t) {
    using T = decltype(t);
    BackwardRow(x.As<T>(r), dy.As<T>(r), x.cols, dx.As<T>(r));
  });
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace taipan
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace taipan {
namespace {

HWY_EXPORT(Relu2Simd);
HWY_EXPORT(Relu2BackwardSimd);

}  // namespace

void Relu2(ConstMatrixView x, MatrixView y) {
  CheckSameShape(x, y);
  HWY_DYNAMIC_DISPATCH(Relu2Simd)(x, y);
}

void Relu2Backward(ConstMatrixView x, ConstMatrixView dy, MatrixView dx) {
  CheckSameShape(x, dy);
  CheckSameShape(x, dx);
  HWY_DYNAMIC_DISPATCH(Relu2BackwardSimd)(x, dy, dx);
}

}  // namespace taipan
#endif  // HWY_ONCE
