// The elementwise part of the SSD's backward within a chunk: what the triangle of C_i . B_j exp(cum_i - cum_j) dt_j
// gives its factors, in rows j of its transpose. Include after highway.h within a foreach_target file (hence no
// ordinary include guard).
#if defined(TAIPAN_SSD_TRIANGLE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TAIPAN_SSD_TRIANGLE_INL_H_
#undef TAIPAN_SSD_TRIANGLE_INL_H_
#else
#define TAIPAN_SSD_TRIANGLE_INL_H_
#endif

#include "hwy/highway.h"
#include "kernels/simd-inl.h"
#include "kernels/ssd/ssd_internal.h"

HWY_BEFORE_NAMESPACE();
namespace taipan::ssd {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using namespace taipan::HWY_NAMESPACE;  // NOLINT: the vector helpers of this target

// Rows j0 ... of the transposed triangle of one head, their columns from the chunk's start.
template <class T>
struct TriangleRows {
  const float *cb, *dm;  // rows cb_stride and q apart
  float *dcb, *dcum;     // rows q apart; [Q]
  T* m;                  // rows q apart
  float* ddt;            // [Q]
  int64_t cb_stride, q;
};

struct TriangleFactors {
  FloatVec e, dt;  // E_ij, dt_j
};

// With E_ij = exp(cum_i - cum_j): m = cb E, dcb += dm E dt_j; of w = dm cb E, w dt_j to dcum_i. Returns w.
template <class T, class P>
HWY_INLINE FloatVec TriangleElements(const TriangleRows<T>& t, int64_t r, int64_t i, P part, TriangleFactors factors,
                                     FloatVec* dcum) {
  const FloatTag d;
  const auto e = factors.e, dt = factors.dt;
  const auto grad = Load(d, t.dm + r * t.q + i, part), mask = hn::Mul(Load(d, t.cb + r * t.cb_stride + i, part), e);
  float* dcb = t.dcb + r * t.q + i;
  const auto w = hn::Mul(grad, mask);
  *dcum = hn::MulAdd(w, dt, *dcum);
  Store(hn::MulAdd(hn::Mul(grad, e), dt, Load(d, dcb, part)), d, dcb, part);
  Store(mask, d, t.m + r * t.q + i, part);
  return w;
}

// The diagonal block, rows and columns [j0, j0 + rows): nothing for i < j.
template <class T>
void DiagonalBlock(const TriangleRows<T>& t, int64_t j0, int64_t rows, Decay decay) {
  const FloatTag d;
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t j = j0 + r;
    const auto cum_j = hn::Set(d, decay.cum[j]), dt = hn::Set(d, decay.dt[j]), row = hn::Set(d, static_cast<float>(j));
    FloatVec sum = hn::Zero(d);
    ForVectors(d, rows, [&](int64_t at, auto part) HWY_ATTR {
      const int64_t i = j0 + at;
      const auto seen = hn::Ge(hn::Add(hn::Iota(d, 0.0f), hn::Set(d, static_cast<float>(i))), row);
      // The difference is never positive where seen; elsewhere, lanes beyond a part among them, it must not overflow.
      const auto e = ExpOfNegative(d, hn::Min(hn::Sub(Load(d, decay.cum + i, part), cum_j), hn::Zero(d)));
      auto dcum = Load(d, t.dcum + i, part);
      sum = hn::Add(sum, TriangleElements(t, r, i, part, {hn::IfThenElseZero(seen, e), dt}, &dcum));
      Store(dcum, d, t.dcum + i, part);
    });
    t.ddt[j] += SumLanes(d, sum);
  }
}

// Beyond it, columns [j1, length) of its kTriangleBlock rows: there E_ij = exp(cum_i - cum_last) exp(cum_last - cum_j)
// with last = j1 - 1, two factors of at most 1. after: scratch [Q].
template <class T>
void BeyondDiagonal(const TriangleRows<T>& t, int64_t j1, int64_t length, Decay decay, float* after) {
  const FloatTag d;
  constexpr int64_t kRows = 4;  // that share what columns need
  static_assert(kTriangleBlock % kRows == 0);
  const auto last = hn::Set(d, decay.cum[j1 - 1]);
  ForVectors(d, length - j1, [&](int64_t at, auto part) HWY_ATTR {
    Store(ExpOfNegative(d, hn::Sub(Load(d, decay.cum + j1 + at, part), last)), d, after + at, part);
  });
  for (int64_t r0 = 0; r0 < kTriangleBlock; r0 += kRows) {
    const int64_t j = j1 - kTriangleBlock + r0;
    FloatVec until_last[kRows], dt[kRows], sums[kRows];
#pragma GCC unroll 4
    for (int64_t r = 0; r < kRows; ++r) {
      until_last[r] = ExpOfNegative(d, hn::Sub(last, hn::Set(d, decay.cum[j + r])));
      dt[r] = hn::Set(d, decay.dt[j + r]);
      sums[r] = hn::Zero(d);
    }
    ForVectors(d, length - j1, [&](int64_t at, auto part) HWY_ATTR {
      const int64_t i = j1 + at;
      const auto from_last = Load(d, after + at, part);
      auto dcum = Load(d, t.dcum + i, part);
#pragma GCC unroll 4
      for (int64_t r = 0; r < kRows; ++r) {
        const auto e = hn::Mul(from_last, until_last[r]);
        sums[r] = hn::Add(sums[r], TriangleElements(t, r0 + r, i, part, {e, dt[r]}, &dcum));
      }
      Store(dcum, d, t.dcum + i, part);
    });
#pragma GCC unroll 4
    for (int64_t r = 0; r < kRows; ++r) t.ddt[j + r] += SumLanes(d, sums[r]);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace taipan::ssd
HWY_AFTER_NAMESPACE();

#endif
