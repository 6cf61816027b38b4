#pragma once
// Operands of the small matrix products within kernels, C[m, n] = A[m, k] B[k, n] or += it (tile_gemm-inl.h,
// tile_bf16.h).

#include <cstdint>
#include <type_traits>

#include "tensor/bf16.h"

namespace taipan {

struct TileShape {
  int64_t m, n, k;
};

// A of floats: element (i, p) at data[i * row + p * col]. Transposed operands cost nothing, they are only broadcast.
struct TileA {
  const float* data;
  int64_t row, col;

  TileA Row(int64_t i) const { return {data + i * row, row, col}; }
};

// A of bf16, k even: elements (i, 2p) and (i, 2p + 1) are adjacent, at data + i * row + p * pair.
struct TilePairs {
  const BF16* data = nullptr;
  int64_t row = 0, pair = 2;  // in elements of BF16

  TilePairs Row(int64_t i) const { return {data + i * row, row, pair}; }
};

// B in rows `stride` elements apart: of floats, or of pairs of bf16, when element (p, j) holds B[2p][j] in its low half
// and B[2p + 1][j] in its high half.
template <class Element>
struct TileB {
  const Element* data;
  int64_t stride;

  // From B[row][column] on; row is even where rows are paired.
  TileB From(int64_t row, int64_t column) const {
    return {data + row / (std::is_same_v<Element, float> ? 1 : 2) * stride + column, stride};
  }
};

// C in rows `stride` elements apart; it overlaps neither A nor B. add: the product is added to what is there.
struct TileC {
  float* data;
  int64_t stride;
  bool add = false;

  TileC From(int64_t row, int64_t column) const { return {data + row * stride + column, stride, add}; }
};

}  // namespace taipan
