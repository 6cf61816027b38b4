#include "kernels/gemm/gemm_amx.h"

#include <algorithm>
#include <cstring>
#include <type_traits>
#include <vector>

#include "base/error.h"

#if defined(__x86_64__) && defined(__linux__) && (defined(__GNUC__) || defined(__clang__))

// GCC 12 takes the lanes that its own intrinsics leave open for an oversight.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>

#include "kernels/gemm/amx_tiles.h"
#include "kernels/gemm/tile_bf16_avx512.h"

#define TAIPAN_AMX __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))

namespace taipan {
namespace {

using amx::kRowBytes;
using amx::kTile;

constexpr int64_t kDepth = 2 * kTile;              // of k in a tile
constexpr int64_t kTileElements = kTile * kDepth;  // of an operand: 1 KiB
constexpr int64_t kCache = int64_t{5} << 18;       // bytes of packed operands that stay in the L2 cache

int64_t Tiled(int64_t n, int64_t tile) { return (n + tile - 1) / tile; }

// Element (p, i) of a matrix whose rows run along k or across it.
struct Operand {
  const BF16* data;
  int64_t stride;
  bool k_adjacent;  // (p, i) at data[i * stride + p], else at data[p * stride + i]

  const BF16* At(int64_t p, int64_t i) const { return data + (k_adjacent ? i * stride + p : p * stride + i); }
};

// Rows [16][16 pairs]: of i, with k along the row.
TAIPAN_AMX void CopyRows(const BF16* from, int64_t stride, uint32_t* to) {
  for (int64_t i = 0; i < kTile; ++i, from += stride, to += kTile) _mm512_storeu_si512(to, _mm512_loadu_si512(from));
}
// Rows of pairs of k [16][16]: of k, with i along the row.
TAIPAN_AMX void PairRows(const BF16* from, int64_t stride, uint32_t* to) {
  for (int64_t p = 0; p < kTile; ++p, from += 2 * stride, to += kTile) {
    const __m512i even = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
    const __m512i odd = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + stride)));
    _mm512_storeu_si512(to, _mm512_or_si512(even, _mm512_slli_epi32(odd, 16)));
  }
}

// The 32 x 16 elements from (p, i) on, as the left operand's tile (i down, pairs of k along) or the right one's.
template <bool kLeft>
void PackWhole(Operand from, int64_t p, int64_t i, uint32_t* to) {
  const BF16* at = from.At(p, i);
  if (from.k_adjacent && kLeft) return CopyRows(at, from.stride, to);
  if (from.k_adjacent) return TransposePairsAvx512BF16(kTile, kTile, at, from.stride, to, kTile);
  if (!kLeft) return PairRows(at, from.stride, to);
  alignas(64) uint32_t pairs[kTile * kTile];
  PairRows(at, from.stride, pairs);
  TransposePairsAvx512BF16(kTile, kTile, reinterpret_cast<const BF16*>(pairs), kDepth, to, kTile);
}
// Where the matrix ends within the tile: zeros beyond.
template <bool kLeft>
void PackPart(Operand from, int64_t p, int64_t i, int64_t depth, int64_t count, uint32_t* to) {
  std::memset(to, 0, kTileElements * sizeof(BF16));
  BF16* out = reinterpret_cast<BF16*>(to);
  for (int64_t q = 0; q < depth; ++q) {
    for (int64_t j = 0; j < count; ++j) {
      out[kLeft ? j * kDepth + q : q / 2 * kDepth + 2 * j + q % 2] = *from.At(p + q, i + j);
    }
  }
}

// `count` columns of `depth` of k from (p, 0) on, as tiles [count / 16][depth / 32].
template <bool kLeft>
void Pack(Operand from, int64_t p, int64_t depth, int64_t count, uint32_t* to) {
  for (int64_t i = 0; i < count; i += kTile) {
    for (int64_t q = 0; q < depth; q += kDepth, to += kTileElements / 2) {
      const int64_t left = std::min(kDepth, depth - q), columns = std::min(kTile, count - i);
      if (left == kDepth && columns == kTile) {
        PackWhole<kLeft>(from, p + q, i, to);
      } else {
        PackPart<kLeft>(from, p + q, i, left, columns, to);
      }
    }
  }
}

// 16 rows of the left operand: tile t of k at data + t * step, its rows `stride` bytes apart.
struct LeftRows {
  const char* data;
  int64_t stride, step;
};

