// Small matrix products for use inside SIMD kernels, on operands that are in cache. Include after highway.h within a
// foreach_target file (hence no ordinary include guard).
#if defined(TAIPAN_TILE_GEMM_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TAIPAN_TILE_GEMM_INL_H_
#undef TAIPAN_TILE_GEMM_INL_H_
#else
#define TAIPAN_TILE_GEMM_INL_H_
#endif

#include "hwy/highway.h"
#include "kernels/gemm/tile_operands.h"

HWY_BEFORE_NAMESPACE();
namespace taipan {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// C[MR, NV vectors] = or += A[MR, K] B[K, ...]. Each element is one chain of fused multiply-adds over k from zero: its
// value does not depend on the tile it was computed in. kTail: only the first `valid` columns of one vector exist.
template <int MR, int NV, bool kTail>
HWY_INLINE void TileGemmBlock(int64_t k, TileA a, TileB<float> b, TileC c, size_t valid) {
  const hn::ScalableTag<float> d;
  using V = hn::Vec<decltype(d)>;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto mask = hn::FirstN(d, valid);
  V acc[MR][NV];
#pragma GCC unroll 16
  for (int i = 0; i < MR; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) acc[i][v] = hn::Zero(d);
  }
  for (int64_t kk = 0; kk < k; ++kk) {
    V bv[NV];
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) {
      const float* p = b.data + kk * b.stride + v * lanes;
      bv[v] = kTail ? hn::MaskedLoad(mask, d, p) : hn::LoadU(d, p);
    }
#pragma GCC unroll 16
    for (int i = 0; i < MR; ++i) {
      const V av = hn::Set(d, a.data[i * a.row + kk * a.col]);
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) acc[i][v] = hn::MulAdd(av, bv[v], acc[i][v]);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < MR; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) {
      float* p = c.data + i * c.stride + v * lanes;
      if constexpr (kTail) {
        const V old = c.add ? hn::MaskedLoad(mask, d, p) : hn::Zero(d);
        hn::BlendedStore(hn::Add(old, acc[i][v]), mask, d, p);
      } else {
        hn::StoreU(c.add ? hn::Add(hn::LoadU(d, p), acc[i][v]) : acc[i][v], d, p);
      }
    }
  }
}

template <int MR>
HWY_INLINE void TileGemmRows(int64_t n, int64_t k, TileA a, TileB<float> b, TileC c) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t j = 0;
  for (; j + 2 * lanes <= n; j += 2 * lanes) TileGemmBlock<MR, 2, false>(k, a, b.From(0, j), c.From(0, j), 0);
  for (; j + lanes <= n; j += lanes) TileGemmBlock<MR, 1, false>(k, a, b.From(0, j), c.From(0, j), 0);
  if (j < n) TileGemmBlock<MR, 1, true>(k, a, b.From(0, j), c.From(0, j), static_cast<size_t>(n - j));
}

// C = A B, or += it. Blocks of rows by the registers there are: 12 x 2 accumulators of 32 with AVX-512, 6 x 2 of 16
// with AVX2.
HWY_INLINE void TileGemm(TileShape shape, TileA a, TileB<float> b, TileC c) {
  constexpr int kRows = HWY_TARGET <= HWY_AVX3 ? 12 : 6;
  int64_t i = 0;
  const auto [m, n, k] = shape;
  for (; i + kRows <= m; i += kRows) TileGemmRows<kRows>(n, k, a.Row(i), b, c.From(i, 0));
  for (; i + 4 <= m; i += 4) TileGemmRows<4>(n, k, a.Row(i), b, c.From(i, 0));
  for (; i < m; ++i) TileGemmRows<1>(n, k, a.Row(i), b, c.From(i, 0));
}

// to[cols, rows] (rows ld_to apart) = transpose of from[rows, cols] (rows ld_from apart), in blocks that stay in L1.
HWY_INLINE void TileTranspose(int64_t rows, int64_t cols, const float* HWY_RESTRICT from, int64_t ld_from,
                              float* HWY_RESTRICT to, int64_t ld_to) {
  constexpr int64_t kBlock = 16;
  for (int64_t r0 = 0; r0 < rows; r0 += kBlock) {
    const int64_t r1 = r0 + kBlock < rows ? r0 + kBlock : rows;
    for (int64_t c = 0; c < cols; ++c) {
      for (int64_t r = r0; r < r1; ++r) to[c * ld_to + r] = from[r * ld_from + c];
    }
  }
}

// y += a * x.
HWY_INLINE void TileAxpy(int64_t n, float a, const float* x, float* y) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto av = hn::Set(d, a);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) hn::StoreU(hn::MulAdd(av, hn::LoadU(d, x + i), hn::LoadU(d, y + i)), d, y + i);
  for (; i < n; ++i) y[i] += a * x[i];
}

// y = a * x (y may be x).
HWY_INLINE void TileScale(int64_t n, float a, const float* x, float* y) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto av = hn::Set(d, a);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) hn::StoreU(hn::Mul(av, hn::LoadU(d, x + i)), d, y + i);
  for (; i < n; ++i) y[i] = a * x[i];
}

}  // namespace HWY_NAMESPACE
}  // namespace taipan
HWY_AFTER_NAMESPACE();

#endif
