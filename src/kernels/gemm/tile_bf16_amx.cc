#include "kernels/gemm/tile_bf16_amx.h"

#include <algorithm>

#include "base/error.h"

#if defined(__x86_64__) && defined(__linux__) && (defined(__GNUC__) || defined(__clang__))

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>

#include "kernels/gemm/amx_tiles.h"
#include "kernels/gemm/tile_bf16_avx512.h"

namespace taipan {
namespace {

using amx::kRowBytes;
using amx::kTile;
constexpr int64_t kMostBlocks = kMostAmxDepth / 2 / kTile;

// 16 rows of 64 bytes, `stride` bytes apart.
struct TileSource {
  const void* data;
  int64_t stride;
};
using Padded = uint32_t[kTile][kTile];  // pairs

// Rows [i, i + 16) and pairs [p, p + 16) of A, in place or in `pad`: with zeros beyond k; what stands beyond the last
// row comes to rows of sums that nobody reads.
TileSource OfA(TilePairs a, int64_t rows, int64_t pairs, int64_t i, int64_t p, Padded& pad) {
  const BF16* from = a.data + i * a.row + p * a.pair;
  const bool whole = i + kTile <= rows && p + kTile <= pairs;
  if (whole && a.pair == 2) return {from, a.row * static_cast<int64_t>(sizeof(BF16))};
  if (whole && a.row == 2) {
    TransposePairsAvx512BF16(kTile, kTile, from, a.pair, pad[0], kTile);
    return {pad, kRowBytes};
  }
  const int64_t depth = std::min(kTile, pairs - p);
  if (depth < kTile) std::memset(pad, 0, sizeof pad);
  for (int64_t r = 0; r < std::min(kTile, rows - i); ++r) {
    const BF16* row = from + r * a.row;
    if (a.pair == 2) {
      std::memcpy(pad[r], row, static_cast<size_t>(depth) * sizeof(uint32_t));
    } else {
      for (int64_t q = 0; q < depth; ++q) std::memcpy(&pad[r][q], row + q * a.pair, sizeof(uint32_t));
    }
  }
  return {pad, kRowBytes};
}

// Pairs [p, p + 16) and columns [j, j + 16) of B.
TileSource OfB(TileB<uint32_t> b, int64_t pairs, int64_t columns, int64_t p, int64_t j, Padded& pad) {
  const uint32_t* from = b.data + p * b.stride + j;
  if (p + kTile <= pairs && j + kTile <= columns) return {from, b.stride * static_cast<int64_t>(sizeof(uint32_t))};
  const int64_t count = std::min(kTile, columns - j), depth = std::min(kTile, pairs - p);
  if (depth < kTile) std::memset(pad, 0, sizeof pad);
  for (int64_t q = 0; q < depth; ++q) {
    std::memcpy(pad[q], from + q * b.stride, static_cast<size_t>(count) * sizeof(uint32_t));
  }
  return {pad, kRowBytes};
}

// Between a part of C at the edge and a whole tile.
void CopyPart(int64_t rows, int64_t columns, const float* from, int64_t from_stride, float* to, int64_t to_stride) {
  for (int64_t r = 0; r < rows; ++r, from += from_stride, to += to_stride) {
    std::memcpy(to, from, static_cast<size_t>(columns) * sizeof(float));
  }
}

struct TileTarget {
  float* data;
  int64_t stride;  // bytes
};
struct Panel {
  bool add = false;
  int64_t blocks = 0;                               // of k
  TileSource a[2][kMostBlocks], b[2][kMostBlocks];  // of the first and the second 16 rows and columns
  TileTarget to[2][2];
};

template <int kM, int kN>
void Multiply(const Panel& p) {
  if (p.add) {
    TAIPAN_TILE_LOAD(0, p.to[0][0].data, p.to[0][0].stride);
    if constexpr (kN == 2) TAIPAN_TILE_LOAD(1, p.to[0][1].data, p.to[0][1].stride);
    if constexpr (kM == 2) TAIPAN_TILE_LOAD(2, p.to[1][0].data, p.to[1][0].stride);
    if constexpr (kM == 2 && kN == 2) TAIPAN_TILE_LOAD(3, p.to[1][1].data, p.to[1][1].stride);
  } else {
    TAIPAN_TILE_ZERO(0);
    if constexpr (kN == 2) TAIPAN_TILE_ZERO(1);
    if constexpr (kM == 2) TAIPAN_TILE_ZERO(2);
    if constexpr (kM == 2 && kN == 2) TAIPAN_TILE_ZERO(3);
  }
  for (int64_t k = 0; k < p.blocks; ++k) {
    TAIPAN_TILE_LOAD(4, p.a[0][k].data, p.a[0][k].stride);
    TAIPAN_TILE_LOAD(6, p.b[0][k].data, p.b[0][k].stride);
    TAIPAN_TILE_PRODUCT(0, 4, 6);
    if constexpr (kN == 2) {
      TAIPAN_TILE_LOAD(7, p.b[1][k].data, p.b[1][k].stride);
      TAIPAN_TILE_PRODUCT(1, 4, 7);
    }
    if constexpr (kM == 2) {
      TAIPAN_TILE_LOAD(5, p.a[1][k].data, p.a[1][k].stride);
      TAIPAN_TILE_PRODUCT(2, 5, 6);
      if constexpr (kN == 2) TAIPAN_TILE_PRODUCT(3, 5, 7);
    }
  }
  TAIPAN_TILE_STORE(0, p.to[0][0].data, p.to[0][0].stride);
  if constexpr (kN == 2) TAIPAN_TILE_STORE(1, p.to[0][1].data, p.to[0][1].stride);
  if constexpr (kM == 2) TAIPAN_TILE_STORE(2, p.to[1][0].data, p.to[1][0].stride);
  if constexpr (kM == 2 && kN == 2) TAIPAN_TILE_STORE(3, p.to[1][1].data, p.to[1][1].stride);
}

// Whether the system lets this process use the tiles' registers.
bool RequestTiles() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

}  // namespace

bool HasAmxBF16() {
  static const bool has = [] {
    unsigned a = 0, b = 0, c = 0, d = 0;
    constexpr unsigned kBF16 = 1u << 22, kTiles = 1u << 24;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (d & (kBF16 | kTiles)) != (kBF16 | kTiles)) return false;
    return HasAvx512BF16() && RequestTiles();
  }();
  return has;
}

