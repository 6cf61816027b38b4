#pragma once
// One thread's matrix product on one tile, through oneDNN, or of bf16 on AMX by our own: what gemm.cc cuts its work
// into.

#include "tensor/tensor.h"

namespace taipan {

// Element (row, column) of an operand at data[row * stride + column], or of its transpose.
struct TileOperand {
  const void* data;
  int64_t stride;
  bool transposed;
};
// The operand from column (row) `from` on.
TileOperand TileColumns(TileOperand b, DType dtype, int64_t from);
TileOperand TileRows(TileOperand b, DType dtype, int64_t from);

// Row-major C[m, n] = op(A) op(B), + C with add; A and B of `dtype` (f32, bf16; u8: A u8 and B i8), C as its view says
// (f32; bf16 where A and B are and nothing is added; i32 for u8).
void TileProduct(int64_t k, DType dtype, TileOperand a, TileOperand b, MatrixView c, bool add);

// What oneDNN uses. Limit: before the first product; false where the CPU does not have it or it is too late.
enum class ProductIsa { kOther, kSse, kAvx2, kAvx512, kAvx512BF16, kAmx };
bool LimitProductIsa(ProductIsa isa);
ProductIsa ActiveProductIsa();

// Whether the CPU multiplies u8 by i8 and sums in i32 in one instruction. Elsewhere sums of two saturate at 16 bits.
bool HasInt8Products();

// Which row counts of one call give a row the same bits as any other count (oneDNN 2.6.3, found by trying all of them;
// gemm_test.cc repeats the trial). f32 with AVX-512: 16 and more; with AVX2: multiples of 6 up to 96. On AMX any. In
// f32 that holds for products over few columns of K: one chain of fused multiply-adds. Of more columns kernels of
// different shapes make blocks of different lengths.
struct RowRule {
  int64_t tile;           // rows of a full tile
  int64_t least;          // fewer are padded with zero rows
  int64_t multiple;       // other counts are padded up to one
  int64_t columns = 512;  // of a tile, about
  int64_t chain = 0;      // f32: columns of K in a chain
};
RowRule RowRuleOf(DType dtype);

// Columns of the next chain where `left` are left of K: as even as possible at the end.
inline int64_t ChainColumns(int64_t left, int64_t chain) {
  return left >= 2 * chain ? chain : left > chain ? (left + 1) / 2 : left;
}

}  // namespace taipan
