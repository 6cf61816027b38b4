// Packing, the product without bf16 instructions, and the choice between the two.

#include "kernels/gemm/tile_bf16.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/gemm/tile_bf16.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

#include <algorithm>

#include "base/error.h"
#include "kernels/gemm/tile_bf16_amx.h"
#include "kernels/gemm/tile_bf16_avx512.h"
#include "kernels/gemm/tile_gemm-inl.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace taipan {
namespace HWY_NAMESPACE {

using IntTag = hn::ScalableTag<uint32_t>;

constexpr bool kBF16Target = HWY_TARGET <= HWY_AVX3 && HWY_ARCH_X86;  // lower targets never run wider instructions

bool UsesInstructions() { return kBF16Target && bf16_instructions.load(std::memory_order_relaxed); }
bool UsesTiles() { return UsesInstructions() && amx_instructions.load(std::memory_order_relaxed); }

// The two floats of each pair of n vectors' lanes: even[i], odd[i].
HWY_INLINE void UnpackPairs(int64_t n, const uint32_t* pairs, float* even, float* odd) {
  const IntTag du;
  const FloatTag d;
  const auto high = hn::Set(du, 0xffff0000u);
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(du));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto two = hn::LoadU(du, pairs + i);
    hn::StoreU(hn::BitCast(d, hn::ShiftLeft<16>(two)), d, even + i);
    hn::StoreU(hn::BitCast(d, hn::And(two, high)), d, odd + i);
  }
  for (; i < n; ++i) {
    even[i] = std::bit_cast<float>(pairs[i] << 16);
    odd[i] = std::bit_cast<float>(pairs[i] & 0xffff0000u);
  }
}

// Operands of at most kBlock x kBlock as floats on the stack, and the product in f32. Blocks of k stand on a fixed
// grid.
void FloatProduct(TileShape shape, TilePairs a, TileB<uint32_t> b, TileC c) {
  constexpr int64_t kBlock = 64;
  HWY_ALIGN float a_block[kBlock * kBlock], b_block[kBlock * kBlock];
  for (int64_t j = 0; j < shape.n; j += kBlock) {
    const int64_t columns = std::min(kBlock, shape.n - j);
    for (int64_t k = 0; k < shape.k; k += kBlock) {
      const int64_t depth = std::min(kBlock, shape.k - k);
      for (int64_t p = 0; p < depth; p += 2) {
        float* rows = b_block + p * kBlock;
        UnpackPairs(columns, b.From(k + p, j).data, rows, rows + kBlock);
      }
      for (int64_t i = 0; i < shape.m; i += kBlock) {
        const int64_t rows = std::min(kBlock, shape.m - i);
        for (int64_t r = 0; r < rows; ++r) {
          const BF16* from = a.Row(i + r).data + k / 2 * a.pair;
          for (int64_t p = 0; p < depth; p += 2, from += a.pair) {
            a_block[r * kBlock + p] = ToFloat(from[0]);
            a_block[r * kBlock + p + 1] = ToFloat(from[1]);
          }
        }
        TileC to = c.From(i, j);
        to.add |= k > 0;
        TileGemm({rows, columns, depth}, {a_block, kBlock, 1}, {b_block, kBlock}, to);
      }
    }
  }
}

void RunProduct(TileShape shape, TilePairs a, TileB<uint32_t> b, TileC c) {
  if (UsesTiles() && shape.k <= kMostAmxDepth) {
    TileGemmAmxBF16(shape, a, b, c);
  } else if (UsesInstructions()) {
    TileGemmAvx512BF16(shape, a, b, c);
  } else {
    FloatProduct(shape, a, b, c);
  }
}

