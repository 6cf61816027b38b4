#include "kernels/swiglu.h"

#include "base/parallel.h"
#include "kernels/tile_partials.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/swiglu.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace taipan {
namespace HWY_NAMESPACE {
namespace {

void ForwardRow(const float* gate, const float* up, int64_t n, float* y) {
  const FloatTag d;
  ForVectors(d, n, [&](int64_t i, auto part) HWY_ATTR {
    Store(hn::Mul(Silu(d, Load(d, gate + i, part)), Load(d, up + i, part)), d, y + i, part);
  });
}

void BackwardRow(const float* gate, const float* up, const float* dy, int64_t n, float* dgate, float* dup) {
  const FloatTag d;
  ForVectors(d, n, [&](int64_t i, auto part) HWY_ATTR {
    const FloatVec g = Load(d, gate + i, part), u = Load(d, up + i, part), gradient = Load(d, dy + i, part);
    const SigmoidPair s = Sigmoid(d, g);
    Store(hn::Mul(hn::Mul(gradient, u), SiluDerivative(g, s)), d, dgate + i, part);
    Store(hn::Mul(gradient, hn::Mul(g, s.value)), d, dup + i, part);
  });
}

void SwigluSimd(ConstMatrixView gate, ConstMatrixView up, MatrixView y) {
  ParallelForRanges(gate.rows, RowGrain(gate.cols), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) ForwardRow(gate.F32(r), up.F32(r), gate.cols, y.F32(r));
  });
}

void SwigluBackwardSimd(ConstMatrixView gate, ConstMatrixView up, ConstMatrixView dy, MatrixView dgate,
                        MatrixView dup) {
  ParallelForRanges(gate.rows, RowGrain(gate.cols), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      BackwardRow(gate.F32(r), up.F32(r), dy.F32(r), gate.cols, dgate.F32(r), dup.F32(r));
    }
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

void CheckSameShape(ConstMatrixView a, ConstMatrixView b) {
  CHECK_EQ(a.rows, b.rows);
  CHECK_EQ(a.cols, b.cols);
}

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
