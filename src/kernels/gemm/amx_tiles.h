#pragma once
// The instructions of AMX and the one configuration of its registers that is used here: eight tiles of 16 rows of 64
// bytes. The compiler's own intrinsics do not say that they read and write memory (GCC 12).

#include <cstdint>

#define TAIPAN_TILE_LOAD(tile, from, stride) \
  __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #tile ::"r"(from), "r"(static_cast<int64_t>(stride)) : "memory")
#define TAIPAN_TILE_STORE(tile, to, stride) \
  __asm__ volatile("tilestored %%tmm" #tile ", (%0,%1,1)" ::"r"(to), "r"(static_cast<int64_t>(stride)) : "memory")
#define TAIPAN_TILE_ZERO(tile) __asm__ volatile("tilezero %%tmm" #tile::)
// c += a b of pairs of bf16
#define TAIPAN_TILE_PRODUCT(c, a, b) __asm__ volatile("tdpbf16ps %%tmm" #b ", %%tmm" #a ", %%tmm" #c::)

namespace taipan::amx {

constexpr int64_t kTile = 16;      // rows and columns of a tile of sums, and pairs of k in a tile of operands
constexpr int64_t kRowBytes = 64;  // of every tile

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
inline constexpr TileConfig kConfig;

// The registers are this thread's while one of these lives; to set them up takes as long as a small product.
class Tiles {
 public:
  Tiles() { Hold(); }
  ~Tiles() { Release(); }
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;

  static void Hold() {
    if (holders_++ == 0) __asm__ volatile("ldtilecfg %0" ::"m"(kConfig));
  }
  static void Release() {
    if (--holders_ == 0) __asm__ volatile("tilerelease" ::);
  }

 private:
  static inline thread_local int holders_ = 0;
};

}  // namespace taipan::amx