// The pairs of lanes of two rows; a null second row is zeros.
HWY_INLINE hn::Vec<IntTag> LoadPairs(const float* first, const float* second) {
  const FloatTag d;
  return BF16Pairs(d, hn::LoadU(d, first), second ? hn::LoadU(d, second) : hn::Zero(d));
}
HWY_INLINE hn::Vec<IntTag> LoadPairs(const BF16* first, const BF16* second) {
  const IntTag du;
  const hn::Rebind<uint16_t, IntTag> d16;
  const auto load = [&](const BF16* p)
                        HWY_ATTR { return hn::PromoteTo(du, hn::LoadU(d16, reinterpret_cast<const uint16_t*>(p))); };
  return second ? hn::Or(load(first), hn::ShiftLeft<16>(load(second))) : load(first);
}
inline uint32_t Bits(float x) { return ToBF16(x).bits; }
inline uint32_t Bits(BF16 x) { return x.bits; }

template <class T>
void PackRows(int64_t k, int64_t n, const T* from, int64_t ld, uint32_t* to, int64_t ld_to) {
  const IntTag du;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(du));
  for (int64_t p = 0; p < k; p += 2, to += ld_to) {
    const T *first = from + p * ld, *second = p + 1 < k ? first + ld : nullptr;
    int64_t j = 0;
    for (; j + lanes <= n; j += lanes) hn::StoreU(LoadPairs(first + j, second ? second + j : nullptr), du, to + j);
    for (; j < n; ++j) to[j] = Bits(first[j]) | (second ? Bits(second[j]) << 16 : 0u);
  }
}

// Two adjacent elements as a pair.
inline uint32_t PairAt(const BF16* p) { return Bits(p[0]) | Bits(p[1]) << 16; }
inline uint32_t PairAt(const float* p) { return Bits(p[0]) | Bits(p[1]) << 16; }

#if HWY_TARGET != HWY_SCALAR
using Four = hn::Full128<uint32_t>;  // four pairs of one row of the source
HWY_INLINE hn::Vec<Four> LoadFour(const BF16* p) { return hn::LoadU(Four(), reinterpret_cast<const uint32_t*>(p)); }
HWY_INLINE hn::Vec<Four> LoadFour(const float* p) {
  const hn::CappedTag<float, 8> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  HWY_ALIGN BF16 eight[8];
  for (int64_t i = 0; i < 8; i += lanes) StoreFloats(hn::LoadU(d, p + i), d, eight + i);
  return LoadFour(eight);
}

// Transposes the 4 x 4 pairs of four rows of the source.
template <class T>
HWY_INLINE void TransposeFour(const T* rows, int64_t ld, uint32_t* to, int64_t ld_to) {
  const Four d;
  const hn::Full128<uint64_t> d64;
  const auto r0 = LoadFour(rows), r1 = LoadFour(rows + ld), r2 = LoadFour(rows + 2 * ld), r3 = LoadFour(rows + 3 * ld);
  const auto low01 = hn::BitCast(d64, hn::InterleaveLower(d, r0, r1));
  const auto low23 = hn::BitCast(d64, hn::InterleaveLower(d, r2, r3));
  const auto high01 = hn::BitCast(d64, hn::InterleaveUpper(d, r0, r1));
  const auto high23 = hn::BitCast(d64, hn::InterleaveUpper(d, r2, r3));
  hn::StoreU(hn::BitCast(d, hn::InterleaveLower(d64, low01, low23)), d, to);
  hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(d64, low01, low23)), d, to + ld_to);
  hn::StoreU(hn::BitCast(d, hn::InterleaveLower(d64, high01, high23)), d, to + 2 * ld_to);
  hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(d64, high01, high23)), d, to + 3 * ld_to);
}
#else
template <class T>
void TransposeFour(const T* rows, int64_t ld, uint32_t* to, int64_t ld_to) {
  for (int64_t i = 0; i < 4; ++i) {
    for (int64_t p = 0; p < 4; ++p) to[p * ld_to + i] = PairAt(rows + i * ld + 2 * p);
  }
}
#endif

