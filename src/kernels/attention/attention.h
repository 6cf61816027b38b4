#pragma once
// Softmax attention of chosen queries over runs of keys: full causal (window 0), sliding window, and Taipan's selected
// queries are the same call with other queries and windows. Online softmax; nothing of size [T, window] is stored.
// q, out, dout and dq are all F32 or all BF16; BF16 takes bf16 products with sums, scores and statistics in f32.

#include <span>

#include "tensor/tensor.h"

namespace taipan {

struct AttentionShape {
  int64_t heads = 0, kv_heads = 0, head_dim = 0;
  int64_t window = 0;  // position i sees j with i - j < window, j <= i; 0: every j <= i
  float scale = 0;     // of scores, positive; 0: 1 / sqrt(head_dim)
};

// `count` keys and values, F32, BF16 or I8, at consecutive positions from `position`; rows are `stride` elements apart,
// [kv_heads * head_dim] wide. Of I8 a value is the integer times the scale of its token and head.
struct KeySpan {
  const void* k = nullptr;
  const void* v = nullptr;
  DType dtype = DType::kF32;
  int64_t stride = 0, position = 0, count = 0;
  const float *k_scales = nullptr, *v_scales = nullptr;  // [count, kv_heads], of I8
};
struct KeyGradientSpan {  // beside a KeySpan, rows as far apart; null: not wanted. Added to.
  float* dk = nullptr;
  float* dv = nullptr;
};

// Query rows [begin, begin + count) of one sequence, with ascending positions, and its keys in ascending position
// order.
struct AttentionSegment {
  int64_t begin = 0, count = 0;
  std::span<const KeySpan> keys;
  std::span<const KeyGradientSpan> key_gradients;  // backward: as many as keys
};

struct AttentionInputs {
  ConstMatrixView q;                   // [n, heads * head_dim]
  const int64_t* positions = nullptr;  // [n]
  std::span<const AttentionSegment> segments;
};

struct AttentionGradients {  // beside those of the keys
  ConstMatrixView dout;      // [n, heads * head_dim]
  MatrixView dq;             // like q; the segments' rows are written
};

// out [n, heads * head_dim] is written; lse [n, heads]: log of the softmax's denominator, for backward (null: not
// kept).
void AttentionForward(const AttentionShape& shape, const AttentionInputs& in, MatrixView out, float* lse,
                      Arena& scratch);
void AttentionBackward(const AttentionShape& shape, const AttentionInputs& in, ConstMatrixView out, const float* lse,
                       const AttentionGradients& gradients, Arena& scratch);

}  // namespace taipan