// Products of rows of tiles with packed columns over a part of k.
struct Part {
  const LeftRows* a;  // [tiles of m]
  const uint32_t* b;  // packed
  int64_t blocks;     // of k
  bool go_on;         // from the sums of earlier parts
};

// Sums of tiles (i, j) and, where kM and kN are 2, its neighbours below and to the right, in rows `stride` floats
// apart.
template <int kM, int kN>
void MultiplyTiles(const Part& g, int64_t i, int64_t j, float* sums, int64_t stride) {
  const int64_t panel = g.blocks * kTileElements / 2, bytes = stride * static_cast<int64_t>(sizeof(float));
  const LeftRows a0 = g.a[i], a1 = g.a[i + kM - 1];
  const uint32_t *b0 = g.b + j * panel, *b1 = b0 + panel;
  float* below = sums + kTile * stride;
  if (g.go_on) {
    TAIPAN_TILE_LOAD(0, sums, bytes);
    if constexpr (kN == 2) TAIPAN_TILE_LOAD(1, sums + kTile, bytes);
    if constexpr (kM == 2) TAIPAN_TILE_LOAD(2, below, bytes);
    if constexpr (kM == 2 && kN == 2) TAIPAN_TILE_LOAD(3, below + kTile, bytes);
  } else {
    TAIPAN_TILE_ZERO(0);
    if constexpr (kN == 2) TAIPAN_TILE_ZERO(1);
    if constexpr (kM == 2) TAIPAN_TILE_ZERO(2);
    if constexpr (kM == 2 && kN == 2) TAIPAN_TILE_ZERO(3);
  }
  for (int64_t k = 0; k < g.blocks; ++k) {
    const int64_t at = k * kTileElements / 2;
    TAIPAN_TILE_LOAD(4, a0.data + k * a0.step, a0.stride);
    TAIPAN_TILE_LOAD(6, b0 + at, kRowBytes);
    TAIPAN_TILE_PRODUCT(0, 4, 6);
    if constexpr (kN == 2) {
      TAIPAN_TILE_LOAD(7, b1 + at, kRowBytes);
      TAIPAN_TILE_PRODUCT(1, 4, 7);
    }
    if constexpr (kM == 2) {
      TAIPAN_TILE_LOAD(5, a1.data + k * a1.step, a1.stride);
      TAIPAN_TILE_PRODUCT(2, 5, 6);
      if constexpr (kN == 2) TAIPAN_TILE_PRODUCT(3, 5, 7);
    }
  }
  TAIPAN_TILE_STORE(0, sums, bytes);
  if constexpr (kN == 2) TAIPAN_TILE_STORE(1, sums + kTile, bytes);
  if constexpr (kM == 2) TAIPAN_TILE_STORE(2, below, bytes);
  if constexpr (kM == 2 && kN == 2) TAIPAN_TILE_STORE(3, below + kTile, bytes);
}

TAIPAN_AMX void StoreRows(const float* from, int64_t stride, MatrixView c, bool add) {
  for (int64_t r = 0; r < c.rows; ++r, from += stride) {
    int64_t j = 0;
    if (c.dtype == DType::kBF16) {
      BF16* to = c.As<BF16>(r);
      for (; j + kTile <= c.cols; j += kTile) {
        const __m256i narrow = (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(from + j));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + j), narrow);
      }
      for (; j < c.cols; ++j) to[j] = ToBF16(from[j]);
    } else {
      float* to = c.F32(r);
      for (; j + kTile <= c.cols; j += kTile) {
        const __m512 sum = _mm512_loadu_ps(from + j);
        _mm512_storeu_ps(to + j, add ? _mm512_add_ps(_mm512_loadu_ps(to + j), sum) : sum);
      }
      for (; j < c.cols; ++j) to[j] = add ? to[j] + from[j] : from[j];
    }
  }
}

// f(i, j, kM, kN) for all blocks of 2 x 2 tiles and what is left at the edges.
template <class F>
void ForBlocks(int64_t row_tiles, int64_t column_tiles, const F& f) {
  using One = std::integral_constant<int, 1>;
  using Two = std::integral_constant<int, 2>;
  const auto row = [&](int64_t i, auto rows) {
    int64_t j = 0;
    for (; j + 2 <= column_tiles; j += 2) f(i, j, rows, Two());
    if (j < column_tiles) f(i, j, rows, One());
  };
  int64_t i = 0;
  for (; i + 2 <= row_tiles; i += 2) row(i, Two());
  if (i < row_tiles) row(i, One());
}