// Four rows of the source become four columns of `to`; of all rows but whole blocks of 16, pairs from `done` on.
template <class T>
void PackColumns(int64_t k, int64_t n, const T* from, int64_t ld, uint32_t* to, int64_t ld_to) {
  constexpr int64_t kBlock = 16;
  const int64_t pairs = k / 2, whole = UsesInstructions() ? n / kBlock * kBlock : 0, done = pairs / kBlock * kBlock;
  if (whole > 0) TransposePairsAvx512BF16(done, whole, from, ld, to, ld_to);
  for (int64_t j = 0; j < n; j += 4) {
    int64_t p = j < whole ? done : 0;
    for (; j + 4 <= n && p + 4 <= pairs; p += 4) TransposeFour(from + j * ld + 2 * p, ld, to + p * ld_to + j, ld_to);
    for (int64_t i = j; i < std::min(j + 4, n); ++i) {
      for (int64_t q = p; q < pairs; ++q) to[q * ld_to + i] = PairAt(from + i * ld + 2 * q);
      if (k % 2 != 0) to[pairs * ld_to + i] = Bits(from[i * ld + k - 1]);
    }
  }
}

void PackRowsF32(int64_t k, int64_t n, const float* from, int64_t ld, uint32_t* to, int64_t ld_to) {
  PackRows(k, n, from, ld, to, ld_to);
}
void PackRowsBF16(int64_t k, int64_t n, const BF16* from, int64_t ld, uint32_t* to, int64_t ld_to) {
  PackRows(k, n, from, ld, to, ld_to);
}
void PackColumnsF32(int64_t k, int64_t n, const float* from, int64_t ld, uint32_t* to, int64_t ld_to) {
  PackColumns(k, n, from, ld, to, ld_to);
}
void PackColumnsBF16(int64_t k, int64_t n, const BF16* from, int64_t ld, uint32_t* to, int64_t ld_to) {
  PackColumns(k, n, from, ld, to, ld_to);
}

}  // namespace HWY_NAMESPACE
}  // namespace taipan
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace taipan {

HWY_EXPORT(RunProduct);
HWY_EXPORT(UsesInstructions);
HWY_EXPORT(UsesTiles);
HWY_EXPORT(PackRowsF32);
HWY_EXPORT(PackRowsBF16);
HWY_EXPORT(PackColumnsF32);
HWY_EXPORT(PackColumnsBF16);

void TileGemmBF16(TileShape shape, TilePairs a, TileB<uint32_t> b, TileC c) {
  CHECK_EQ(shape.k % 2, 0);
  HWY_DYNAMIC_DISPATCH(RunProduct)(shape, a, b, c);
}

ManyTileProducts::ManyTileProducts(DType operands) : held_(operands == DType::kBF16 && UsesAmxInstructions()) {
  if (held_) HoldAmxTiles();
}
ManyTileProducts::~ManyTileProducts() {
  if (held_) ReleaseAmxTiles();
}

void PackPairs(int64_t k, int64_t n, const BF16* from, int64_t ld, uint32_t* to, int64_t ld_to) {
  HWY_DYNAMIC_DISPATCH(PackRowsBF16)(k, n, from, ld, to, ld_to);
}
void PackPairs(int64_t k, int64_t n, const float* from, int64_t ld, uint32_t* to, int64_t ld_to) {
  HWY_DYNAMIC_DISPATCH(PackRowsF32)(k, n, from, ld, to, ld_to);
}
void PackPairsTransposed(int64_t k, int64_t n, const BF16* from, int64_t ld, uint32_t* to, int64_t ld_to) {
  HWY_DYNAMIC_DISPATCH(PackColumnsBF16)(k, n, from, ld, to, ld_to);
}
void PackPairsTransposed(int64_t k, int64_t n, const float* from, int64_t ld, uint32_t* to, int64_t ld_to) {
  HWY_DYNAMIC_DISPATCH(PackColumnsF32)(k, n, from, ld, to, ld_to);
}

bool UsesBF16Instructions() { return HWY_DYNAMIC_DISPATCH(UsesInstructions)(); }
void AllowBF16Instructions(bool allowed) { bf16_instructions.store(allowed && HasAvx512BF16()); }
bool UsesAmxInstructions() { return HWY_DYNAMIC_DISPATCH(UsesTiles)(); }
void AllowAmxInstructions(bool allowed) { amx_instructions.store(allowed && HasAmxBF16()); }

}  // namespace taipan
#endif  // HWY_ONCE
