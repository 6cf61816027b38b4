#pragma once
// Small matrix products on bf16 operands that are in cache, sums in f32; for use inside kernels, one thread each. With
// AMX or AVX512-BF16 where the CPU has it and Highway's chosen target allows it, else the operands become floats first.

#include "kernels/gemm/tile_operands.h"
#include "tensor/tensor.h"

namespace taipan {

// A row-major matrix, rows `stride` elements apart.
inline TilePairs PairsOfRows(const BF16* data, int64_t stride) { return {data, stride, 2}; }
// The transpose of a packed matrix (below), rows of pairs `stride` apart: A(i, 2p) is its element (2p, i).
inline TilePairs PairsOfPackedTransposed(const uint32_t* packed, int64_t stride) {
  return {reinterpret_cast<const BF16*>(packed), 2, 2 * stride};
}

// C = A B, or += it; k even. Each element of C is one chain of sums over k: its bits depend on neither m, n nor its
// place in the tile.
void TileGemmBF16(TileShape shape, TilePairs a, TileB<uint32_t> b, TileC c);

// Sets AMX's registers up once for all products of operands of this type by this thread while it lives, where they use
// them. Nothing else that uses AMX, such as Gemm, may run meanwhile.
class ManyTileProducts {
 public:
  explicit ManyTileProducts(DType operands);
  ~ManyTileProducts();
  ManyTileProducts(const ManyTileProducts&) = delete;
  ManyTileProducts& operator=(const ManyTileProducts&) = delete;

 private:
  bool held_;
};

// Packs the row-major B[k, n], rows ld elements apart, into [ceil(k / 2)][n]; an odd k's last row is paired with zeros.
void PackPairs(int64_t k, int64_t n, const BF16* from, int64_t ld, uint32_t* to, int64_t ld_to);
void PackPairs(int64_t k, int64_t n, const float* from, int64_t ld, uint32_t* to, int64_t ld_to);
// The same of B = transpose of the row-major from[n, k].
void PackPairsTransposed(int64_t k, int64_t n, const BF16* from, int64_t ld, uint32_t* to, int64_t ld_to);
void PackPairsTransposed(int64_t k, int64_t n, const float* from, int64_t ld, uint32_t* to, int64_t ld_to);

// Whether TileGemmBF16 runs bf16 instructions now. Forbidding them (a forced lower instruction set) lasts until allowed
// again; Highway targets below AVX-512 forbid them as well.
bool UsesBF16Instructions();
void AllowBF16Instructions(bool allowed);
// AMX among them.
bool UsesAmxInstructions();
void AllowAmxInstructions(bool allowed);

}  // namespace taipan