uint32_t* Grown(std::vector<uint32_t>& v, int64_t size) {
  constexpr int64_t kLine = 16;
  if (static_cast<int64_t>(v.size()) < size + kLine) v.resize(static_cast<size_t>(size + kLine));
  const uintptr_t at = reinterpret_cast<uintptr_t>(v.data());
  return v.data() + (64 - at % 64) % 64 / sizeof(uint32_t);
}

// The left operand's rows of a part of k, in place where tiles can be loaded from there: rows a page apart would share
// the few places of one set of the cache.
void FindRows(Operand left, int64_t m, int64_t p, int64_t depth, uint32_t* packed, std::vector<LeftRows>& to) {
  const int64_t blocks = Tiled(depth, kDepth), stride = left.stride * static_cast<int64_t>(sizeof(BF16));
  const bool in_place = left.k_adjacent && depth % kDepth == 0 && stride % 4096 != 0;
  const int64_t whole = in_place ? m / kTile * kTile : 0;
  to.clear();
  for (int64_t i = 0; i < whole; i += kTile) {
    to.push_back({reinterpret_cast<const char*>(left.At(p, i)), stride, kRowBytes});
  }
  if (whole == m) return;
  Pack<true>({left.At(0, whole), left.stride, left.k_adjacent}, p, depth, m - whole, packed);
  for (int64_t i = whole; i < m; i += kTile, packed += blocks * kTileElements / 2) {
    to.push_back({reinterpret_cast<const char*>(packed), kRowBytes, kTileElements * 2});
  }
}

struct Buffers {
  std::vector<uint32_t> a, b, sums;
  std::vector<LeftRows> rows;
};

}  // namespace

void AmxProduct(int64_t k, TileOperand a, TileOperand b, MatrixView c, bool add) {
  CHECK_GT(k, 0);
  thread_local Buffers buffers;
  const int64_t m = c.rows, n = c.cols, row_tiles = Tiled(m, kTile), column_tiles = Tiled(n, kTile);
  const Operand left{static_cast<const BF16*>(a.data), a.stride, !a.transposed};
  const Operand right{static_cast<const BF16*>(b.data), b.stride, b.transposed};
  const int64_t fitting = kCache / ((row_tiles + column_tiles) * kTile * 2) / kDepth * kDepth;
  const int64_t part = std::max(kDepth, std::min(fitting, Tiled(k, kDepth) * kDepth));
  uint32_t* packed_a = Grown(buffers.a, row_tiles * kTile * part / 2);
  uint32_t* packed_b = Grown(buffers.b, column_tiles * kTile * part / 2);
  const int64_t stride = column_tiles * kTile;
  float* sums = part < k ? reinterpret_cast<float*>(Grown(buffers.sums, row_tiles * kTile * stride)) : nullptr;
  const amx::Tiles tiles;
  for (int64_t p = 0; p < k; p += part) {
    const int64_t depth = std::min(part, k - p);
    FindRows(left, m, p, depth, packed_a, buffers.rows);
    Pack<false>(right, p, depth, n, packed_b);
    const Part g{buffers.rows.data(), packed_b, Tiled(depth, kDepth), p > 0};
    ForBlocks(row_tiles, column_tiles, [&](int64_t i, int64_t j, auto rows, auto columns) {
      const int64_t r = i * kTile, s = j * kTile;
      if (sums != nullptr) return MultiplyTiles<rows(), columns()>(g, i, j, sums + r * stride + s, stride);
      alignas(64) float block[4 * kTile * kTile];
      MultiplyTiles<rows(), columns()>(g, i, j, block, 2 * kTile);
      const MatrixView to = c.Rows(r, std::min(rows() * kTile, m - r));
      StoreRows(block, 2 * kTile, to.Cols(s, std::min(columns() * kTile, n - s)), add);
    });
  }
  if (sums != nullptr) StoreRows(sums, stride, c, add);
}

}  // namespace taipan
#pragma GCC diagnostic pop

#else

namespace taipan {

void AmxProduct(int64_t, TileOperand, TileOperand, MatrixView, bool) { CHECK(false); }

}  // namespace taipan
#endif