void TileGemmAmxBF16(TileShape shape, TilePairs a, TileB<uint32_t> b, TileC c) {
  CHECK_LE(shape.k, kMostAmxDepth);
  const auto [m, n, k] = shape;
  const int64_t pairs = k / 2;
  alignas(64) Padded pad_a[2][kMostBlocks], pad_b[2][kMostBlocks];
  alignas(64) float sums[2][2][kTile * kTile];
  Panel panel;
  panel.add = c.add;
  panel.blocks = (pairs + kTile - 1) / kTile;
  const amx::Tiles tiles;
  for (int64_t i = 0; i < m; i += 2 * kTile) {
    const int row_tiles = i + kTile < m ? 2 : 1;
    for (int r = 0; r < row_tiles; ++r) {
      for (int64_t t = 0; t < panel.blocks; ++t) {
        panel.a[r][t] = OfA(a, m, pairs, i + r * kTile, t * kTile, pad_a[r][t]);
      }
    }
    for (int64_t j = 0; j < n; j += 2 * kTile) {
      const int column_tiles = j + kTile < n ? 2 : 1;
      for (int r = 0; r < column_tiles; ++r) {
        for (int64_t t = 0; t < panel.blocks; ++t) {
          panel.b[r][t] = OfB(b, pairs, n, t * kTile, j + r * kTile, pad_b[r][t]);
        }
      }
      const int64_t rows = std::min(2 * kTile, m - i), columns = std::min(2 * kTile, n - j);
      const auto part = [&](int r, int s, auto&& use) {  // of C, where it is less than a tile
        const int64_t height = std::min(kTile, rows - r * kTile), width = std::min(kTile, columns - s * kTile);
        if (height < kTile || width < kTile) use(height, width, c.From(i + r * kTile, j + s * kTile).data);
      };
      for (int r = 0; r < row_tiles; ++r) {
        for (int s = 0; s < column_tiles; ++s) {
          panel.to[r][s] = {c.From(i + r * kTile, j + s * kTile).data, c.stride * static_cast<int64_t>(sizeof(float))};
          part(r, s, [&](int64_t height, int64_t width, const float* from) {
            panel.to[r][s] = {sums[r][s], kRowBytes};
            if (c.add) CopyPart(height, width, from, c.stride, sums[r][s], kTile);
          });
        }
      }
      if (row_tiles == 2) {
        column_tiles == 2 ? Multiply<2, 2>(panel) : Multiply<2, 1>(panel);
      } else {
        column_tiles == 2 ? Multiply<1, 2>(panel) : Multiply<1, 1>(panel);
      }
      for (int r = 0; r < row_tiles; ++r) {
        for (int s = 0; s < column_tiles; ++s) {
          part(r, s, [&](int64_t height, int64_t width, float* to) {
            CopyPart(height, width, sums[r][s], kTile, to, c.stride);
          });
        }
      }
    }
  }
}

void HoldAmxTiles() { amx::Tiles::Hold(); }
void ReleaseAmxTiles() { amx::Tiles::Release(); }

}  // namespace taipan

#else

namespace taipan {

bool HasAmxBF16() { return false; }
void TileGemmAmxBF16(TileShape, TilePairs, TileB<uint32_t>, TileC) { CHECK(false); }
void HoldAmxTiles() { CHECK(false); }
void ReleaseAmxTiles() { CHECK(false); }

}  // namespace taipan
#endif
