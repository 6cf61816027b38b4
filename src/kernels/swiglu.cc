#include "kernels/swiglu.h"

#include "kernels/elementwise.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/swiglu.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace taipan {
namespace HWY_NAMESPACE {
namespace {

template <class T>
void ForwardRow(const T* gate, const T* up, int64_t n, T* y) {
  const FloatTag d;
  ForVectors(d, n, [&](int64_t i, auto part) HWY_ATTR {
    Store(hn::Mul(Silu(d, Load(d, gate + i, part)), Load(d, up + i, part)), d, y + i, part);
  });
}

template <class T>
void BackwardRow(const T* gate, const T* up, const T* dy, int64_t n, T* dgate, T* dup) {
  const FloatTag d;
  ForVectors(d, n, [&](int64_t i, auto part) HWY_ATTR {
    const FloatVec g = Load(d, gate + i, part), u = Load(d, up + i, part), gradient = Load(d, dy + i, part);
    const SigmoidPair s = Sigmoid(d, g);
    Store(hn::Mul(hn::Mul(gradient, u), SiluDerivative(g, s)), d, dgate + i, part);
    Store(hn::Mul(gradient, hn::Mul(g, s.value)), d, dup + i, part);
  });
}

void SwigluSimd(ConstMatrixView gate, ConstMatrixView up, MatrixView y) {
  ForRows(gate, [&](int64_t r, auto t) {
    using T = decltype(t);
    ForwardRow(gate.As<T>(r), up.As<T>(r), gate.cols, y.As<T>(r));
  });
}

void SwigluBackwardSimd(ConstMatrixView gate, ConstMatrixView up, ConstMatrixView dy, MatrixView dgate,
                        MatrixView dup) {
  ForRows(gate, [&](int64_t r, auto t) {
    using T = decltype(t);
    BackwardRow(gate.As<T>(r), up.As<T>(r), dy.As<T>(r), gate.cols, dgate.As<T>(r), dup.As<T>(r));
  });
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace taipan
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace taipan {
namespace {

HWY_EXPORT(SwigluSimd);
HWY_EXPORT(SwigluBackwardSimd);

}  // namespace

void Swiglu(ConstMatrixView gate, ConstMatrixView up, MatrixView y) {
  CheckSameShape(gate, up);
  CheckSameShape(gate, y);
  HWY_DYNAMIC_DISPATCH(SwigluSimd)(gate, up, y);
}

void SwigluBackward(ConstMatrixView gate, ConstMatrixView up, ConstMatrixView dy, MatrixView dgate, MatrixView dup) {
  CheckSameShape(gate, up);
  CheckSameShape(gate, dy);
  CheckSameShape(gate, dgate);
  CheckSameShape(gate, dup);
  HWY_DYNAMIC_DISPATCH(SwigluBackwardSimd)(gate, up, dy, dgate, dup);
}

}  // namespace taipan
#endif  // HWY_ONCE
