#include "kernels/gemm/tile_bf16_avx512.h"

#include "base/error.h"

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))

#include <immintrin.h>

#include <cstring>

#define TAIPAN_AVX512BF16 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))

namespace taipan {
namespace {

constexpr int64_t kLanes = 16;
constexpr int kRows = 8, kVectors = 3;  // of a register block: 24 sums and 3 vectors of B in 32 registers

// C[MR, NV vectors] of all k. kTail: the last vector has the lanes of `mask` only.
template <int MR, int NV, bool kTail>
TAIPAN_AVX512BF16 void Block(int64_t pairs, TilePairs a, TileB<uint32_t> b, TileC c, __mmask16 mask) {
  __m512 sum[MR][NV];
#pragma GCC unroll 8
  for (int i = 0; i < MR; ++i) {
#pragma GCC unroll 3
    for (int v = 0; v < NV; ++v) sum[i][v] = _mm512_setzero_ps();
  }
  const BF16* pa = a.data;
  for (int64_t p = 0; p < pairs; ++p, b.data += b.stride, pa += a.pair) {
    __m512bh bv[NV];
#pragma GCC unroll 3
    for (int v = 0; v < NV; ++v) {
      const bool part = kTail && v == NV - 1;
      const uint32_t* from = b.data + v * kLanes;
      bv[v] = (__m512bh)(part ? _mm512_maskz_loadu_epi32(mask, from) : _mm512_loadu_si512(from));
    }
#pragma GCC unroll 8
    for (int i = 0; i < MR; ++i) {
      int32_t two;
      std::memcpy(&two, pa + i * a.row, sizeof two);
      const __m512bh av = (__m512bh)_mm512_set1_epi32(two);
#pragma GCC unroll 3
      for (int v = 0; v < NV; ++v) sum[i][v] = _mm512_dpbf16_ps(sum[i][v], av, bv[v]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < MR; ++i) {
#pragma GCC unroll 3
    for (int v = 0; v < NV; ++v) {
      float* to = c.data + i * c.stride + v * kLanes;
      if (kTail && v == NV - 1) {
        const __m512 old = c.add ? _mm512_maskz_loadu_ps(mask, to) : _mm512_setzero_ps();
        _mm512_mask_storeu_ps(to, mask, _mm512_add_ps(old, sum[i][v]));
      } else {
        _mm512_storeu_ps(to, c.add ? _mm512_add_ps(_mm512_loadu_ps(to), sum[i][v]) : sum[i][v]);
      }
    }
  }
}

struct Product {
  int64_t m, pairs;
  TilePairs a;
  TileB<uint32_t> b;
  TileC c;
};

template <int NV, bool kTail, int MR>
TAIPAN_AVX512BF16 void RestOfRows(const Product& g, int64_t i, __mmask16 mask) {
  if constexpr (MR > 0) {
    if (g.m - i == MR) {
      Block<MR, NV, kTail>(g.pairs, g.a.Row(i), g.b, g.c.From(i, 0), mask);
    } else {
      RestOfRows<NV, kTail, MR - 1>(g, i, mask);
    }
  }
}

// All rows of NV vectors of columns.
template <int NV, bool kTail>
TAIPAN_AVX512BF16 void Columns(const Product& g, __mmask16 mask) {
  int64_t i = 0;
  for (; i + kRows <= g.m; i += kRows) Block<kRows, NV, kTail>(g.pairs, g.a.Row(i), g.b, g.c.From(i, 0), mask);
  RestOfRows<NV, kTail, kRows - 1>(g, i, mask);
}

// 16 pairs of a row of the source.
TAIPAN_AVX512BF16 inline __m512i LoadRow(const BF16* p) { return _mm512_loadu_si512(p); }
TAIPAN_AVX512BF16 inline __m512i LoadRow(const float* p) {
  return (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(p + kLanes), _mm512_loadu_ps(p));
}

// to[p][i] = pair p of row i, 16 x 16. (The forms without a mask read, says GCC 12, something uninitialized.)
constexpr __mmask16 kAll = 0xffff;
template <class T>
TAIPAN_AVX512BF16 void TransposeBlock(const T* from, int64_t ld, uint32_t* to, int64_t ld_to) {
  __m512i r[16], t[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) r[i] = LoadRow(from + i * ld);
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_maskz_unpacklo_epi32(kAll, r[i], r[i + 1]);
    t[i + 1] = _mm512_maskz_unpackhi_epi32(kAll, r[i], r[i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {  // r[i + c]: in its 128-bit part b, pair 4 b + c of rows i to i + 3
    r[i] = _mm512_maskz_unpacklo_epi64(static_cast<__mmask8>(kAll), t[i], t[i + 2]);
    r[i + 1] = _mm512_maskz_unpackhi_epi64(static_cast<__mmask8>(kAll), t[i], t[i + 2]);
    r[i + 2] = _mm512_maskz_unpacklo_epi64(static_cast<__mmask8>(kAll), t[i + 1], t[i + 3]);
    r[i + 3] = _mm512_maskz_unpackhi_epi64(static_cast<__mmask8>(kAll), t[i + 1], t[i + 3]);
  }
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {
    const __m512i even0 = _mm512_maskz_shuffle_i32x4(kAll, r[c], r[4 + c], 0x88),
                  odd0 = _mm512_maskz_shuffle_i32x4(kAll, r[c], r[4 + c], 0xdd);
    const __m512i even1 = _mm512_maskz_shuffle_i32x4(kAll, r[8 + c], r[12 + c], 0x88);
    const __m512i odd1 = _mm512_maskz_shuffle_i32x4(kAll, r[8 + c], r[12 + c], 0xdd);
    _mm512_storeu_si512(to + c * ld_to, _mm512_maskz_shuffle_i32x4(kAll, even0, even1, 0x88));
    _mm512_storeu_si512(to + (4 + c) * ld_to, _mm512_maskz_shuffle_i32x4(kAll, odd0, odd1, 0x88));
    _mm512_storeu_si512(to + (8 + c) * ld_to, _mm512_maskz_shuffle_i32x4(kAll, even0, even1, 0xdd));
    _mm512_storeu_si512(to + (12 + c) * ld_to, _mm512_maskz_shuffle_i32x4(kAll, odd0, odd1, 0xdd));
  }
}

template <class T>
TAIPAN_AVX512BF16 void TransposeBlocks(int64_t pairs, int64_t n, const T* from, int64_t ld, uint32_t* to,
                                       int64_t ld_to) {
  for (int64_t j = 0; j < n; j += kLanes) {
    for (int64_t p = 0; p < pairs; p += kLanes) TransposeBlock(from + j * ld + 2 * p, ld, to + p * ld_to + j, ld_to);
  }
}

}  // namespace

void TransposePairsAvx512BF16(int64_t pairs, int64_t n, const BF16* from, int64_t ld, uint32_t* to, int64_t ld_to) {
  TransposeBlocks(pairs, n, from, ld, to, ld_to);
}
void TransposePairsAvx512BF16(int64_t pairs, int64_t n, const float* from, int64_t ld, uint32_t* to, int64_t ld_to) {
  TransposeBlocks(pairs, n, from, ld, to, ld_to);
}

bool HasAvx512BF16() {
  static const bool has = __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  return has;
}

TAIPAN_AVX512BF16 void TileGemmAvx512BF16(TileShape shape, TilePairs a, TileB<uint32_t> b, TileC c) {
  Product g{shape.m, shape.k / 2, a, b, c};
  int64_t left = shape.n;
  const auto take = [&](int64_t columns) {
    g.b.data += columns;
    g.c.data += columns;
    left -= columns;
  };
  for (; left >= kVectors * kLanes; take(kVectors * kLanes)) Columns<kVectors, false>(g, 0);
  for (; left >= 2 * kLanes; take(2 * kLanes)) Columns<2, false>(g, 0);
  for (; left >= kLanes; take(kLanes)) Columns<1, false>(g, 0);
  if (left > 0) Columns<1, true>(g, static_cast<__mmask16>((1u << left) - 1));
}

}  // namespace taipan

#else

namespace taipan {

bool HasAvx512BF16() { return false; }
void TileGemmAvx512BF16(TileShape, TilePairs, TileB<uint32_t>, TileC) { CHECK(false); }
void TransposePairsAvx512BF16(int64_t, int64_t, const BF16*, int64_t, uint32_t*, int64_t) { CHECK(false); }
void TransposePairsAvx512BF16(int64_t, int64_t, const float*, int64_t, uint32_t*, int64_t) { CHECK(false); }

}  // namespace taipan
#endif
