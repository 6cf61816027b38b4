#include "kernels/muon.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/parallel.h"
#include "kernels/adamw.h"
#include "kernels/element_type.h"
#include "kernels/gemm/gemm.h"
#include "kernels/gemm/gemm_tile.h"
#include "kernels/scale.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/muon.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/rounding-inl.h"
#include "kernels/simd-inl.h"

#ifndef TAIPAN_MUON_COEFFICIENTS_
#define TAIPAN_MUON_COEFFICIENTS_
namespace taipan {
namespace {

// One step of Newton and Schulz' iteration is s <- a s + b s^3 + c s^5 on every singular value. These are the best two
// for values from 0.03 to 1: docs/math/muon.md.
struct Quintic {
  float a, b, c;
};
constexpr Quintic kSteps[] = {{7.3625f, -20.7434f, 15.1606f}, {2.9175f, -2.1824f, 0.4755f}};

struct MuonCoefficients {
  float gradient_scale, momentum;
  float decay;  // lr * weight_decay
  float rate;   // of the orthogonal matrix
};

}  // namespace
}  // namespace taipan
#endif

HWY_BEFORE_NAMESPACE();
namespace taipan {
namespace HWY_NAMESPACE {
namespace {

// m <- mu m + g, u = g + mu m, g = 0; the new m is returned.
template <class T, class P>
HWY_INLINE FloatVec MomentumVector(const MuonCoefficients& c, float* gradient, const T* momentum, float* u, P part) {
  const FloatTag d;
  const FloatVec mu = hn::Set(d, c.momentum);
  const FloatVec g = hn::Mul(hn::Set(d, c.gradient_scale), Load(d, gradient, part));
  const FloatVec m = hn::MulAdd(mu, Load(d, momentum, part), g);
  Store(hn::MulAdd(mu, m, g), d, u, part);
  Store(hn::Zero(d), d, gradient, part);
  return m;
}

void MomentumSimd(const MuonCoefficients& c, int64_t n, float* gradient, float* momentum, float* u) {
  const FloatTag d;
  ForVectors(d, n, [&](int64_t i, auto part) HWY_ATTR {
    Store(MomentumVector(c, gradient + i, momentum + i, u + i, part), d, momentum + i, part);
  });
}
void MomentumRoundedSimd(const MuonCoefficients& c, int64_t n, const Rounding& rounding, float* gradient,
                         BF16* momentum, float* u) {
  const FloatTag d;
  ForGroups(rounding, n, [&](int64_t begin, int64_t count, const uint32_t* bits) HWY_ATTR {
    ForVectors(d, count, [&](int64_t k, auto part) HWY_ATTR {
      const int64_t i = begin + k;
      const FloatVec m = MomentumVector(c, gradient + i, momentum + i, u + i, part);
      StoreRounded<0>(m, d, bits + k, momentum + i, part);
    });
  });
}

void SetElement(float* at, float value) { *at = value; }
void SetElement(BF16* at, float value) { *at = ToBF16(value); }

// gram <- a I + b gram + c square.
template <class T>
void PolynomialRows(MatrixView gram, ConstMatrixView square, const Quintic& p) {
  const FloatTag d;
  const FloatVec b = hn::Set(d, p.b), c = hn::Set(d, p.c);
  for (int64_t r = 0; r < gram.rows; ++r) {
    T* const row = gram.As<T>(r);
    const float* const s = square.F32(r);
    // The diagonal's sum is rounded once, too.
    const float diagonal = p.a + (p.b * ToFloat(row[r]) + p.c * s[r]);
    ForVectors(d, gram.cols, [&](int64_t i, auto part) HWY_ATTR {
      Store(hn::MulAdd(b, Load(d, row + i, part), hn::Mul(c, Load(d, s + i, part))), d, row + i, part);
    });
    SetElement(row + r, diagonal);
  }
}
void PolynomialSimd(MatrixView gram, ConstMatrixView square, const Quintic& p) {
  WithElementType(gram.dtype, [&](auto t) { PolynomialRows<decltype(t)>(gram, square, p); });
}

// w <- w - (decay w + rate o), and its copy.
template <class T, bool kCopy>
void DescendBlock(const MuonCoefficients& c, int64_t n, const T* o, float* w, BF16* copy) {
  const FloatTag d;
  const FloatVec decay = hn::Set(d, c.decay), rate = hn::Set(d, c.rate);
  ForVectors(d, n, [&](int64_t i, auto part) HWY_ATTR {
    const FloatVec old = Load(d, w + i, part);
    const FloatVec now = hn::Sub(old, hn::MulAdd(decay, old, hn::Mul(rate, Load(d, o + i, part))));
    Store(now, d, w + i, part);
    if constexpr (kCopy) Store(now, d, copy + i, part);
  });
}
void DescendSimd(const MuonCoefficients& c, ConstMatrixView o, float* w, BF16* copy) {
  WithElementType(o.dtype, [&](auto t) {
    using T = decltype(t);
    const int64_t n = o.rows * o.cols;
    copy != nullptr ? DescendBlock<T, true>(c, n, o.As<T>(), w, copy)
                    : DescendBlock<T, false>(c, n, o.As<T>(), w, nullptr);
  });
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace taipan
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace taipan {
namespace {

HWY_EXPORT(MomentumSimd);
HWY_EXPORT(MomentumRoundedSimd);
HWY_EXPORT(PolynomialSimd);
HWY_EXPORT(DescendSimd);

void StepOf(const MuonMatrix& w, const MuonSettings& settings, Arena& scratch) {
  const int64_t m = w.param.rows, n = w.param.cols, size = m * n;
  const MuonCoefficients c{
      .gradient_scale = settings.gradient_scale,
      .momentum = static_cast<float>(settings.momentum),
      .decay = static_cast<float>(settings.lr * settings.weight_decay),
      .rate = static_cast<float>(settings.lr * w.rate * 0.2 * std::sqrt(static_cast<double>(std::max(m, n)))),
  };
  const Arena::Scope scope(scratch);
  const MatrixView u = scratch.Matrix(m, n);
  if (w.momentum.dtype == DType::kF32) {
    HWY_DYNAMIC_DISPATCH(MomentumSimd)(c, size, w.gradient.F32(), w.momentum.F32(), u.F32());
  } else {
    HWY_DYNAMIC_DISPATCH(MomentumRoundedSimd)
    (c, size, w.rounding, w.gradient.F32(), w.momentum.As<BF16>(), u.F32());
  }
  const MatrixView x = scratch.Matrix(m, n, MuonProductType());
  // The norm of what is smaller than a normal float is not to be divided by: such a matrix counts as zero.
  const double norm = std::sqrt(SquaredNorm(u.F32(), size));
  Scale(u, norm > 1e-37 ? static_cast<float>(1 / norm) : 0.0f, x);
  HWY_DYNAMIC_DISPATCH(DescendSimd)
  (c, Orthogonalise(x, scratch), w.param.F32(), w.bf16 ? w.bf16.As<BF16>() : nullptr);
}

bool WithoutGaps(ConstMatrixView v, const MuonMatrix& of) {
  return v.rows == of.param.rows && v.cols == of.param.cols && v.stride == v.cols;
}

// FLOPs, but for a factor.
double Work(const MuonMatrix& w) {
  const double k = static_cast<double>(std::min(w.param.rows, w.param.cols));
  return k * k * (3 * static_cast<double>(std::max(w.param.rows, w.param.cols)) + k);
}

// What is below the diagonal, in tiles that stay in the nearest cache.
void Mirror(MatrixView s) {
  constexpr int64_t kTile = 16;
  WithElementType(s.dtype, [&](auto t) {
    using T = decltype(t);
    for (int64_t r0 = 0; r0 < s.rows; r0 += kTile) {
      for (int64_t c0 = 0; c0 <= r0; c0 += kTile) {
        for (int64_t r = r0; r < std::min(r0 + kTile, s.rows); ++r) {
          for (int64_t c = c0; c < std::min(c0 + kTile, r); ++c) s.As<T>(r)[c] = s.As<T>(c)[r];
        }
      }
    }
  });
}

// C = op(A) op(B) where that is symmetric: of a block of rows only what is not left of its diagonal is computed.
void SymmetricProduct(ConstMatrixView a, bool transpose_a, ConstMatrixView b, bool transpose_b, MatrixView c) {
  constexpr int64_t kRows = 96;
  const int64_t k = transpose_a ? a.rows : a.cols;
  for (int64_t r = 0; r < c.rows; r += kRows) {
    const int64_t rows = std::min(kRows, c.rows - r);
    TileProduct(k, a.dtype, {(transpose_a ? a.Cols(r, rows) : a.Rows(r, rows)).data, a.stride, transpose_a},
                TileColumns({b.data, b.stride, transpose_b}, b.dtype, r), c.Rows(r, rows).Cols(r, c.cols - r), false);
  }
  Mirror(c);
}

// At least the largest singular value of X, at most k^(1/8) times it: the eighth root of the sum of their eighth
// powers, from (X X^T)^2, and a hundredth for its rounding.
float NormBound(ConstMatrixView square) {
  return 1.01f * static_cast<float>(std::pow(SquaredNorm(square.F32(), square.rows * square.cols), 0.125));
}

// Of s / norm.
Quintic OfQuotient(const Quintic& p, float norm) {
  if (norm == 0) return {0, 0, 0};
  const float cube = norm * norm * norm;
  return {p.a / norm, p.b / cube, p.c / (cube * norm * norm)};
}

}  // namespace

DType MuonProductType() { return ActiveProductIsa() >= ProductIsa::kAvx512BF16 ? DType::kBF16 : DType::kF32; }

MatrixView Orthogonalise(MatrixView x, Arena& scratch) {
  const bool wide = x.rows <= x.cols;
  const int64_t k = std::min(x.rows, x.cols);
  MatrixView next = scratch.Matrix(x.rows, x.cols, x.dtype);
  const MatrixView gram = scratch.Matrix(k, k, x.dtype), square = scratch.Matrix(k, k);
  for (const Quintic& step : kSteps) {
    SymmetricProduct(x, !wide, x, wide, gram);
    SymmetricProduct(gram, false, gram, false, square);
    const float norm = &step == kSteps ? NormBound(square) : 1.0f;
    HWY_DYNAMIC_DISPATCH(PolynomialSimd)(gram, square, OfQuotient(step, norm));
    wide ? MatMul(gram, false, x, false, next, Accumulate::kWrite)
         : MatMul(x, false, gram, false, next, Accumulate::kWrite);
    std::swap(x, next);
  }
  return x;
}

void Muon(std::span<const MuonMatrix> matrices, const MuonSettings& settings, std::vector<Arena>& scratch) {
  for (const MuonMatrix& w : matrices) {
    CHECK(WithoutGaps(w.param, w) && WithoutGaps(w.gradient, w) && WithoutGaps(w.momentum, w));
    CHECK(!w.bf16 || WithoutGaps(w.bf16, w));
    CHECK_EQ(w.rounding.first % Rounding::kGroup, 0u);
  }
  // The largest first: what is left at the end is small, and threads end together.
  std::vector<size_t> order(matrices.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return Work(matrices[a]) > Work(matrices[b]); });
  scratch.resize(std::max(scratch.size(), static_cast<size_t>(NumThreads())));
  for (Arena& arena : scratch) arena.Reset();
  ParallelFor(static_cast<int64_t>(order.size()), [&](int64_t i, int thread) {
    StepOf(matrices[order[static_cast<size_t>(i)]], settings, scratch[static_cast<size_t>(thread)]);
  });
}

}  // namespace taipan
#endif  // HWY_ONCE
