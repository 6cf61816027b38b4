#pragma once
// Forward of attention for segments of a few queries in bf16, as decoding has them: what counts is how fast keys and
// values come from memory. They are read where they lie, one whole row after the other: hardware that reads ahead
// follows that order alone (Zen 4, keys of 12 heads: 25 GB/s a core; head by head of eight tokens at a time 11).

#include "kernels/attention/attention.h"

namespace taipan::attention {

constexpr int64_t kFewQueries = 8;

// Whether the queries of a segment are that few. Their sums differ in rounding from those of tiles; which a row gets
// depends on its own segment alone.
inline bool IsOfFewQueries(const AttentionInputs& in, const AttentionSegment& s, const float* lse) {
  return in.q.dtype == DType::kBF16 && s.count <= kFewQueries && lse == nullptr;
}

// Writes the rows of `out` of all such segments.
void AttendFewQueries(const AttentionShape& shape, const AttentionInputs& in, MatrixView out, Arena& scratch);

}  // namespace taipan::attention
