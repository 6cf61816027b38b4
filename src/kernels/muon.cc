#include "kernels/muon.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/parallel.h"
#include "kernels/adamw.h"
#include "kernels/element_type.h"
#include "kernels/gemm/gemm.h"
#include "kernels/gemm/gemm_tile.h"
#include "kernels/gemm/tile_bf16.h"
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

// Rows of a symmetric matrix, in blocks of this many, are computed from where the diagonal enters their block.
constexpr int64_t kUpperBlock = 16;

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

// square <- a I + b gram + c square, in a symmetric matrix's upper blocks.
template <class T>
void PolynomialRows(ConstMatrixView gram, const Quintic& p, MatrixView square) {
  const FloatTag d;
  const FloatVec b = hn::Set(d, p.b), c = hn::Set(d, p.c);
  for (int64_t r = 0; r < gram.rows; ++r) {
    const int64_t first = r / kUpperBlock * kUpperBlock;
    const T* const from = gram.As<T>(r) + first;
    float* const to = square.F32(r) + first;
    ForVectors(d, gram.cols - first, [&](int64_t i, auto part) HWY_ATTR {
      Store(hn::MulAdd(b, Load(d, from + i, part), hn::Mul(c, Load(d, to + i, part))), d, to + i, part);
    });
    to[r - first] += p.a;
  }
}
void PolynomialSimd(ConstMatrixView gram, const Quintic& p, MatrixView square) {
  WithElementType(gram.dtype, [&](auto t) { PolynomialRows<decltype(t)>(gram, p, square); });
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

void SetElement(float* at, float value) { *at = value; }
void SetElement(BF16* at, float value) { *at = ToBF16(value); }

// Pairs of rows become pairs of a row.
void MirrorBlock(ConstMatrixView upper, MatrixView to, uint32_t* pairs) {
  const int64_t rows = upper.rows, cols = upper.cols;
  PackPairs(rows, cols, upper.F32(), upper.stride, pairs, cols);
  PackPairsTransposed(2 * cols, rows / 2, reinterpret_cast<const BF16*>(pairs), 2 * cols,
                      reinterpret_cast<uint32_t*>(to.As<BF16>()), to.stride / 2);
}

// The whole of a symmetric matrix, rounded.
void Mirror(ConstMatrixView upper, MatrixView to, Arena& scratch) {
  const Arena::Scope scope(scratch);
  const int64_t n = to.rows;
  const bool pairs = to.dtype == DType::kBF16 && n % 2 == 0;
  uint32_t* const packed = pairs ? scratch.Array<uint32_t>(kUpperBlock / 2 * n) : nullptr;
  for (int64_t at = 0; at < n; at += kUpperBlock) {
    const int64_t rows = std::min(kUpperBlock, n - at), end = at + rows;
    const ConstMatrixView block = upper.Rows(at, rows).Cols(at, n - at);
    if (pairs) {
      MirrorBlock(block, to.Rows(at, n - at).Cols(at, rows), packed);
    } else {
      WithElementType(to.dtype, [&](auto t) {
        using T = decltype(t);
        for (int64_t r = 0; r < rows; ++r) {
          for (int64_t c = 0; c < block.cols; ++c) SetElement(to.As<T>(at + c) + at + r, block.F32(r)[c]);
        }
      });
    }
    Scale(block.Cols(rows, n - end), 1.0f, to.Rows(at, rows).Cols(end, n - end));
  }
}

// Of a block of rows what is not left of its diagonal.
void UpperByRows(ConstMatrixView x, bool wide, MatrixView c) {
  constexpr int64_t kRows = 6 * kUpperBlock;
  const int64_t depth = wide ? x.cols : x.rows;
  for (int64_t r = 0; r < c.rows; r += kRows) {
    const int64_t rows = std::min(kRows, c.rows - r);
    TileProduct(depth, x.dtype, {(wide ? x.Rows(r, rows) : x.Cols(r, rows)).data, x.stride, !wide},
                TileColumns({x.data, x.stride, wide}, x.dtype, r), c.Rows(r, rows).Cols(r, c.cols - r), false);
  }
}

// Of a panel of columns the rows above it, then in steps what is not below the diagonal. A quarter faster than rows
// where oneDNN packs the operands for every block.
void UpperByColumns(ConstMatrixView x, bool wide, MatrixView c, Arena& scratch) {
  constexpr int64_t kPanel = 3 * kUpperBlock;
  const Arena::Scope scope(scratch);
  const int64_t depth = wide ? x.cols : x.rows, stride = wide ? kPanel : c.cols;
  uint32_t* const packed = scratch.Array<uint32_t>((depth + 1) / 2 * stride);
  if (!wide) PackPairs(depth, c.cols, x.As<BF16>(), x.stride, packed, stride);
  const TilePairs rows = wide ? PairsOfRows(x.As<BF16>(), x.stride) : PairsOfPackedTransposed(packed, stride);
  for (int64_t j = 0; j < c.cols; j += kPanel) {
    const int64_t end = std::min(j + kPanel, c.cols);
    if (wide) PackPairsTransposed(depth, end - j, x.As<BF16>(j), x.stride, packed, stride);
    const uint32_t* const panel = wide ? packed : packed + j;
    int64_t done = 0;
    for (int64_t from = j; from < end; from += kUpperBlock) {
      const int64_t until = std::min(from + kUpperBlock, end);
      TileGemmBF16({until - done, end - from, (depth + 1) / 2 * 2}, rows.Row(done), {panel + (from - j), stride},
                   {c.F32(done) + from, c.stride});
      done = until;
    }
  }
}

// What is not left of the diagonal of C = X X^T, of X^T X where X is not wide.
void UpperGram(ConstMatrixView x, bool wide, MatrixView c, Arena& scratch) {
  const bool pairs = x.dtype == DType::kBF16 && (!wide || x.cols % 2 == 0);
  pairs && !UsesAmxInstructions() ? UpperByColumns(x, wide, c, scratch) : UpperByRows(x, wide, c);
}

// At least the largest singular value of X, at most k^(1/8) times it: the eighth root of the sum of their eighth
// powers, from the upper half of (X X^T)^2, and a hundredth for its rounding.
float NormBound(ConstMatrixView square) {
  double sum = 0;
  for (int64_t r = 0; r < square.rows; ++r) {
    const double diagonal = square.F32(r)[r];
    sum += diagonal * diagonal + 2 * SquaredNorm(square.F32(r) + r + 1, square.cols - r - 1);
  }
  return 1.01f * static_cast<float>(std::pow(sum, 0.125));
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
    UpperGram(x, wide, square, scratch);
    Mirror(square, gram, scratch);
    UpperGram(gram, false, square, scratch);
    const float norm = &step == kSteps ? NormBound(square) : 1.0f;
    HWY_DYNAMIC_DISPATCH(PolynomialSimd)(gram, OfQuotient(step, norm), square);
    Mirror(square, gram, scratch);
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
